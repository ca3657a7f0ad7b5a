//! Bytes that travel: inside the message when they are small, as a blob of the outputs otherwise.

use bytes::Bytes;

use crate::job::Content;
use crate::job::wire::BlobClass;

use super::{Blobs, Compressed, StoreError, compressed};

impl From<Compressed> for Content {
    /// The bytes themselves, to be sent inside a message.
    fn from(blob: Compressed) -> Self {
        Self::Inline { digest: blob.digest, size: blob.size, zstd: blob.zstd }
    }
}

/// Makes `blob` part of a message: inside when its frame has at most `inline_bytes_max` bytes,
/// else stored among the outputs and named.
///
/// # Errors
/// Those of [`Blobs::put_compressed`].
pub async fn pack(
    blobs: &Blobs,
    blob: Compressed,
    inline_bytes_max: usize,
) -> Result<Content, StoreError> {
    if blob.zstd.len() <= inline_bytes_max {
        return Ok(blob.into());
    }
    blobs.put_compressed(BlobClass::Output, &blob).await?;
    Ok(Content::Blob { digest: blob.digest, size: blob.size })
}

/// Bytes of `content`, from the message or from the store, checked against the digest.
///
/// # Errors
/// Those of [`Blobs::get`]; [`StoreError::Corrupt`] when the announced size is not the size.
pub async fn unpack(blobs: &Blobs, content: &Content, bytes_max: u64) -> Result<Bytes, StoreError> {
    let (digest, size) = (content.digest(), content.size());
    if size > bytes_max {
        return Err(StoreError::TooLarge { digest, size, limit: bytes_max });
    }
    let bytes = match content {
        Content::Inline { zstd, .. } => {
            compressed::open_frame_async(digest, zstd.clone(), size).await?.into()
        }
        Content::Blob { .. } => blobs.get(BlobClass::Output, digest, size).await?,
    };
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(StoreError::Corrupt(digest)) }
}

/// Bytes of `content` if they came inside the message, checked against the digest.
///
/// # Errors
/// [`StoreError::Missing`] when they are in the store, else those of [`Compressed::open`].
pub fn open_inline(content: &Content, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
    match content {
        Content::Inline { digest, size, zstd } => {
            Compressed { digest: *digest, size: *size, zstd: zstd.clone() }.open(bytes_max)
        }
        Content::Blob { digest, .. } => Err(StoreError::Missing(*digest)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::job::Digest;
    use crate::store::Limits;

    #[tokio::test]
    async fn small_bytes_travel_inside_and_large_ones_beside() {
        let blobs = Blobs::new(Arc::new(InMemory::new()), Limits::default());
        let small = pack(&blobs, Compressed::new(b"small"), 64).await.unwrap();
        assert!(matches!(small, Content::Inline { .. }));
        assert_eq!(open_inline(&small, 5).unwrap(), b"small");
        assert_eq!(unpack(&blobs, &small, 5).await.unwrap(), "small");

        let bytes: Vec<u8> = (0..1_000_u32).flat_map(u32::to_le_bytes).collect();
        let large = pack(&blobs, Compressed::new(&bytes), 64).await.unwrap();
        assert_eq!(large, Content::Blob { digest: Digest::of(&bytes), size: 4_000 });
        assert!(matches!(open_inline(&large, 4_000), Err(StoreError::Missing(_))));
        assert_eq!(unpack(&blobs, &large, 4_000).await.unwrap(), bytes);
        assert!(matches!(unpack(&blobs, &large, 3_999).await, Err(StoreError::TooLarge { .. })));
    }

    #[tokio::test]
    async fn an_announced_size_is_checked() {
        let blobs = Blobs::new(Arc::new(InMemory::new()), Limits::default());
        let Compressed { digest, zstd, .. } = Compressed::new(b"bytes");
        let lie = Content::Inline { digest, size: 6, zstd };
        assert_eq!(unpack(&blobs, &lie, 9).await, Err(StoreError::Corrupt(digest)));
        assert_eq!(open_inline(&lie, 9), Err(StoreError::Corrupt(digest)));
    }
}
