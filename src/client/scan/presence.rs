//! Which names stand in folders, without asking the file system for each: a folder whose stamp has
//! aged is listed once, however many compiles look into it and however many names they look for.

use std::collections::HashMap;
use std::fs::{FileType, Metadata};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::client::inputs::PRECOMPILED;
use crate::store::stamps::{Stamp, now_ns};

/// Most folders that are remembered; then the table starts anew.
const FOLDERS_MAX: usize = 50_000;
/// Most names in all folders together; then the table starts anew.
const NAMES_MAX: usize = 2_000_000;
/// Largest folder that is listed, in names; in a larger one each name is asked for.
const FOLDER_NAMES_MAX: usize = 20_000;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing that an include finds.
    Nothing,
    /// A file.
    File,
    /// Something that cannot be read, is special, or is precompiled: who knows what compilers do.
    Doubt,
}

/// Physical identity of a folder: device and inode.
pub(super) type Place = (u64, u64);

/// Folders as they are listed, for all compiles.
#[derive(Debug, Default)]
pub(super) struct Presence(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    folders: HashMap<String, Arc<Listed>>,
    names: usize,
}

/// A folder's names under the stamp that proves them.
#[derive(Debug)]
struct Listed {
    stamp: Stamp,
    names: HashMap<Box<str>, Kind>,
    precompiled: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    File,
    Folder,
    /// A link, or something special: to be asked.
    Other,
}

/// One compile's view: each folder is asked for once.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    presence: &'a Presence,
    folders: HashMap<String, View>,
}

/// What one compile saw of folders.
#[derive(Debug, Default)]
pub struct Standing(HashMap<String, View>);

#[derive(Clone, Debug)]
enum View {
    Absent,
    Listed(Arc<Listed>),
    /// It changes, or its names cannot be believed: each one is asked for.
    Asked(Place),
}

impl<'a> Probe<'a> {
    pub(super) fn new(presence: &'a Presence) -> Self {
        Self { presence, folders: HashMap::new() }
    }

    /// What `name` (which may hold `/`) leads to from `folder`.
    pub(super) fn find(&mut self, folder: &str, name: &str) -> Found {
        match name.rsplit_once('/') {
            None => self.find_in(folder, name),
            Some((between, name)) => self.find_in(&format!("{folder}/{between}"), name),
        }
    }

    /// Which folder stands at a path.
    pub(super) fn place(&mut self, folder: &str) -> Option<Place> {
        match self.view(folder) {
            View::Absent => None,
            View::Listed(listed) => Some((listed.stamp.dev, listed.stamp.ino)),
            View::Asked(place) => Some(place),
        }
    }

    /// All that was seen.
    pub(super) fn into_standing(self) -> Standing {
        Standing(self.folders)
    }

    fn find_in(&mut self, folder: &str, name: &str) -> Found {
        match self.view(folder) {
            View::Absent => Found::Nothing,
            View::Listed(listed) if is_plain(name) => listed.find(folder, name),
            View::Listed(_) | View::Asked(_) => ask_for_both(folder, name),
        }
    }

    fn view(&mut self, folder: &str) -> View {
        if let Some(view) = self.folders.get(folder) {
            return view.clone();
        }
        let view = self.presence.view(folder);
        self.folders.insert(folder.to_owned(), view.clone());
        view
    }
}

impl Standing {
    /// Whether a folder stood at `path`, links followed; what was not seen is looked at now.
    pub fn is_folder(&self, path: &str) -> bool {
        let ask = || Path::new(path).is_dir();
        match self.0.get(path) {
            Some(View::Absent) => return false,
            Some(View::Listed(_) | View::Asked(_)) => return true,
            None => {}
        }
        let Some((folder, name)) = path.rsplit_once('/') else { return ask() };
        match self.0.get(folder) {
            Some(View::Absent) => false,
            Some(View::Listed(listed)) if is_plain(name) => match listed.names.get(name) {
                Some(Kind::Folder) => true,
                Some(Kind::File) | None => false,
                Some(Kind::Other) => ask(),
            },
            Some(View::Listed(_) | View::Asked(_)) | None => ask(),
        }
    }
}

/// Whether the list of a folder says all of `name`: some file systems write others in other ways than
/// they were asked for.
fn is_plain(name: &str) -> bool {
    name.is_ascii() && !matches!(name, "" | "." | "..")
}

impl Listed {
    fn find(&self, folder: &str, name: &str) -> Found {
        let has = |suffix| self.names.contains_key(format!("{name}.{suffix}").as_str());
        if self.precompiled && PRECOMPILED.into_iter().any(has) {
            return Found::Doubt;
        }
        match self.names.get(name) {
            None | Some(Kind::Folder) => Found::Nothing,
            Some(Kind::File) => Found::File,
            Some(Kind::Other) => ask(&format!("{folder}/{name}")),
        }
    }
}

