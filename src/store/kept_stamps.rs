//! What a [`FileIndex`] knows, kept for the next start: unchanged files are not read again then.
//!
//! Only settled stamps are kept, and those prove the same content at any later time: whoever
//! changes the file sets its change time to a time after the stamp's.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sealed;
use super::stamps::{Earlier, FileIndex, Known};

/// Most files that are kept.
const ENTRIES_MAX: usize = 100_000;
/// Largest file that is written or read, in bytes, uncompressed: 600 for each entry.
const BYTES_MAX: usize = 60 << 20;
/// The file is written again when so many more files are known than it holds, in parts of it...
const GROWTH_PARTS: usize = 4;
/// ...and at least so many, or when it was not written for so long.
const FRESH_MIN: usize = 256;
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// When what is known is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Now and then.
    Tick,
    /// For the last time.
    End,
}

/// The file that keeps an index.
#[derive(Debug)]
pub struct StampsFile<T> {
    path: PathBuf,
    kind: String,
    index: FileIndex<T>,
    written: Mutex<Instant>,
}

impl<T: Clone + Serialize + DeserializeOwned + Send + 'static> StampsFile<T> {
    /// Keeps `index` in the file at `path`, which is read when the first file is asked for. Another
    /// `version` of what the scan finds makes the file worthless.
    pub fn new(path: PathBuf, version: &str, index: FileIndex<T>) -> Self {
        let kind = format!("stamps 1 {version}");
        let (file, name) = (path.clone(), kind.clone());
        index.load_later(Earlier(Box::new(move || {
            let bytes = sealed::read(&file, &name, BYTES_MAX).unwrap_or_default();
            let known: Vec<Known<T>> = rmp_serde::from_slice(&bytes).unwrap_or_default();
            known.into_iter().filter(|known| known.settled).collect()
        })));
        Self { path, kind, index, written: Mutex::new(Instant::now()) }
    }

    /// Reads the file, if that was not done yet; else the first question does it.
    pub fn load(&self) {
        self.index.load();
    }

    /// Writes what is known, if that is worth it; takes some ms for 10,000 files.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self, occasion: Occasion) -> io::Result<()> {
        let (known, fresh) = self.index.counts();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let is_worth_it = match occasion {
            Occasion::End => fresh > 0,
            Occasion::Tick if written.elapsed() >= WRITE_EVERY => fresh > 0,
            Occasion::Tick => fresh >= FRESH_MIN.max(known / GROWTH_PARTS),
        };
        if !is_worth_it {
            return Ok(());
        }
        // What was kept and not asked for yet is not to be lost.
        self.index.load();
        *written = Instant::now();
        let known = self.index.take_down(ENTRIES_MAX);
        let bytes = rmp_serde::to_vec(&known).map_err(io::Error::other)?;
        if bytes.len() > BYTES_MAX {
            return Err(io::Error::other(format!(
                "{} bytes, wanted at most {BYTES_MAX}",
                bytes.len()
            )));
        }
        sealed::write(&self.path, &self.kind, &bytes).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use super::*;
    use crate::store::stamps::{Stamp, now_ns};

    thread_local! {
        /// Of this test alone: each has a thread.
        static READS: Cell<usize> = const { Cell::new(0) };
    }

    fn open(path: &Path, version: &str) -> (FileIndex<usize>, StampsFile<usize>) {
        let index = FileIndex::new(100, |_| READS.replace(READS.get() + 1));
        let file = StampsFile::new(path.into(), version, index.clone());
        (index, file)
    }

    #[test]
    fn after_a_restart_only_files_that_changed_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (path, kept) = (folder.path().join("a.h"), folder.path().join("stamps"));
        std::fs::write(&path, "a").unwrap();
        while !Stamp::of(&std::fs::metadata(&path).unwrap()).is_settled(now_ns()) {
            std::thread::yield_now();
        }
        let (index, file) = open(&kept, "v1");
        let first = index.digest(&path).unwrap();
        file.keep(Occasion::Tick).unwrap();
        assert!(!kept.exists(), "one file is not worth it");
        file.keep(Occasion::End).unwrap();

        let (index, file) = open(&kept, "v1");
        let again = index.digest(&path).unwrap();
        assert_eq!((again.digest, again.facts), (first.digest, first.facts));
        file.keep(Occasion::End).unwrap();
        let (index, file) = open(&kept, "v2");
        assert_ne!(index.digest(&path).unwrap().facts, first.facts);
        file.keep(Occasion::End).unwrap();

        let (index, _) = open(&kept, "v2");
        let before = READS.get();
        std::fs::write(&path, "b").unwrap();
        assert_ne!(index.digest(&path).unwrap().digest, first.digest);
        std::fs::write(&kept, "damaged").unwrap();
        let (index, _) = open(&kept, "v2");
        index.digest(&path).unwrap();
        assert_eq!(READS.get(), before + 2);
    }

    #[test]
    fn young_files_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, kept) = (folder.path().join("a.h"), folder.path().join("stamps"));
        std::fs::write(&path, "a").unwrap();
        // A time to come: whatever is written now may get the same stamp then.
        let later = std::time::SystemTime::now() + Duration::from_secs(3_600);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        let (index, file) = open(&kept, "v1");
        assert!(!index.digest(&path).unwrap().settled);
        file.keep(Occasion::End).unwrap();
        assert!(!kept.exists());
    }
}
