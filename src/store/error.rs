//! What can go wrong with a blob, named by what the caller can do next.

use std::io;

use crate::job::Digest;

use super::BLOB_BYTES_MAX;

/// Why a blob could not be read or written. Cloneable, because one download answers many callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing is stored under the digest: whoever has the bytes uploads them.
    #[error("blob `{0}` is not in the store")]
    Missing(Digest),
    /// What is stored has another digest: tell a scheduler, which looks and makes place for the
    /// right bytes.
    #[error("blob `{0}` holds other bytes than its digest says")]
    Corrupt(Digest),
    /// Larger than the caller wants: give up.
    #[error("blob `{digest}` has {size} bytes, wanted at most {limit}")]
    TooLarge {
        /// Which blob.
        digest: Digest,
        /// Size in bytes that was found or announced.
        size: u64,
        /// The limit in bytes, the caller's or [`BLOB_BYTES_MAX`].
        limit: u64,
    },
    /// No room: retrying does not help until somebody makes some.
    #[error("store is full: {0}")]
    Full(String),
    /// The store did not answer, or not with what was asked; all retries are used up.
    #[error("store is unavailable: {0}")]
    Unavailable(String),
}

impl StoreError {
    /// The blob whose stored bytes are not those that its name or its announced size promise.
    pub fn wrong(&self) -> Option<Digest> {
        match self {
            Self::Corrupt(digest) | Self::TooLarge { digest, .. } => Some(*digest),
            Self::Missing(_) | Self::Full(_) | Self::Unavailable(_) => None,
        }
    }

    /// Refuses blobs that no store of ours keeps.
    pub(super) fn check_size(digest: Digest, size: u64) -> Result<(), Self> {
        if size > BLOB_BYTES_MAX {
            return Err(Self::TooLarge { digest, size, limit: BLOB_BYTES_MAX });
        }
        Ok(())
    }
}

/// Whether the disk, or the user's share of it, is used up.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
