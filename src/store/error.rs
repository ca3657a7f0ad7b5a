//! What can go wrong with a blob, named by what the caller can do next.

use crate::job::Digest;

use super::BLOB_BYTES_MAX;

/// Why a blob could not be read or written. Cloneable, because one download answers many callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing is stored under the digest: whoever has the bytes uploads them.
    #[error("blob `{0}` is not in the store")]
    Missing(Digest),
    /// What is stored has another digest: upload again, the wrong object was deleted if the store
    /// let us.
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
    /// Refuses blobs that no store of ours keeps.
    pub(super) fn check_size(digest: Digest, size: u64) -> Result<(), Self> {
        if size > BLOB_BYTES_MAX {
            return Err(Self::TooLarge { digest, size, limit: BLOB_BYTES_MAX });
        }
        Ok(())
    }
}
