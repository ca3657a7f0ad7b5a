//! What would change the inputs of a command although none of its files changes: names that appear
//! where includes look for them.

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
    pub files: HashSet<PathBuf>,
    /// Folders in which includes are looked for.
    pub folders: BTreeSet<PathBuf>,
    /// File names, and names of folders in `#include <folder/name>`.
    pub names: BTreeSet<OsString>,
}

impl Lookout {
    /// The folders as they are now; `None` when one cannot be read, or when something that matters
    /// may have appeared in one while the inputs were found.
    pub(super) fn look(&self, folders: &Folders) -> Option<Vec<(PathBuf, Moment)>> {
        let look = |folder: &PathBuf| {
            let moment = folders.look(folder, &self.names).ok()?;
            (!self.is_in_doubt(folders, folder, &moment)).then(|| (folder.clone(), moment))
        };
        self.folders.iter().map(look).collect()
    }

    /// Whether something that matters may have appeared in `folder` while the inputs were found:
    /// the folder is young and holds a name that matters but was not found.
    fn is_in_doubt(&self, folders: &Folders, folder: &Path, moment: &Moment) -> bool {
        moment.may_be_younger_than(self.began_ns)
            && folders.present(folder, moment, &self.names).into_iter().any(|name| {
                let path = folder.join(name);
                !self.files.contains(&path) && !path.is_dir()
            })
    }

    /// Watches for `name` (as an include spells it) below every one of `bases`.
    pub fn watch(&mut self, bases: &BTreeSet<PathBuf>, name: &str) {
        let parts: Vec<&str> =
            name.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
        self.names.extend(parts.iter().map(OsString::from));
        let Some((_, folders)) = parts.split_last() else { return };
        if folders.is_empty() {
            return;
        }
        for base in bases {
            let mut folder = base.clone();
            for part in folders {
                folder.push(part);
                // A folder that is not there yet is noticed where its name would appear.
                if self.folders.contains(&folder) {
                    continue;
                }
                if !folder.is_dir() {
                    break;
                }
                self.folders.insert(folder.clone());
            }
        }
    }
}
