//! In which folders a compiler searches, as it said itself in a dependency pass: remembered for all
//! commands with the same flags, for as long as these folders stand where they stood.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::presence::Place;
use crate::client::inputs::{Reader, absolute};
use crate::compiler::search::Search;
use crate::job::{Digest, Family};
use crate::store::stamps::Stamp;

/// Most sets of flags that are remembered; then the table starts anew.
const SEARCHES_MAX: usize = 4_096;

/// What a set of flags means.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) search: Search,
    /// Whether the compiler takes the time from `SOURCE_DATE_EPOCH`.
    pub(super) takes_epoch: bool,
    /// Whether the scan found all that the compiler listed when this was learned.
    pub(super) complete: bool,
    places: Vec<(String, Option<Place>)>,
    parents: Vec<(String, Option<Stamp>)>,
}

/// All sets of flags that were seen.
#[derive(Debug, Default)]
pub(super) struct Searches(Mutex<HashMap<Digest, Arc<Learned>>>);

impl Learned {
    /// What the compiler said when it was asked with `reader`'s flags; `None` when it is not so any
    /// more.
    pub(super) fn new(reader: &Reader, search: &Search, takes_epoch: bool) -> Option<Self> {
        let stands = |folder: &String| {
            let folder = absolute(&reader.directory, folder);
            let place = place(&folder);
            (folder, place)
        };
        let mut places: Vec<_> = search.quote.iter().chain(&search.angle).map(stands).collect();
        let ignored: Vec<_> = search.ignored.iter().map(stands).collect();
        // What was ignored is nowhere, or in the list already.
        let is_known = |(_, place): &(String, Option<Place>)| {
            place.is_none() || places.iter().any(|(_, listed)| listed == place)
        };
        if places.iter().any(|(_, place)| place.is_none()) || !ignored.iter().all(is_known) {
            return None;
        }
        places.extend(ignored);
        // clang's driver chooses among the folders that are there before it names any.
        let chosen = |folder: &&String| {
            reader.compiler.family == Family::Clang && !reader.plan.directories.contains(folder)
        };
        let parents = search
            .angle
            .iter()
            .filter(chosen)
            .filter_map(|folder| {
                Some(absolute(&reader.directory, folder).rsplit_once('/')?.0.into())
            })
            .map(|parent: String| (parent.clone(), stamp(&parent)))
            .collect();
        Some(Self { search: search.clone(), takes_epoch, complete: true, places, parents })
    }

    fn holds(&self) -> bool {
        self.places.iter().all(|(folder, then)| place(folder) == *then)
            && self.parents.iter().all(|(folder, then)| stamp(folder) == *then)
    }
}

impl Searches {
    pub(super) fn recall(&self, key: &Digest) -> Option<Arc<Learned>> {
        let known = self.lock().get(key).cloned()?;
        known.holds().then_some(known)
    }

    pub(super) fn learn(&self, key: Digest, learned: Learned) {
        let mut table = self.lock();
        if table.len() >= SEARCHES_MAX {
            table.clear();
        }
        table.insert(key, Arc::new(learned));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Arc<Learned>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// What stands there, links followed; a file in a folder's place is none of the two.
fn place(folder: &str) -> Option<Place> {
    let found = std::fs::metadata(folder).ok()?;
    Some(if found.is_dir() { (found.dev(), found.ino()) } else { (0, found.ino()) })
}

fn stamp(folder: &str) -> Option<Stamp> {
    Path::new(folder).metadata().ok().map(|found| Stamp::of(&found))
}
