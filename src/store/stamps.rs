//! Remembered digests: a file whose stamp is the same as before is not read again.
//!
//! A stamp says nothing about a file that changed a moment ago: a second change within the same
//! tick of the file system's clock leaves it as it is. As in git's index, such a file is read
//! again until its stamp has aged.

use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::hash::{digest_of, digest_with};
use crate::job::Digest;

/// Longest tick of a file system that keeps nanoseconds: Linux stamps by a 1 to 10 ms tick.
const TICK_NS: i64 = 20_000_000;
/// Longest tick of a file system that keeps whole seconds: FAT counts in twos.
const COARSE_TICK_NS: i64 = 2_000_000_000;
/// Largest file that is held in memory and given to the scan, in bytes.
pub const SCAN_BYTES_MAX: u64 = 16 << 20;
/// How often a file that changes under our eyes is read before giving up.
const READ_TRIES: usize = 3;

/// What the file system says about a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of content or inode, nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl Stamp {
    /// The stamp in what `stat`, `lstat` or `fstat` returned.
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether any change after `now_ns` (nanoseconds since 1970) must change the stamp.
    pub fn is_settled(&self, now_ns: i64) -> bool {
        let tick = if self.mtime_ns % 1_000_000_000 == 0 { COARSE_TICK_NS } else { TICK_NS };
        self.mtime_ns.max(self.ctime_ns).saturating_add(tick) < now_ns
    }
}

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A file's content in short.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Known<T> {
    /// Digest of the content.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Stamp under which that content was read.
    pub stamp: Stamp,
    /// Whether anybody may execute it.
    pub executable: bool,
    /// Whether the same stamp, seen later, proves the same content.
    pub settled: bool,
    /// What the scan found; `None` for a file that was too large for it.
    pub facts: Option<T>,
}

/// Digests and facts of files, remembered by stamp; clones share the memory.
#[derive(Clone, Debug)]
pub struct FileIndex<T>(Arc<Inner<T>>);

/// Looks for something in a file, one piece of its content after the other.
pub trait Pieces<T> {
    /// Takes the next piece.
    fn take(&mut self, piece: &[u8]);

    /// What there was.
    fn end(self: Box<Self>) -> T;
}

/// Where there is nothing to look for.
impl Pieces<()> for () {
    fn take(&mut self, _: &[u8]) {}

    fn end(self: Box<Self>) {}
}

/// How a content is looked at while it is hashed.
#[derive(Debug)]
enum Scan<T> {
    /// All of it at once, unless it is larger than [`SCAN_BYTES_MAX`].
    Whole(fn(&[u8]) -> T),
    /// Piece by piece.
    Pieces(fn() -> Box<dyn Pieces<T>>),
}

#[derive(Debug)]
struct Inner<T> {
    scan: Scan<T>,
    generation_max: usize,
    memory: Mutex<Generations<T>>,
    /// What was known before the last restart, until somebody asks for the first file.
    earlier: Mutex<Option<Earlier<T>>>,
}

/// Brings what was known before the last restart.
pub(super) struct Earlier<T>(pub(super) Box<dyn FnOnce() -> Vec<Known<T>> + Send>);

impl<T> std::fmt::Debug for Earlier<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Earlier")
    }
}

/// Two generations: when the young one is full the old one is forgotten and they change places.
#[derive(Debug)]
struct Generations<T> {
    young: HashMap<Stamp, Known<T>>,
    old: HashMap<Stamp, Known<T>>,
    /// Files that were read since somebody last took down what is known.
    fresh: usize,
}

impl<T: Clone> FileIndex<T> {
    /// An empty index of at most `entries_max` files; `scan` sees every content read, once, unless it is
    /// larger than [`SCAN_BYTES_MAX`].
    pub fn new(entries_max: usize, scan: fn(&[u8]) -> T) -> Self {
        Self::with(entries_max, Scan::Whole(scan))
    }

    /// As [`FileIndex::new`], for contents of any size: what `scan` makes sees each piece by piece.
    pub fn in_pieces(entries_max: usize, scan: fn() -> Box<dyn Pieces<T>>) -> Self {
        Self::with(entries_max, Scan::Pieces(scan))
    }

    fn with(entries_max: usize, scan: Scan<T>) -> Self {
        let memory = Generations { young: HashMap::new(), old: HashMap::new(), fresh: 0 };
        Self(Arc::new(Inner {
            scan,
            generation_max: (entries_max / 2).max(1),
            memory: Mutex::new(memory),
            earlier: Mutex::new(None),
        }))
    }

