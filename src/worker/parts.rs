//! The parts of a result, and how each reaches its client: inside the result, or through the store, where
//! other compiles find it too.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::job::outcome::is_artifact;
use crate::job::wire::{BlobClass, Trouble};
use crate::job::{Content, Digest};
use crate::store::streamed::{Hashed, Unsent, WHOLE_BYTES_MAX};
use crate::store::{Blobs, Compressed, StoreError, digest_of};

use super::prepare::{blocking, io_trouble};

/// Content of an output; clones share it.
#[derive(Clone)]
pub(super) enum Body {
    /// Here.
    Bytes(Bytes),
    /// Too large for that: an open file and its size in bytes.
    File(Arc<File>, u64),
}

impl Body {
    /// That of a file of `size` bytes.
    pub(super) fn of(file: File, size: u64) -> io::Result<Self> {
        match size {
            ..=WHOLE_BYTES_MAX => read(file, size).map(Self::Bytes),
            size => Ok(Self::File(Arc::new(file), size)),
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, size) => *size,
        }
    }

    /// All of it, unless it has more than `bytes_max` bytes; blocking.
    pub(super) fn read(&self, bytes_max: u64) -> io::Result<Bytes> {
        match self {
            _ if self.size() > bytes_max => Err(io::ErrorKind::FileTooLarge.into()),
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(file, size) => {
                let mut bytes = vec![0; usize::try_from(*size).map_err(io::Error::other)?];
                file.read_exact_at(&mut bytes, 0)?;
                Ok(bytes.into())
            }
        }
    }

    /// Blocking.
    pub(super) fn digest(&self) -> io::Result<Digest> {
        match self {
            Self::Bytes(bytes) => Ok(Digest::of(bytes)),
            Self::File(file, _) => {
                let mut file = file.as_ref();
                file.rewind()?;
                digest_of(&mut file)
            }
        }
    }
}

/// All that a file of `size` bytes holds.
pub(super) fn read(file: File, size: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// The parts in their order: the largest ones go to the store until the rest fits.
pub(super) async fn contents(
    blobs: &Blobs,
    inline_bytes_max: u64,
    parts: Vec<Part>,
) -> Result<Vec<Content>, Trouble> {
    let sizes: Vec<u64> = parts.iter().map(Part::bytes_inline).collect();
    let stored = parts.into_iter().zip(choose_inline(&sizes, inline_bytes_max));
    try_join_all(stored.map(|(part, travel)| part.content(blobs, travel))).await
}

/// A part of the result.
pub(super) enum Part {
    /// Has to travel, so if it may.
    New(Compressed, Travel),
    /// A file that has to travel through the store.
    Large(Arc<File>, Digest, u64),
    /// Is in the store.
    Stored(Content),
}

impl Part {
    /// What becomes of `body`, which may be what the store has `early`.
    pub(super) async fn of(
        body: Body,
        travel: Travel,
        early: &Option<Content>,
    ) -> Result<Self, Trouble> {
        let early = early.as_ref().filter(|early| early.size() == body.size());
        if let (Body::Bytes(bytes), None) = (&body, early) {
            return Ok(Self::New(Compressed::of(bytes.clone()).await, travel));
        }
        let digest = digest(body.clone()).await?;
        match (body, early.filter(|early| early.digest() == digest)) {
            (_, Some(early)) => Ok(Self::Stored(early.clone())),
            (Body::Bytes(bytes), None) => Ok(Self::New(Compressed::of(bytes).await, travel)),
            (Body::File(file, size), None) => Ok(Self::Large(file, digest, size)),
        }
    }

    /// What the result says of it, once the store has what does not go inside.
    async fn content(self, blobs: &Blobs, travel: Travel) -> Result<Content, Trouble> {
        let (digest, size, stored) = match self {
            Self::Stored(content) => return Ok(content),
            Self::New(Compressed { digest, size, zstd }, _) if travel == Travel::Inline => {
                return Ok(Content::Inline { digest, size, zstd });
            }
            Self::New(part, _) => {
                let stored = blobs.put_compressed(BlobClass::Output, &part).await;
                (part.digest, part.size, stored.map_err(Unsent::from))
            }
            Self::Large(file, digest, size) => {
                let (class, name) = (BlobClass::Output, (digest, size));
                // The sandbox is gone: nobody writes into it any more.
                let stored = blobs.put_file(class, name, &file, Hashed::JustNow).await;
                (digest, size, stored.map(drop))
            }
        };
        match stored {
            Ok(()) => Ok(Content::Blob { digest, size }),
            // One tenant's full space keeps no worker from the jobs of others.
            Err(Unsent::Store(error @ StoreError::Full(_))) => {
                Err(Trouble::Space(error.to_string()))
            }
            Err(Unsent::Store(error)) => Err(Trouble::Store(error.to_string())),
            Err(error) => Err(Trouble::Sandbox(format!("an output {error}"))),
        }
    }

    /// Its bytes in the result, if it goes into it.
    fn bytes_inline(&self) -> u64 {
        match self {
            Self::New(part, Travel::Inline) => part.zstd.len() as u64,
            Self::New(_, Travel::Store) | Self::Large(..) | Self::Stored(_) => u64::MAX,
        }
    }
}

/// Computed beside the runtime.
async fn digest(body: Body) -> Result<Digest, Trouble> {
    blocking(move || body.digest().map_err(|error| io_trouble(&error))).await
}

/// How a part reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Travel {
    Inline,
    Store,
}

