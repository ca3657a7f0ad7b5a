//! What a compile sends, as it travels: its messages, and the blobs that it made go up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::stats::Stats;

/// Counts the bytes of one compile, and those of all in the statistics; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    stats: Arc<Stats>,
    bytes: Arc<AtomicU64>,
}

impl Sent {
    /// Nothing so far.
    pub fn new(stats: Arc<Stats>) -> Self {
        Self { stats, bytes: Arc::default() }
    }

    /// Counts a message of so many bytes.
    pub fn message(&self, bytes: usize) {
        self.add(bytes as u64);
    }

    /// Counts a blob of `size` bytes, which are `stored` bytes compressed.
    pub fn blob(&self, size: u64, stored: u64) {
        self.stats.count_upload(size);
        self.add(stored);
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.stats.count_sent(bytes);
    }
}