impl Presence {
    fn view(&self, folder: &str) -> View {
        let Ok(found) = std::fs::metadata(folder_path(folder)) else { return View::Absent };
        if !found.is_dir() {
            return View::Absent;
        }
        let stamp = Stamp::of(&found);
        if let Some(known) = self.lock().folders.get(folder)
            && known.stamp == stamp
        {
            return View::Listed(known.clone());
        }
        let asked = View::Asked((stamp.dev, stamp.ino));
        if !stamp.is_settled(now_ns()) {
            return asked;
        }
        match list(folder, &found) {
            Some(listed) => View::Listed(self.keep(folder, listed)),
            None => asked,
        }
    }

    fn keep(&self, folder: &str, listed: Listed) -> Arc<Listed> {
        let listed = Arc::new(listed);
        let mut table = self.lock();
        if table.folders.len() >= FOLDERS_MAX || table.names >= NAMES_MAX {
            *table = Table::default();
        }
        table.names += listed.names.len();
        if let Some(old) = table.folders.insert(folder.to_owned(), listed.clone()) {
            table.names -= old.names.len();
        }
        listed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names in a folder, if they can be believed and are not too many.
fn list(folder: &str, before: &Metadata) -> Option<Listed> {
    let path = folder_path(folder);
    let mut names = HashMap::new();
    let mut precompiled = false;
    for entry in std::fs::read_dir(path).ok()? {
        let entry = entry.ok()?;
        // An include asks for text.
        let Ok(name) = entry.file_name().into_string() else { continue };
        precompiled |= name.rsplit_once('.').is_some_and(|(_, end)| PRECOMPILED.contains(&end));
        names.insert(name.into_boxed_str(), entry.file_type().map_or(Kind::Other, Kind::of));
        if names.len() > FOLDER_NAMES_MAX {
            return None;
        }
    }
    let stamp = Stamp::of(before);
    let unchanged = Stamp::of(&std::fs::metadata(path).ok()?) == stamp;
    (unchanged && !folds_case(folder, &names)).then_some(Listed { stamp, names, precompiled })
}

impl Kind {
    fn of(found: FileType) -> Self {
        if found.is_file() {
            Self::File
        } else if found.is_dir() {
            Self::Folder
        } else {
            Self::Other
        }
    }
}

/// Whether the folder takes `A` and `a` for the same name: one of its names in the other case tells.
fn folds_case(folder: &str, names: &HashMap<Box<str>, Kind>) -> bool {
    let other_case = |name: &str| -> String {
        let flip = |c: char| {
            if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
        };
        name.chars().map(flip).collect()
    };
    let other =
        names.keys().map(|name| other_case(name)).find(|other| !names.contains_key(other.as_str()));
    other.is_some_and(|other| std::fs::symlink_metadata(format!("{folder}/{other}")).is_ok())
}

fn ask_for_both(folder: &str, name: &str) -> Found {
    let path = format!("{folder}/{name}");
    let there = |suffix| Path::new(&format!("{path}.{suffix}")).symlink_metadata().is_ok();
    if PRECOMPILED.into_iter().any(there) {
        return Found::Doubt;
    }
    ask(&path)
}

fn ask(path: &str) -> Found {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Found::File,
        Ok(found) if found.is_dir() => Found::Nothing,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Found::Nothing
        }
        Ok(_) | Err(_) => Found::Doubt,
    }
}

/// The root is written as nothing in front of `/`.
fn folder_path(folder: &str) -> &str {
    if folder.is_empty() { "/" } else { folder }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn settle(folder: &Path) {
        while !Stamp::of(&std::fs::metadata(folder).unwrap()).is_settled(now_ns()) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn listed_and_asked_folders_tell_the_same() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().to_str().unwrap();
        std::fs::create_dir(root.path().join("sub")).unwrap();
        for name in ["a.h", "sub/b.h", "c.h.gch", "\u{e9}.h"] {
            std::fs::write(root.path().join(name), "").unwrap();
        }
        symlink("a.h", root.path().join("link.h")).unwrap();
        symlink("nowhere", root.path().join("dangling.h")).unwrap();
        symlink("sub", root.path().join("to-sub")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.path().join("pipe"), 0o600.into()).unwrap();
        let presence = Presence::default();
        let look = || {
            let mut probe = Probe::new(&presence);
            let names = ["a.h", "sub/b.h", "sub", "c.h", "link.h", "dangling.h", "pipe", "A.h"]
                .map(|name| probe.find(folder, name));
            let others = ["\u{e9}.h", "none.h", "none/a.h", "a.h/x", "sub/../a.h"]
                .map(|name| probe.find(folder, name));
            let standing = probe.into_standing();
            let folders = ["", "/sub", "/to-sub", "/sub/..", "/a.h", "/none", "/none/a", "/link.h"]
                .map(|name| standing.is_folder(&format!("{folder}{name}")));
            (names, others, folders)
        };
        let asked = look();
        settle(root.path());
        assert_eq!(look(), asked);
        assert!(!presence.lock().folders.is_empty());
        use Found::{Doubt, File, Nothing};
        let names = [File, File, Nothing, Doubt, File, Nothing, Doubt, Nothing];
        let folders = [true, true, true, true, false, false, false, false];
        assert_eq!(asked, (names, [File, Nothing, Nothing, Nothing, File], folders));
        std::fs::write(root.path().join("none.h"), "").unwrap();
        assert_eq!(look().1[1], File);
    }
}