impl Travel {
    /// How the output at `path` should, if both would do: what other compiles read, their workers find
    /// in the store.
    pub(super) fn of(path: &str) -> Self {
        if is_artifact(path) { Self::Store } else { Self::Inline }
    }
}

/// Keeps as many of the smallest parts inline as fit into `bytes_max` together.
fn choose_inline(sizes: &[u64], bytes_max: u64) -> Vec<Travel> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|part| sizes[*part]);
    let mut choice = vec![Travel::Store; sizes.len()];
    let mut sum = 0_u64;
    for part in order {
        sum = sum.saturating_add(sizes[part]);
        if sum <= bytes_max {
            choice[part] = Travel::Inline;
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use object_store::memory::InMemory;

    use super::*;
    use crate::store::Limits;

    #[tokio::test]
    async fn a_large_output_is_not_held_and_goes_through_the_store_once() {
        let blobs = Blobs::new(Arc::new(InMemory::new()), Limits::default());
        let bytes = vec![7; 1 + usize::try_from(WHOLE_BYTES_MAX).unwrap()];
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let body = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            Body::of(file, bytes.len() as u64).unwrap()
        };
        let large = body(&bytes);
        assert!(matches!(large, Body::File(..)));
        assert!(matches!(body(&bytes[1..]), Body::Bytes(_)));
        // Read as often as anybody likes.
        for _ in 0..2 {
            assert_eq!(large.digest().unwrap(), digest);
            assert_eq!(large.read(size).unwrap(), bytes);
        }
        assert!(large.read(size - 1).is_err());

        // Small as it is when compressed, it is none of those that go inside.
        let part = Part::of(large, Travel::Inline, &None).await.unwrap();
        let [content] = contents(&blobs, 1 << 20, vec![part]).await.unwrap().try_into().unwrap();
        assert_eq!(content, Content::Blob { digest, size });
        assert_eq!(blobs.get(BlobClass::Output, digest, size).await.unwrap(), bytes);

        // What was announced is in the store already: another one would be refused this.
        let none = Blobs::new(Arc::new(InMemory::new()), Limits::default());
        let early = Some(content.clone());
        let part = Part::of(body(&bytes), Travel::Store, &early).await.unwrap();
        assert_eq!(contents(&none, 0, vec![part]).await.unwrap(), [content]);
        assert_eq!(none.has(BlobClass::Output, digest).await, Ok(false));
    }

    #[test]
    fn the_largest_parts_go_to_the_store() {
        use Travel::{Inline, Store};
        for (sizes, wanted) in [
            (vec![10, 10, 300], vec![Inline, Inline, Store]),
            (vec![10, 40, 50], vec![Inline, Inline, Inline]),
            (vec![10, 41, 50], vec![Inline, Inline, Store]),
            (vec![101], vec![Store]),
            (vec![], vec![]),
        ] {
            assert_eq!(choose_inline(&sizes, 100), wanted);
        }
    }
}
