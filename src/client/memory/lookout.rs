//! What would change the inputs of a command although none of its files changes: names that appear
//! where includes look for them.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::folders::{Folders, Moment};

/// Names whose appearance in one of the folders could change what an include finds.
#[derive(Clone, Debug)]
pub struct Lookout {
    /// When the search for the inputs began, Unix time in ns.
    pub began_ns: i64,
    /// The files that were found, as spelled.
    pub files: Vec<String>,
    /// Folders in which includes are looked for.
    pub folders: BTreeSet<PathBuf>,
    /// Places of such folders where none was.
    pub absent: Vec<String>,
    /// File names, and names of folders in `#include <folder/name>`.
    pub names: BTreeSet<OsString>,
}

impl Lookout {
    /// The folders as they are now; `None` when one cannot be read, or when something that matters
    /// may have appeared in one while the inputs were found.
    pub(super) fn look(&self, folders: &Folders) -> Option<Vec<(PathBuf, Moment)>> {
        // Asked for young folders alone.
        let files = LazyCell::new(|| self.files.iter().map(Path::new).collect());
        let look = |folder: &PathBuf| {
            let moment = folders.look(folder, &self.names).ok()?;
            let is_in_doubt = moment.may_be_younger_than(self.began_ns)
                && self.is_in_doubt((folders, &files), folder, &moment);
            (!is_in_doubt).then(|| (folder.clone(), moment))
        };
        self.folders.iter().map(look).collect()
    }

    /// Whether something that matters may have appeared in `folder`, which is young, while the inputs
    /// were found: it holds a name that matters but was not found.
    fn is_in_doubt(
        &self,
        (folders, files): (&Folders, &HashSet<&Path>),
        folder: &Path,
        moment: &Moment,
    ) -> bool {
        folders.present(folder, moment, &self.names).into_iter().any(|name| {
            let path = folder.join(name);
            let was_absent = || self.absent.iter().any(|absent| Path::new(absent) == path);
            // A folder that was there is watched itself.
            !files.contains(path.as_path()) && (!path.is_dir() || was_absent())
        })
    }
}
