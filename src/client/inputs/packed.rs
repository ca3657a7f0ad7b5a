//! A tree as it is remembered, and decoded for as long as somebody works with it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use crate::job::Tree;
use crate::job::tree::TREE_BYTES_MAX;
use crate::store::frames;

/// A tree's canonical bytes, zstd-compressed. One compile asks for the tree again and again, and no
/// other does: it is decoded once while somebody holds it; clones share that.
#[derive(Clone, Debug)]
pub struct PackedTree {
    zstd: Bytes,
    open: Arc<Mutex<Weak<Tree>>>,
}

impl PackedTree {
    /// `zstd`, which holds the bytes of `tree`.
    pub(super) fn new(zstd: Bytes, tree: &Arc<Tree>) -> Self {
        Self { zstd, open: Arc::new(Mutex::new(Arc::downgrade(tree))) }
    }

    /// The frame.
    pub fn zstd(&self) -> &Bytes {
        &self.zstd
    }

    /// The tree; who holds it spares others the decoding.
    pub fn open(&self) -> Option<Arc<Tree>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = open.upgrade() {
            return Some(tree);
        }
        let tree = Arc::new(Tree::decode(&self.bytes()?).ok()?);
        *open = Arc::downgrade(&tree);
        Some(tree)
    }

    /// The tree's canonical bytes.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let size = zstd::zstd_safe::get_frame_content_size(&self.zstd).ok()??;
        let size = usize::try_from(size).ok().filter(|size| *size <= TREE_BYTES_MAX)?;
        frames::decompress(&self.zstd, size).ok()
    }
}
