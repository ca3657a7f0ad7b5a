//! Uncompressed blobs as files on this machine, to be linked or copied to where compiles run.
//!
//! Called by the worker for every file of a tree. Promises: what is linked or copied has the bytes
//! of its digest, or the answer is [`DiskError::Missing`]; many who want one blob cause one
//! download; a name that exists holds all its bytes; the folder has one user; what was fetched in
//! one space is not there in another, so that who knows a digest has nothing of it.
//!
//! Linked files share mode and bytes with the cache: they are read-only, and executables are
//! files of their own (`<hex>.x`). A program that was just written can be "text file busy" for a
//! moment, when another thread forked while it was open for writing; `exec` tries again then.
//!
//! Reading order: this file (who waits for what), [`files`] (the folder), [`lru`] (the order).

mod files;
mod lru;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use crate::job::wire::BlobClass;
use crate::job::{Digest, Space};

use self::files::Files;
use self::lru::{Key, SpaceNumber};
use super::{Blobs, StoreError};

/// Which file of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Mode 0444.
    Plain,
    /// Mode 0555, a file of its own.
    Executable,
}

/// Why the cache could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Not here, or not any more: fetch it (again).
    #[error("blob `{0}` is not in the disk cache")]
    Missing(Digest),
    /// Neither the limit nor the disk has room, even after evicting.
    #[error(
        "disk cache `{}` has no room for {size} bytes\nhint: free the disk or raise its size",
        root.display()
    )]
    Full {
        /// Folder of the cache.
        root: PathBuf,
        /// Bytes that were wanted.
        size: u64,
    },
    /// Two processes must not evict each other's files.
    #[error(
        "disk cache `{}` is used by another process\nhint: give each process a folder of its own",
        .0.display()
    )]
    Locked(PathBuf),
    /// The system refused.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl DiskError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

type Flight = BoxFuture<'static, Result<(), StoreError>>;
type Flights = Mutex<HashMap<FlightKey, WeakShared<Flight>>>;

/// What a download brings; the bound takes part, so that a wrong one fails nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FlightKey {
    space: SpaceNumber,
    class: BlobClass,
    digest: Digest,
    bytes_max: u64,
}

/// One space's blobs in a folder with a size limit; cheap to clone.
#[derive(Clone, Debug)]
pub struct DiskCache {
    files: Arc<Files>,
    space: SpaceNumber,
    /// Downloads under way: who comes later waits for the same one.
    flights: Arc<Flights>,
}

impl DiskCache {
    /// Opens or makes the cache in `root`, of at most `bytes_max` bytes on disk, all spaces together
    /// (downloads under way come on top). Lists what is there; removes what was left half written.
    /// What is given is the part of the shared space.
    ///
    /// # Errors
    /// [`DiskError::Locked`], [`DiskError::Io`].
    pub fn open(root: PathBuf, bytes_max: u64) -> Result<Self, DiskError> {
        let files = Arc::new(Files::open(root, bytes_max)?);
        let space = files.space(&Space::shared())?;
        Ok(Self { files, space, flights: Arc::default() })
    }

    /// The part of another space: in the same folder, with the same limit, evicted in the same order.
    ///
    /// # Errors
    /// [`DiskError::Io`] when its folder cannot be made.
    pub fn of(&self, space: &Space) -> Result<Self, DiskError> {
        Ok(Self { space: self.files.space(space)?, ..self.clone() })
    }

    /// Brings the blob here if it is not, for all who ask at once by one download.
    ///
    /// `size` bounds the download in bytes. When the last who waits stops waiting, the download
    /// ends.
    ///
    /// # Errors
    /// Those of [`Blobs::get`]; [`StoreError::Full`] when the disk has no room.
    pub async fn fetch(
        &self,
        blobs: &Blobs,
        class: BlobClass,
        digest: Digest,
        size: u64,
    ) -> Result<(), StoreError> {
        if self.files.is_here(self.space, digest) {
            return Ok(());
        }
        let key = FlightKey { space: self.space, class, digest, bytes_max: size };
        self.flight(blobs, key).await
    }

