//! What the disk cache holds and in which order it was used: plain values, no I/O.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use crate::job::Digest;

use super::Kind;

/// File systems give room in blocks of this many bytes.
const BLOCK_BYTES: u64 = 4_096;

/// A space, as this cache numbers them since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SpaceNumber(pub(super) usize);

/// One file of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) space: SpaceNumber,
    pub(super) digest: Digest,
    pub(super) kind: Kind,
}

/// What tells that a file was not written to since its digest was checked. Not its ctime: that
/// changes with every hard link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(super) fn of(file: &Metadata) -> Self {
        Self { inode: file.ino(), size: file.size(), modified: (file.mtime(), file.mtime_nsec()) }
    }
}

/// What is known of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Size in bytes.
    pub(super) size: u64,
    /// As it was when its digest was last checked; `None` when it was not since the start.
    pub(super) checked: Option<Stamp>,
    /// Unix time in seconds of the last use that is written on disk.
    pub(super) noted_unix: u64,
}

/// Files in order of use, at most so many bytes of them.
#[derive(Debug)]
pub(super) struct Lru {
    entries: HashMap<Key, (u64, Entry)>,
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: u64,
    bytes_max: u64,
}

impl Lru {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), clock: 0, bytes: 0, bytes_max }
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.entries.contains_key(&key)
    }

    /// Whether a file of `size` bytes fits at all.
    pub(super) fn fits(&self, size: u64) -> bool {
        on_disk(size) <= self.bytes_max
    }

    /// The entry, which becomes the last to be evicted.
    pub(super) fn touch(&mut self, key: Key) -> Option<&mut Entry> {
        let (used, entry) = self.entries.get_mut(&key)?;
        self.clock += 1;
        self.order.remove(used);
        self.order.insert(self.clock, key);
        *used = self.clock;
        Some(entry)
    }

    /// Adds or replaces an entry as the last used.
    pub(super) fn insert(&mut self, key: Key, entry: Entry) {
        self.remove(key);
        self.clock += 1;
        self.bytes += on_disk(entry.size);
        self.order.insert(self.clock, key);
        self.entries.insert(key, (self.clock, entry));
    }

    pub(super) fn remove(&mut self, key: Key) {
        if let Some((used, entry)) = self.entries.remove(&key) {
            self.order.remove(&used);
            self.bytes -= on_disk(entry.size);
        }
    }

    /// Takes out the entry that was not used for longest, if the rest and `more` bytes are too
    /// many.
    pub(super) fn evict(&mut self, more: u64) -> Option<Key> {
        if self.bytes.saturating_add(more) <= self.bytes_max {
            return None;
        }
        let (_, &key) = self.order.first_key_value()?;
        self.remove(key);
        Some(key)
    }

    /// Bytes that could still be added.
    pub(super) fn bytes_free(&self) -> u64 {
        self.bytes_max.saturating_sub(self.bytes)
    }
}

fn on_disk(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        let digest = Digest::of(name.as_bytes());
        Key { space: SpaceNumber(0), digest, kind: Kind::Plain }
    }

    fn entry(size: u64) -> Entry {
        Entry { size, checked: None, noted_unix: 0 }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut lru = Lru::new(3 * BLOCK_BYTES);
        for name in ["a", "b", "c"] {
            lru.insert(key(name), entry(1));
        }
        assert!(lru.touch(key("a")).is_some());
        assert_eq!((lru.bytes_free(), lru.evict(0)), (0, None));
        lru.insert(key("d"), entry(BLOCK_BYTES + 1));
        assert_eq!(lru.evict(0), Some(key("b")));
        assert_eq!(lru.evict(0), Some(key("c")));
        assert_eq!(lru.evict(0), None);
        assert!(lru.contains(key("a")) && lru.contains(key("d")) && !lru.contains(key("b")));
    }

    #[test]
    fn replacing_and_removing_keep_the_sum() {
        let mut lru = Lru::new(10 * BLOCK_BYTES);
        lru.insert(key("a"), entry(1));
        lru.insert(key("a"), entry(2 * BLOCK_BYTES));
        assert_eq!(lru.bytes_free(), 8 * BLOCK_BYTES);
        lru.remove(key("a"));
        lru.remove(key("a"));
        assert_eq!((lru.bytes_free(), lru.evict(u64::MAX)), (10 * BLOCK_BYTES, None));
        assert!(lru.fits(10 * BLOCK_BYTES) && !lru.fits(10 * BLOCK_BYTES + 1));
    }
}
