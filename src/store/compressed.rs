//! A blob as it is stored and sent: one zstd frame, and digest and size of what is inside.
//!
//! The digest is of the uncompressed bytes, so that levels and zstd releases do not split the name.

use bytes::Bytes;
use zstd::zstd_safe::{compress_bound, get_frame_content_size};

use crate::job::Digest;

use super::{BLOB_BYTES_MAX, StoreError, frames};

/// Above this many bytes, compressing and hashing leave the async thread: about 1 ms of work.
const INLINE_WORK_BYTES_MAX: u64 = 256 << 10;

/// One zstd frame with the digest and the size of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// Digest of the uncompressed bytes.
    pub digest: Digest,
    /// Uncompressed size in bytes.
    pub size: u64,
    /// The frame; its header tells the uncompressed size.
    pub zstd: Bytes,
}

impl Compressed {
    /// Hashes and compresses on this thread: about 1 ms per 256 KiB.
    #[expect(clippy::missing_panics_doc, reason = "fails only when memory is used up")]
    #[expect(clippy::expect_used, reason = "the destination is as large as zstd asks for")]
    pub fn new(bytes: &[u8]) -> Self {
        let zstd = frames::compress(bytes).expect("zstd compresses any bytes");
        Self { digest: Digest::of(bytes), size: bytes.len() as u64, zstd: zstd.into() }
    }

    /// Like [`Compressed::new`], for async code: large blobs are worked on beside the runtime.
    pub async fn of(bytes: Bytes) -> Self {
        if bytes.len() as u64 > INLINE_WORK_BYTES_MAX {
            let shared = bytes.clone();
            if let Ok(done) = tokio::task::spawn_blocking(move || Self::new(&shared)).await {
                return done;
            }
            // The runtime is stopping; whoever still waits for us gets the answer all the same.
        }
        Self::new(&bytes)
    }

    /// The uncompressed bytes, checked against the digest; on this thread.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] above `bytes_max`, [`StoreError::Corrupt`] when the frame is none
    /// or holds something else.
    pub fn open(&self, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        let bytes = open_frame(self.digest, &self.zstd, bytes_max)?;
        if bytes.len() as u64 == self.size {
            Ok(bytes)
        } else {
            Err(StoreError::Corrupt(self.digest))
        }
    }
}

/// Largest frame that [`Compressed::new`] makes of `size` bytes.
pub(super) fn frame_bytes_max(size: u64) -> u64 {
    compress_bound(usize::try_from(size.min(BLOB_BYTES_MAX)).unwrap_or(usize::MAX)) as u64
}

/// Like [`open_frame`], for async code: large blobs are worked on beside the runtime.
pub(super) async fn open_frame_async(
    digest: Digest,
    frame: Bytes,
    bytes_max: u64,
) -> Result<Vec<u8>, StoreError> {
    if frame.len() as u64 > INLINE_WORK_BYTES_MAX / 4 {
        let shared = frame.clone();
        let work = move || open_frame(digest, &shared, bytes_max);
        if let Ok(done) = tokio::task::spawn_blocking(work).await {
            return done;
        }
    }
    open_frame(digest, &frame, bytes_max)
}

/// How many bytes the frame that begins with `start` says to hold, at most `bytes_max`.
pub(super) fn announced_size(
    digest: Digest,
    start: &[u8],
    bytes_max: u64,
) -> Result<u64, StoreError> {
    match get_frame_content_size(start) {
        Ok(Some(size)) if size > BLOB_BYTES_MAX => {
            // Nobody of ours writes such a frame.
            Err(StoreError::Corrupt(digest))
        }
        Ok(Some(size)) if size > bytes_max => {
            Err(StoreError::TooLarge { digest, size, limit: bytes_max })
        }
        Ok(Some(size)) => Ok(size),
        Ok(None) | Err(_) => Err(StoreError::Corrupt(digest)),
    }
}

/// Decompresses `frame` into at most `bytes_max` bytes and checks the digest.
///
/// The announced size is the capacity: a frame that holds more than it announces is corrupt.
pub(super) fn open_frame(
    digest: Digest,
    frame: &[u8],
    bytes_max: u64,
) -> Result<Vec<u8>, StoreError> {
    let corrupt = StoreError::Corrupt(digest);
    let size = announced_size(digest, frame, bytes_max)?;
    let capacity = usize::try_from(size).map_err(|_| corrupt.clone())?;
    match frames::decompress(frame, capacity) {
        Ok(bytes) if Digest::of(&bytes) == digest => Ok(bytes),
        Ok(_) | Err(_) => Err(corrupt),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn opens_to_the_same_bytes(bytes: Vec<u8>) {
            let blob = Compressed::new(&bytes);
            prop_assert_eq!(blob.digest, Digest::of(&bytes));
            prop_assert!(blob.zstd.len() as u64 <= frame_bytes_max(blob.size));
            prop_assert_eq!(blob.open(blob.size), Ok(bytes));
        }

        #[test]
        fn foreign_bytes_are_never_believed(frame: Vec<u8>) {
            let digest = Digest::of(b"something else");
            prop_assert!(open_frame(digest, &frame, 1 << 20).is_err());
        }
    }

    #[test]
    fn a_frame_that_holds_more_than_allowed_is_refused() {
        let bomb = Compressed::new(&vec![0; 64 << 20]);
        assert!(bomb.zstd.len() < 16 << 10);
        let refused = bomb.open(1 << 20);
        assert!(matches!(refused, Err(StoreError::TooLarge { size: 0x0400_0000, .. })));
    }

    #[test]
    fn a_frame_that_holds_more_than_it_announces_is_corrupt() {
        let mut frame = Compressed::new(b"honest").zstd.to_vec();
        frame.extend_from_slice(&Compressed::new(&vec![0; 1 << 20]).zstd);
        let refused = open_frame(Digest::of(b"honest"), &frame, 1 << 30);
        assert_eq!(refused, Err(StoreError::Corrupt(Digest::of(b"honest"))));
    }

    #[tokio::test]
    async fn large_blobs_are_worked_on_elsewhere() {
        let bytes = Bytes::from(vec![7; 1 << 20]);
        let blob = Compressed::of(bytes.clone()).await;
        assert_eq!(blob, Compressed::new(&bytes));
        let opened = open_frame_async(blob.digest, blob.zstd, blob.size).await;
        assert_eq!(opened, Ok(bytes.to_vec()));
    }
}
