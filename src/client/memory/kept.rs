//! Lists as they are kept on disk: one file for each command, so that a daemon reads what is asked
//! for and no more.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::super::folders::{Folders, Moment};
use super::super::inputs::{About, Inputs};
use super::list::List;
use crate::compiler::FACTS_VERSION;
use crate::job::{Digest, Tree};
use crate::store::sealed;
use crate::store::walk::Seen;

/// The version of the files' form.
const KIND: &str = "inputs 2";
/// Largest file of one command, in bytes, uncompressed.
const FILE_BYTES_MAX: usize = 16 << 20;
/// Most bytes of all files together; then the oldest ones make room.
const FOLDER_BYTES_MAX: u64 = 256 << 20;
/// What is left then, in parts of four.
const FOLDER_PARTS_LEFT: u64 = 3;
/// A file is as old as its last use, as exactly as this.
const USE_NOTED_EVERY: Duration = Duration::from_secs(3_600);

/// A list without what can be told from the rest.
#[derive(Serialize, Deserialize)]
struct Kept<'l> {
    tree: ByteBuf,
    about: About,
    seen: Cow<'l, [Seen]>,
    folders: Vec<(Cow<'l, Path>, KeptMoment<'l>)>,
    names: Vec<Cow<'l, str>>,
}

/// A folder's [`Moment`], with the names that stood there among those that matter.
#[derive(Serialize, Deserialize)]
struct KeptMoment<'l> {
    moment: Cow<'l, Moment>,
    present: Vec<Cow<'l, str>>,
}

/// The bytes to keep; `None` when a path is no text.
pub(super) fn encode(lists: &[List], folders: &Folders) -> Option<Vec<u8>> {
    let kept: Option<Vec<Kept<'_>>> = lists.iter().map(|list| kept(list, folders)).collect();
    let bytes = rmp_serde::to_vec(&kept?).ok()?;
    (bytes.len() <= FILE_BYTES_MAX).then_some(bytes)
}

fn kept<'l>(list: &'l List, folders: &Folders) -> Option<Kept<'l>> {
    let text = |name: &'l OsString| name.to_str().map(Cow::Borrowed);
    let moment = |(folder, moment): &'l (PathBuf, Moment)| {
        let present = folders.present(folder, moment, &list.names);
        let present = present.into_iter().map(text).collect::<Option<_>>()?;
        Some((
            Cow::Borrowed(folder.as_path()),
            KeptMoment { moment: Cow::Borrowed(moment), present },
        ))
    };
    Some(Kept {
        tree: ByteBuf::from(list.inputs.tree.bytes()?),
        about: list.inputs.about(),
        seen: Cow::Borrowed(&list.seen),
        folders: list.folders.iter().map(moment).collect::<Option<_>>()?,
        names: list.names.iter().map(text).collect::<Option<_>>()?,
    })
}

/// The lists in bytes that [`encode`] made; none of any other.
fn decode(command: Digest, bytes: &[u8]) -> Vec<List> {
    let kept: Vec<Kept<'_>> = rmp_serde::from_slice(bytes).unwrap_or_default();
    kept.into_iter().filter_map(|kept| list(command, kept)).collect()
}

fn list(command: Digest, kept: Kept<'_>) -> Option<List> {
    let Kept { tree, about, seen, folders, names } = kept;
    let tree = Tree::decode(&tree).ok()?;
    if about.command != command {
        return None;
    }
    let seen = seen.into_owned();
    let inputs = Inputs::of_tree(about, &Arc::new(tree), seen.clone());
    let owned = |name: Cow<'_, str>| OsString::from(name.into_owned());
    let moment = |(folder, KeptMoment { moment, present }): (Cow<'_, Path>, KeptMoment<'_>)| {
        let moment = moment.into_owned().of(present.into_iter().map(owned).collect());
        (folder.into_owned(), moment)
    };
    Some(List {
        inputs: Arc::new(inputs),
        seen,
        folders: folders.into_iter().map(moment).collect(),
        names: Arc::new(names.into_iter().map(owned).collect()),
    })
}

/// The folder with the files.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    /// What the files are, with the versions of their form and of what they rest on.
    kind: String,
    /// Bytes of all files; unknown until they are counted.
    bytes: Mutex<Option<u64>>,
}

impl Shelf {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, kind: format!("{KIND} {FACTS_VERSION}"), bytes: Mutex::new(None) }
    }

    /// What is kept of the command `key`.
    pub(super) fn read(&self, key: &Digest) -> Vec<List> {
        let path = self.path(key);
        let Some(bytes) = sealed::read(&path, &self.kind, FILE_BYTES_MAX) else {
            return Vec::new();
        };
        note_use(&path);
        decode(*key, &bytes)
    }

    /// Keeps `bytes` of the command `key`, and makes room for them.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(super) fn write(&self, key: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(key);
        let mut total = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if total.is_none() {
            fs::create_dir_all(&self.folder)?;
        }
        let written = sealed::write(&path, &self.kind, bytes)?;
        let sum = total.map_or(u64::MAX, |total| total.saturating_add(written));
        *total = Some(if sum > FOLDER_BYTES_MAX { self.make_room(FOLDER_BYTES_MAX)? } else { sum });
        Ok(())
    }

    /// Counts all files; if they are too many removes those that were not used for longest. Gives
    /// how many bytes are left.
    fn make_room(&self, bytes_max: u64) -> io::Result<u64> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            // Another daemon may have removed it meanwhile.
            let Ok(found) = entry.metadata() else { continue };
            let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((used, found.len(), entry.path()));
        }
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        if total > bytes_max {
            files.sort_unstable();
            for (_, size, path) in files {
                if total <= bytes_max / 4 * FOLDER_PARTS_LEFT {
                    break;
                }
                if fs::remove_file(path).is_ok() {
                    total -= size;
                }
            }
        }
        Ok(total)
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.folder.join(key.to_string())
    }
}

/// Notes that the file is used: it goes later than others.
fn note_use(path: &Path) {
    let Ok(file) = fs::File::open(path) else { return };
    let now = SystemTime::now();
    let age =
        file.metadata().and_then(|found| found.modified()).map(|then| now.duration_since(then));
    if matches!(age, Ok(Ok(age)) if age > USE_NOTED_EVERY) {
        // Without it the file goes earlier: no harm.
        let _ = file.set_modified(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_used_last_stay() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path().into());
        let keys: Vec<Digest> = (0..8_u8).map(|number| Digest::of(&[number])).collect();
        for (number, key) in keys.iter().enumerate() {
            shelf.write(key, &[0; 100]).unwrap();
            let age = Duration::from_secs(1_000_000 - 1_000 * number as u64);
            let file = fs::File::options().write(true).open(shelf.path(key)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        let total = shelf.make_room(u64::MAX).unwrap();
        assert!(shelf.read(&keys[0]).is_empty(), "no list, but the file was used");
        let left = shelf.make_room(total - 1).unwrap();
        assert_eq!(left, total / 8 * 5, "a quarter less than what is allowed, and a bit");
        let there = |key: &Digest| shelf.path(key).exists();
        assert!(there(&keys[0]) && !there(&keys[1]) && !there(&keys[3]) && there(&keys[4]));
    }
}
