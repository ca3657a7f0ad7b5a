//! What stands in folders, read once per change however many compiles ask.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::store::stamps::Stamp;

/// Most folders that are remembered; then the table starts anew.
const FOLDERS_MAX: usize = 50_000;
/// How far the clock of time stamps lags behind: a few ticks of the kernel's timer.
const CLOCK_LAG_NS: i64 = 20_000_000;

/// The names in a folder at one moment.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// The folder's stamp, taken before its names were read.
    stamp: Stamp,
    /// Whether the stamp was old enough then to prove that nothing was added since.
    settled: bool,
    names: Arc<HashSet<OsString>>,
}

impl Listing {
    /// Whether the folder has not changed since, by its stamp alone.
    pub(super) fn holds(&self, folder: &Path) -> bool {
        self.settled && stamp(folder).is_ok_and(|now| now == self.stamp)
    }

    /// Whether the folder may have changed at or after this time (Unix time in ns): file systems
    /// take the time from a clock that lags a little.
    pub(super) fn may_be_younger_than(&self, time_ns: i64) -> bool {
        self.stamp.mtime_ns.saturating_add(CLOCK_LAG_NS) >= time_ns
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = &OsString> {
        self.names.iter()
    }

    /// The names that came since `earlier`.
    pub(super) fn added_since<'a>(
        &'a self,
        earlier: &'a Self,
    ) -> impl Iterator<Item = &'a OsString> {
        self.names.difference(&earlier.names)
    }
}

/// The latest listing of each folder.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<HashMap<PathBuf, Listing>>);

impl Folders {
    /// What stands in `folder` now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn list(&self, folder: &Path) -> io::Result<Listing> {
        if let Some(known) = self.lock().get(folder).filter(|known| known.holds(folder)) {
            return Ok(known.clone());
        }
        let stamp = stamp(folder)?;
        let names: io::Result<HashSet<OsString>> =
            std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect();
        let listing =
            Listing { stamp, settled: stamp.is_settled(now_ns()), names: Arc::new(names?) };
        let mut table = self.lock();
        if table.len() >= FOLDERS_MAX {
            table.clear();
        }
        table.insert(folder.to_owned(), listing.clone());
        Ok(listing)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Listing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