    /// Keeps `bytes`.
    ///
    /// # Errors
    /// [`DiskError::Full`], [`DiskError::Io`].
    pub fn insert(&self, bytes: &[u8]) -> Result<Digest, DiskError> {
        let digest = Digest::of(bytes);
        self.keep(digest, bytes)?;
        Ok(digest)
    }

    /// Keeps `bytes`, of which `digest` was computed.
    ///
    /// # Errors
    /// Those of [`DiskCache::insert`].
    pub fn keep(&self, digest: Digest, bytes: &[u8]) -> Result<(), DiskError> {
        if self.files.is_here(self.space, digest) {
            return Ok(());
        }
        self.files.keep(self.space, digest, bytes)
    }

    /// Takes the file at `path`, of whose bytes `digest` was computed. Nobody else may be able to change
    /// it; whether it is still there afterwards is not said.
    ///
    /// # Errors
    /// [`DiskError::Full`], [`DiskError::Io`].
    pub fn adopt(&self, digest: Digest, path: &Path) -> Result<(), DiskError> {
        if self.files.is_here(self.space, digest) {
            return Ok(());
        }
        self.files.adopt(self.key(digest, Kind::Plain), path)
    }

    /// Whether the blob is here.
    pub fn contains(&self, digest: Digest) -> bool {
        self.files.contains(self.space, digest)
    }

    /// Tells that a link to the blob is used once more: it is evicted later.
    pub fn touch(&self, digest: Digest, kind: Kind) {
        self.files.touch(self.key(digest, kind));
    }

    /// Makes `target` a hard link to the blob; a copy where links are not possible.
    ///
    /// # Errors
    /// [`DiskError::Missing`] also when the file was found to be damaged; [`DiskError::Full`],
    /// [`DiskError::Io`].
    pub fn link(&self, digest: Digest, kind: Kind, target: &Path) -> Result<(), DiskError> {
        self.files.link(self.key(digest, kind), target)
    }

    /// Makes `target` a private copy of the blob with the permission bits `mode`; shares blocks
    /// where the file system can.
    ///
    /// # Errors
    /// Those of [`DiskCache::link`].
    pub fn copy(&self, digest: Digest, mode: u32, target: &Path) -> Result<(), DiskError> {
        self.files.copy(self.space, digest, mode, target)
    }

    /// The blob's bytes.
    ///
    /// # Errors
    /// [`DiskError::Missing`] also when the file was found to be damaged; [`DiskError::Io`].
    pub fn read(&self, digest: Digest) -> Result<Vec<u8>, DiskError> {
        self.files.read(self.space, digest)
    }

    /// Hashes what is here of the blob and evicts what is damaged.
    ///
    /// # Errors
    /// [`DiskError::Missing`] when nothing sound is left, [`DiskError::Io`].
    pub fn verify(&self, digest: Digest) -> Result<(), DiskError> {
        self.files.verify(self.space, digest)
    }

    fn key(&self, digest: Digest, kind: Kind) -> Key {
        Key { space: self.space, digest, kind }
    }

    /// The download under way, or a new one.
    fn flight(&self, blobs: &Blobs, key: FlightKey) -> Shared<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key).and_then(WeakShared::upgrade) {
            return flight;
        }
        let landing = Landing { flights: self.flights.clone(), key };
        let flight = download(self.files.clone(), blobs.clone(), landing).boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key, weak);
        }
        flight
    }
}

async fn download(files: Arc<Files>, blobs: Blobs, landing: Landing) -> Result<(), StoreError> {
    let FlightKey { space, class, digest, bytes_max } = landing.key;
    if files.is_here(space, digest) {
        // Another flight landed after the caller looked.
        return Ok(());
    }
    let bytes = blobs.get(class, digest, bytes_max).await?;
    let kept = tokio::task::spawn_blocking(move || files.keep(space, digest, &bytes)).await;
    let text = match kept {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(full @ DiskError::Full { .. })) => return Err(StoreError::Full(full.to_string())),
        Ok(Err(error)) => error.to_string(),
        Err(stopped) => stopped.to_string(),
    };
    Err(StoreError::Unavailable(text))
}

/// Takes a download off the list when it ends or when nobody waits for it any more.
struct Landing {
    flights: Arc<Flights>,
    key: FlightKey,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
