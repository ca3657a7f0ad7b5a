//! How the folder stays within its size. Nobody holds an index: several daemons add, and whoever
//! finds that enough was added looks at all files and removes the longest unused.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::folder::Folder;
use crate::store::stamps::now_ns;

/// A look at all files is due when so much of the limit was added since the last one.
const LOOK_SHARE: u64 = 16;
/// How full the folder is left after making room, in tenths.
const LEFT_TENTHS: u64 = 9;
/// How long a disk that takes nothing is left alone.
const REST: Duration = Duration::from_secs(30);
/// Age of a file that was never finished, after which it is nobody's.
const ABANDONED_NS: i64 = 3_600 * 1_000_000_000;

/// What is counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Results that were written.
    pub writes: u64,
    /// Results that the disk did not take.
    pub write_errors: u64,
    /// Results that could not be read.
    pub read_errors: u64,
    /// Files with other bytes than were written: removed.
    pub damaged: u64,
    /// Files that were removed to make room.
    pub evicted: u64,
}

/// How much is kept, and where.
#[derive(Clone, Debug)]
pub struct Size {
    /// The folder.
    pub path: PathBuf,
    /// Bytes in it.
    pub bytes: u64,
    /// The limit.
    pub bytes_max: u64,
}

#[derive(Debug)]
pub(super) struct Room {
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counters: Counters,
    /// Bytes at the last look and those added since; `None` before the first look.
    bytes: Option<u64>,
    added: u64,
    rests_until: Option<Instant>,
}

impl Room {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.lock().counters);
    }

    pub(super) fn counters(&self) -> Counters {
        self.lock().counters
    }

    pub(super) fn rests(&self) -> bool {
        self.lock().rests_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn size(&self, folder: &Folder) -> Size {
        let bytes = self.lock().bytes.unwrap_or(0);
        Size { path: folder.path().to_owned(), bytes, bytes_max: self.bytes_max }
    }

    /// A result was written.
    pub(super) fn added(&self, bytes: u64) {
        let mut state = self.lock();
        state.counters.writes += 1;
        state.added += bytes;
        state.bytes = state.bytes.map(|before| before + bytes);
    }

    pub(super) fn note_trouble(&self, error: &io::Error) {
        let mut state = self.lock();
        state.counters.write_errors += 1;
        state.rests_until = Some(Instant::now() + REST);
        tracing::warn!(%error, seconds = REST.as_secs(), "results are not kept for a while");
    }

    /// Whether it is time to look at all files.
    pub(super) fn is_due(&self) -> bool {
        let state = self.lock();
        state.bytes.is_none_or(|bytes| bytes > self.bytes_max)
            || state.added > self.bytes_max / LOOK_SHARE
    }

    /// Looks at all files and makes room if there is too much.
    pub(super) fn tidy(&self, folder: &Folder) {
        self.tidy_to(folder, self.bytes_max, self.bytes_max / 10 * LEFT_TENTHS);
    }

    /// The disk is full although the limit allows more: gives back some; whether anything went.
    pub(super) fn give_back(&self, folder: &Folder, size: u64) -> bool {
        let before = self.counters().evicted;
        self.tidy_to(folder, u64::MAX, u64::MAX);
        let bytes = self.lock().bytes.unwrap_or(0);
        let target = bytes.saturating_sub(size.saturating_mul(2)) / 10 * LEFT_TENTHS;
        self.tidy_to(folder, target, target);
        self.counters().evicted > before
    }

    /// Removes the longest unused until at most `target` bytes are left, if there are more than `most`.
    fn tidy_to(&self, folder: &Folder, most: u64, target: u64) {
        // While somebody else makes room, counting is enough.
        let lock = folder.lock().ok().flatten();
        self.lock().added = 0;
        let mut files = match look(folder) {
            Ok(files) => files,
            Err(error) => return tracing::debug!(%error, "results could not be counted"),
        };
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let mut evicted = 0;
        if bytes > most && lock.is_some() {
            files.sort_unstable_by_key(|file| file.used_ns);
            for file in &files {
                if bytes <= target {
                    break;
                }
                if folder.unlink(&file.path) {
                    bytes -= file.bytes;
                    evicted += 1;
                }
            }
        }
        if lock.is_some() {
            remove_abandoned(folder);
        }
        let mut state = self.lock();
        state.bytes = Some(bytes);
        state.counters.evicted += evicted;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Found {
    path: String,
    bytes: u64,
    used_ns: i64,
}

fn look(folder: &Folder) -> io::Result<Vec<Found>> {
    let mut files = Vec::new();
    for shelf in folder.shelves()? {
        for name in folder.list(&shelf)? {
            let path = format!("{shelf}/{name}");
            // Somebody else may just have removed it.
            if let Ok((bytes, used_ns)) = folder.look(&path) {
                files.push(Found { path, bytes, used_ns });
            }
        }
    }
    Ok(files)
}

/// What a crash left half written.
fn remove_abandoned(folder: &Folder) {
    let limit = now_ns().saturating_sub(ABANDONED_NS);
    for name in folder.list("tmp").unwrap_or_default() {
        let path = format!("tmp/{name}");
        if folder.look(&path).is_ok_and(|(_, used_ns)| used_ns < limit) {
            folder.unlink(&path);
        }
    }
}
