//! What stands in folders, read once per change however many compiles ask, and since when each
//! name stands there. A folder is remembered once, not once for each command that looks into it.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::store::stamps::Stamp;

/// Most folders that are remembered; then the table starts anew.
const FOLDERS_MAX: usize = 50_000;
/// Most names in all folders together; then the table starts anew.
const NAMES_MAX: usize = 2_000_000;
/// How far the clock of time stamps lags behind: a few ticks of the kernel's timer.
const CLOCK_LAG_NS: i64 = 20_000_000;

/// A folder at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The folder's stamp, taken before its names were read.
    stamp: Stamp,
    /// Whether the stamp was old enough then to prove that nothing was added since.
    settled: bool,
    /// Names that appear later have a higher number.
    number: u64,
}

impl Moment {
    /// Whether the folder has not changed since, by its stamp alone.
    pub(super) fn holds(&self, folder: &Path) -> bool {
        self.settled && stamp(folder).is_ok_and(|now| now == self.stamp)
    }

    /// Whether the folder may have changed at or after this time (Unix time in ns): file systems
    /// take the time from a clock that lags a little.
    pub(super) fn may_be_younger_than(&self, time_ns: i64) -> bool {
        self.stamp.mtime_ns.saturating_add(CLOCK_LAG_NS) >= time_ns
    }
}

/// All folders that were looked into.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    folders: HashMap<PathBuf, Folder>,
    /// Names in all folders.
    names: usize,
    /// Number of the latest moment; never starts anew.
    clock: u64,
}

#[derive(Debug)]
struct Folder {
    moment: Moment,
    /// Each name with the moment at which it was first seen.
    names: HashMap<OsString, u64>,
}

impl Folders {
    /// What `folder` is like now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn look(&self, folder: &Path) -> io::Result<Moment> {
        let known = self.lock().folders.get(folder).map(|known| known.moment);
        if let Some(moment) = known.filter(|moment| moment.holds(folder)) {
            return Ok(moment);
        }
        let stamp = stamp(folder)?;
        let names: io::Result<Vec<OsString>> =
            std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect();
        Ok(self.lock().note(folder, stamp, names?))
    }

    /// Those of `names` that stand in `folder`, as it was seen last, and came after `moment`.
    pub(super) fn came_since<'n>(
        &self,
        folder: &Path,
        moment: Option<&Moment>,
        names: &'n BTreeSet<OsString>,
    ) -> Vec<&'n OsStr> {
        let table = self.lock();
        let Some(known) = table.folders.get(folder) else {
            return names.iter().map(OsString::as_os_str).collect();
        };
        let since = moment.map_or(0, |moment| moment.number);
        if known.moment.number <= since {
            return Vec::new();
        }
        let came = |name: &&OsString| known.names.get(*name).is_some_and(|seen| *seen > since);
        names.iter().filter(came).map(OsString::as_os_str).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn note(&mut self, folder: &Path, stamp: Stamp, present: Vec<OsString>) -> Moment {
        if self.folders.len() >= FOLDERS_MAX || self.names >= NAMES_MAX {
            self.folders.clear();
            self.names = 0;
        }
        self.clock += 1;
        let number = self.clock;
        let old = self.folders.remove(folder).map(|old| old.names).unwrap_or_default();
        self.names = self.names - old.len() + present.len();
        let names = present.into_iter().map(|name| {
            let since = old.get(&name).copied().unwrap_or(number);
            (name, since)
        });
        let moment = Moment { stamp, settled: stamp.is_settled(now_ns()), number };
        self.folders.insert(folder.to_owned(), Folder { moment, names: names.collect() });
        moment
    }
}

/// The folder's stamp, links followed.
fn stamp(folder: &Path) -> io::Result<Stamp> {
    std::fs::metadata(folder).map(|found| Stamp::of(&found))
}

/// Unix time in ns.
pub(super) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_new_once() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        let (folders, names) = (Folders::default(), BTreeSet::from(["a".into(), "b".into()]));
        std::fs::write(folder.join("a"), "").unwrap();
        let first = folders.look(folder).unwrap();
        assert_eq!(folders.came_since(folder, None, &names), ["a"]);
        assert!(folders.came_since(folder, Some(&first), &names).is_empty());

        std::fs::write(folder.join("b"), "").unwrap();
        std::fs::write(folder.join("c"), "").unwrap();
        let second = folders.look(folder).unwrap();
        assert_eq!(folders.came_since(folder, Some(&first), &names), ["b"]);

        // What goes and comes again is new again.
        std::fs::remove_file(folder.join("a")).unwrap();
        folders.look(folder).unwrap();
        std::fs::write(folder.join("a"), "").unwrap();
        folders.look(folder).unwrap();
        assert_eq!(folders.came_since(folder, Some(&second), &names), ["a"]);
    }

    #[test]
    fn of_an_unknown_folder_nothing_is_believed() {
        let names = BTreeSet::from(["a".into()]);
        assert_eq!(Folders::default().came_since(Path::new("/none"), None, &names), ["a"]);
    }
}
