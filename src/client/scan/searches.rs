//! In which folders a compiler searches, as it said itself in a dependency pass: remembered for all
//! commands with the same flags, for as long as these folders stand where they stood.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::kept;
use super::presence::Place;
use crate::client::inputs::{Listing, Reader, absolute};
use crate::compiler::search::Search;
use crate::job::{Digest, Family};
use crate::store::stamps::Stamp;

/// Most sets of flags that are remembered; then the table starts anew.
const SEARCHES_MAX: usize = 4_096;
/// Variables that name folders to search.
const VARIABLES: [&str; 3] = ["CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"];

/// What a set of flags means.
///
/// It follows from the compiler and its flags, which are in the [`key`], from which of the folders
/// are there, and from which of them are the same. So `places` may be older than the last start of
/// the machine: a number that went to another folder meanwhile changes nothing of that, and devices
/// that have other numbers make the compiler be asked. Where clang chooses by names, `parents` have
/// settled stamps, and a change after them has a later time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Learned {
    pub(super) search: Search,
    /// Whether the compiler takes the time from `SOURCE_DATE_EPOCH`.
    pub(super) takes_epoch: bool,
    /// Whether the scan found all that the compiler listed when this was learned.
    pub(super) complete: bool,
    /// What stood at each path that is searched or might be.
    places: BTreeMap<String, Option<Place>>,
    parents: BTreeMap<String, Option<Stamp>>,
}

/// All sets of flags that were seen.
#[derive(Debug)]
pub(super) struct Searches {
    /// Where they are kept.
    file: PathBuf,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<Digest, Arc<Learned>>,
    is_read: bool,
    /// Something was learned that is not in the file.
    unwritten: bool,
}

impl Learned {
    /// What the compiler said when it was asked with `reader`'s flags; `None` when it is not so any
    /// more.
    pub(super) fn new(reader: &Reader, said: &Listing) -> Option<Self> {
        let search = &said.search;
        let stands = |folder: &str| {
            let folder = absolute(&reader.directory, folder);
            let place = place(&folder);
            (folder, place)
        };
        let listed: Vec<_> =
            search.quote.iter().chain(&search.angle).map(|folder| stands(folder)).collect();
        let ignored: Vec<_> = search.ignored.iter().map(|folder| stands(folder)).collect();
        // What was ignored is nowhere, or in the list already.
        let is_known = |(_, place): &(String, Option<Place>)| {
            place.is_none() || listed.iter().any(|(_, listed)| listed == place)
        };
        if listed.iter().any(|(_, place)| place.is_none()) || !ignored.iter().all(is_known) {
            return None;
        }
        // Of a file in a folder's place gcc says nothing.
        let named: Vec<&str> = named(reader).collect();
        let silent = named.iter().map(|folder| stands(folder));
        let places = silent.chain(ignored).chain(listed).collect();
        // clang's driver chooses among the folders that are there before it names any.
        let chosen =
            |folder: &&String| reader.family == Family::Clang && !named.contains(&folder.as_str());
        let chosen = search.angle.iter().filter(chosen);
        let parents: BTreeMap<_, _> = chosen
            .flat_map(|folder| parents(&absolute(&reader.directory, folder)))
            .map(|parent| (parent.clone(), stamp(&parent)))
            .collect();
        // One that changed meanwhile, or may yet change under the same stamp, proves nothing.
        if !parents.values().flatten().all(|stamp| stamp.is_settled(said.began_ns)) {
            return None;
        }
        let (search, takes_epoch) = (search.clone(), said.takes_epoch);
        Some(Self { search, takes_epoch, complete: true, places, parents })
    }

    fn holds(&self) -> bool {
        self.places.iter().all(|(folder, then)| place(folder) == *then)
            && self.parents.iter().all(|(folder, then)| stamp(folder) == *then)
    }
}

impl Searches {
    /// What is kept in `file`, which is read when it is needed.
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, table: Mutex::default() }
    }

    pub(super) fn recall(&self, key: &Digest) -> Option<Arc<Learned>> {
        let known = self.lock().known.get(key).cloned()?;
        known.holds().then_some(known)
    }

    pub(super) fn learn(&self, key: Digest, learned: Learned) {
        let mut table = self.lock();
        if table.known.len() >= SEARCHES_MAX {
            table.known.clear();
        }
        table.known.insert(key, Arc::new(learned));
        table.unwritten = true;
    }

    /// Writes what is known, if something was learned.
    pub(super) fn keep(&self) -> io::Result<()> {
        let known = {
            let mut table = self.lock();
            if !std::mem::take(&mut table.unwritten) {
                return Ok(());
            }
            table.known.clone()
        };
        kept::write(&self.file, &known)
    }

    /// The table, with what is kept in the file.
    fn lock(&self) -> MutexGuard<'_, Table> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.is_read {
            table.known = kept::read(&self.file);
            table.is_read = true;
        }
        table
    }
}

/// Names the flags of a command: equal ones search in the same folders.
pub(super) fn key(reader: &Reader) -> Option<Digest> {
    let flags = (
        (&reader.compiler.executable, &reader.compiler.argv0, reader.toolchain),
        (&reader.compiler.search_path, reader.plan.language.to_string()),
        &reader.plan.preprocessing.search,
        (&reader.directory, &reader.travelling),
    );
    rmp_serde::to_vec(&flags).ok().map(|bytes| Digest::of(&bytes))
}

/// The folders that flags and variables name.
fn named(reader: &Reader) -> impl Iterator<Item = &str> {
    let lists = VARIABLES.iter().filter_map(|name| reader.travelling.get(*name));
    let variables = lists.flat_map(|list| list.split(':'));
    reader.plan.directories.iter().map(String::as_str).chain(variables)
}

/// The folders whose names clang's driver looked at before it chose `folder`: the one around it, and
/// of a release that `..` leads out of (`/usr/lib/gcc/x86_64-linux-gnu/12/../../..`), those around
/// the release.
fn parents(folder: &str) -> Vec<String> {
    let ways = folder.match_indices("/..").map(|(at, _)| &folder[..at]);
    let around = |path: &str| Some(path.rsplit_once('/')?.0.to_owned());
    ways.chain([folder]).filter_map(around).collect()
}

/// What stands there, links followed; a file in a folder's place is none of the two.
fn place(folder: &str) -> Option<Place> {
    let found = std::fs::metadata(folder).ok()?;
    Some(if found.is_dir() { (found.dev(), found.ino()) } else { (0, found.ino()) })
}

fn stamp(folder: &str) -> Option<Stamp> {
    Path::new(folder).metadata().ok().map(|found| Stamp::of(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_release_was_chosen_others_would_appear() {
        let found = parents("/usr/bin/../lib/gcc/x86_64-linux-gnu/12/../../../include/c++/12");
        for wanted in [
            "/usr",
            "/usr/bin/../lib/gcc/x86_64-linux-gnu",
            "/usr/bin/../lib/gcc/x86_64-linux-gnu/12/..",
            "/usr/bin/../lib/gcc/x86_64-linux-gnu/12/../../../include/c++",
        ] {
            assert!(found.iter().any(|parent| parent == wanted), "{found:?}");
        }
        assert_eq!(parents("/usr/include"), ["/usr"]);
    }
}