    /// Takes what was known before into memory, if that was not done yet.
    pub(super) fn load(&self) {
        // Held meanwhile: who asks for a file at the same time shall not read it in vain.
        let mut earlier = self.0.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Earlier(bring)) = earlier.take() {
            let known = bring();
            let mut memory = self.lock();
            for known in known {
                memory.insert(known, self.0.generation_max);
            }
        }
    }

    pub(super) fn load_later(&self, earlier: Earlier<T>) {
        *self.0.earlier.lock().unwrap_or_else(PoisonError::into_inner) = Some(earlier);
    }

    /// How many files are known, and how many were read since the last [`FileIndex::take_down`].
    pub(super) fn counts(&self) -> (usize, usize) {
        let memory = self.lock();
        (memory.young.len() + memory.old.len(), memory.fresh)
    }

    /// At most `most` of the files that are known and settled; those used last come last.
    pub(super) fn take_down(&self, most: usize) -> Vec<Known<T>> {
        let mut memory = self.lock();
        memory.fresh = 0;
        let all = memory.old.values().chain(memory.young.values());
        let settled: Vec<&Known<T>> = all.filter(|known| known.settled).collect();
        let skip = settled.len().saturating_sub(most);
        settled.into_iter().skip(skip).cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations<T>> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in the regular file at `path`; links are followed.
    ///
    /// # Errors
    /// When it cannot be read, is no regular file, or changes each time it is read.
    pub fn digest(&self, path: &Path) -> io::Result<Known<T>> {
        self.digest_at(path, &std::fs::metadata(path)?)
    }

    /// As [`FileIndex::digest`], for a caller that has asked for the file's metadata already.
    ///
    /// # Errors
    /// As [`FileIndex::digest`].
    pub fn digest_at(&self, path: &Path, metadata: &Metadata) -> io::Result<Known<T>> {
        let stamp = Stamp::of(metadata);
        if let Some(known) = self.recall(&stamp) {
            return Ok(known);
        }
        self.load();
        if let Some(known) = self.recall(&stamp) {
            return Ok(known);
        }
        for _ in 0..READ_TRIES {
            if let Some(known) = self.read(path)? {
                self.remember(known.clone());
                return Ok(known);
            }
        }
        Err(io::Error::other("it changes each time it is read"))
    }

    /// What was read last where a file had `stamp`. Unless it is settled, the file may have changed
    /// since without another stamp.
    pub fn read_last(&self, stamp: &Stamp) -> Option<Known<T>> {
        self.load();
        let memory = self.lock();
        memory.young.get(stamp).or_else(|| memory.old.get(stamp)).cloned()
    }

    /// What the stamp proves.
    fn recall(&self, stamp: &Stamp) -> Option<Known<T>> {
        let mut memory = self.lock();
        if let Some(known) = memory.young.get(stamp) {
            return known.settled.then(|| known.clone());
        }
        let known = memory.old.remove(stamp)?;
        memory.insert(known.clone(), self.0.generation_max);
        known.settled.then_some(known)
    }

    fn remember(&self, known: Known<T>) {
        let mut memory = self.lock();
        memory.fresh += usize::from(known.settled);
        memory.insert(known, self.0.generation_max);
    }

    /// Reads the file once; `None` when it changed meanwhile.
    fn read(&self, path: &Path) -> io::Result<Option<Known<T>>> {
        // Without NONBLOCK a pipe that took the file's place would hold us for ever.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let (begun_ns, before) = (now_ns(), file.metadata()?);
        if !before.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let (digest, facts) = self.read_content(&mut file, before.len())?;
        let stamp = Stamp::of(&before);
        Ok((Stamp::of(&file.metadata()?) == stamp).then(|| Known {
            digest,
            size: stamp.size,
            stamp,
            executable: before.mode() & 0o111 != 0,
            settled: stamp.is_settled(begun_ns),
            facts,
        }))
    }

    fn read_content(&self, file: &mut File, size: u64) -> io::Result<(Digest, Option<T>)> {
        match self.0.scan {
            Scan::Whole(scan) if size <= SCAN_BYTES_MAX => {
                let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
                file.take(SCAN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
                Ok((Digest::of(&bytes), Some(scan(&bytes))))
            }
            Scan::Whole(_) => Ok((digest_of(file)?, None)),
            Scan::Pieces(begin) => {
                let mut scan = begin();
                let digest = digest_with(file, |piece| {
                    scan.take(piece);
                    Ok(())
                })?;
                Ok((digest, Some(scan.end())))
            }
        }
    }
}

impl<T> Generations<T> {
    fn insert(&mut self, known: Known<T>, generation_max: usize) {
        if self.young.len() >= generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(known.stamp, known);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn age(path: &Path) {
        // Only a change of the inode's own time cannot be undone: wait until it lies behind.
        let stamp = Stamp::of(&std::fs::metadata(path).unwrap());
        while !stamp.is_settled(now_ns()) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_young_stamp_proves_nothing() {
        let second = 1_000_000_000;
        let fine = Stamp { dev: 1, ino: 1, size: 1, mtime_ns: second + 5, ctime_ns: second + 5 };
        assert!(!fine.is_settled(second + TICK_NS));
        assert!(fine.is_settled(second + TICK_NS + 6));
        let coarse = Stamp { mtime_ns: second, ctime_ns: second, ..fine };
        assert!(!coarse.is_settled(3 * second) && coarse.is_settled(3 * second + 1));
        assert!(!Stamp { ctime_ns: 9 * second, ..fine }.is_settled(8 * second));
    }

    #[test]
    fn two_quick_writes_of_equal_size_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h");
        let index = FileIndex::new(100, |bytes| bytes.len());
        for round in 0..50_u8 {
            std::fs::write(&path, [round]).unwrap();
            let known = index.digest(&path).unwrap();
            assert_eq!(known.digest, Digest::of(&[round]), "round {round}");
            assert_eq!(known.facts, Some(1));
        }
    }

    #[test]
    fn an_aged_file_is_read_once() {
        static SCANS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h");
        std::fs::write(&path, "a").unwrap();
        age(&path);
        let index =
            FileIndex::new(100, |_| SCANS.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let first = index.digest(&path).unwrap();
        assert!(first.settled);
        assert_eq!(index.clone().digest(&path).unwrap().facts, Some(0));
        // The same size and the same mtime, put back by hand: ctime tells.
        let file = File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"b", 0).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_nanos(first.stamp.mtime_ns.unsigned_abs()))
            .unwrap();
        let second = index.digest(&path).unwrap();
        assert_eq!((second.digest, second.facts), (Digest::of(b"b"), Some(1)));
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let index = FileIndex::new(8, |_| ());
        let paths: Vec<_> = (0..40).map(|n| folder.path().join(n.to_string())).collect();
        for path in &paths {
            std::fs::write(path, path.as_os_str().as_encoded_bytes()).unwrap();
        }
        age(&paths[39]);
        let first = index.digest(&paths[0]).unwrap().stamp;
        for path in &paths {
            index.digest(path).unwrap();
            assert!(index.recall(&first).is_some());
        }
        let memory = index.0.memory.lock().unwrap();
        assert!(memory.young.len() + memory.old.len() <= 8);
    }

    #[test]
    fn files_of_any_size_are_looked_at_in_pieces() {
        #[derive(Default)]
        struct Length(u64);
        impl Pieces<u64> for Length {
            fn take(&mut self, piece: &[u8]) {
                self.0 += piece.len() as u64;
            }

            fn end(self: Box<Self>) -> u64 {
                self.0
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let index = FileIndex::in_pieces(9, || Box::<Length>::default());
        for size in [0, 1, SCAN_BYTES_MAX + 1] {
            File::create(&path).unwrap().set_len(size).unwrap();
            let known = index.digest(&path).unwrap();
            assert_eq!((known.size, known.facts), (size, Some(size)));
            assert_eq!(known.digest, Digest::of(&vec![0; usize::try_from(size).unwrap()]));
        }
    }

    #[test]
    fn large_files_are_hashed_and_not_scanned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        let size = SCAN_BYTES_MAX + 1;
        File::create(&path).unwrap().set_len(size).unwrap();
        let known = FileIndex::new(1, |_| ()).digest(&path).unwrap();
        assert_eq!((known.size, known.facts), (size, None));
        assert_eq!(known.digest, Digest::of(&vec![0; usize::try_from(size).unwrap()]));
        assert!(FileIndex::new(1, |_| ()).digest(folder.path()).is_err());
    }
}
