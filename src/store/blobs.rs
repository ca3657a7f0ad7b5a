//! The blob store as everybody sees it: put, get, has. One retry policy for every backend.

use std::error::Error as _;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::ready;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{GetResultPayload, ObjectStore, ObjectStoreExt as _, PutMode};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::job::wire::{BlobClass, Examined};
use crate::job::{Digest, Space};

use super::backend::{StoreSettings, StoreSettingsError, open_backend};
use super::compressed::{frame_bytes_max, open_frame_async};
use super::https::NoConnection;
use super::streamed::{self, Hashed, Unopened, Unreceived, Unsent, WHOLE_BYTES_MAX};
use super::{BLOB_BYTES_MAX, Compressed, StoreError};

/// Pieces of a frame that are sent at once: enough to fill a slow link.
const PIECES_AT_ONCE: usize = 8;
/// Pieces that are made ahead of those.
const PIECES_AHEAD: usize = 2;
/// Most bytes in memory of a file that goes up in pieces: those, and what makes them.
const PIECES_HELD_BYTES: u64 = 8 << 20;

/// How hard the store is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests under way at once; also bounds memory, as each holds one blob.
    pub requests_max: usize,
    /// Tries of one request, at least one.
    pub attempts_max: u32,
    /// Pause after the first failed try; doubles with each further one.
    pub pause: Duration,
    /// How long one try may take: 1 GiB at 10 MB/s.
    pub attempt_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_max: 64,
            attempts_max: 3,
            pause: Duration::from_millis(50),
            attempt_max: Duration::from_secs(100),
        }
    }
}

/// The blobs of one space in the shared store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    backend: Arc<dyn ObjectStore>,
    space: Space,
    limits: Limits,
    requests: Arc<Semaphore>,
    intake: Intake,
}

/// How a backend takes large blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// Each as a whole.
    Whole,
    /// In pieces as well, and still nobody can overwrite one: object stores finish an upload in pieces
    /// whatever is there already.
    InPieces,
}

impl Blobs {
    /// The shared space's blobs in `backend`, which must not retry by itself.
    pub fn new(backend: Arc<dyn ObjectStore>, limits: Limits) -> Self {
        let requests = Arc::new(Semaphore::new(limits.requests_max));
        Self { backend, space: Space::shared(), limits, requests, intake: Intake::Whole }
    }

    /// The shared space's blobs where `settings` say, behind `nats` if that is a NATS server.
    ///
    /// # Errors
    /// Those of [`open_backend`].
    pub fn open(
        settings: &StoreSettings,
        nats: Arc<dyn ObjectStore>,
    ) -> Result<Self, StoreSettingsError> {
        let intake = if settings.is_nats() { Intake::InPieces } else { Intake::Whole };
        Ok(Self::new(open_backend(settings, Some(nats))?, Limits::default()).with(intake))
    }

    /// The same blobs, in a backend that takes them like this.
    pub fn with(self, intake: Intake) -> Self {
        Self { intake, ..self }
    }

    /// The blobs of another space in the same store, within the same limits.
    pub fn of(&self, space: &Space) -> Self {
        Self { space: space.clone(), ..self.clone() }
    }

    /// Whose blobs these are.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Compresses and stores `bytes`; success also when they are there already.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] above [`BLOB_BYTES_MAX`], [`StoreError::Full`],
    /// [`StoreError::Unavailable`].
    pub async fn put(&self, class: BlobClass, bytes: Bytes) -> Result<Digest, StoreError> {
        if bytes.len() as u64 > BLOB_BYTES_MAX {
            StoreError::check_size(Digest::of(&bytes), bytes.len() as u64)?;
        }
        let blob = Compressed::of(bytes).await;
        self.put_compressed(class, &blob).await?;
        Ok(blob.digest)
    }

    /// Stores `blob`; success also when it is there already.
    ///
    /// # Errors
    /// Those of [`Blobs::put`].
    pub async fn put_compressed(
        &self,
        class: BlobClass,
        blob: &Compressed,
    ) -> Result<(), StoreError> {
        StoreError::check_size(blob.digest, blob.size)?;
        let key = &key(&self.space, class, blob.digest);
        self.request(blob.digest, || async move {
            let put = self.backend.put_opts(key, blob.zstd.clone().into(), PutMode::Create.into());
            match put.await {
                // Equal names mean equal bytes; wrong ones are found by their reader.
                Ok(_)
                | Err(
                    object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. },
                ) => Ok(()),
                // A server may refuse a second copy by hanging up before it has read it all.
                Err(error) => match self.backend.head(key).await {
                    Ok(_) => Ok(()),
                    Err(_) => Err(error),
                },
            }
        })
        .await
    }

    /// Stores the content of `file`, which has about `size` bytes; success also when it is there
    /// already. Gives the bytes that were sent.
    ///
    /// # Errors
    /// [`Unsent::Changed`] when it is not that of the digest, [`Unsent::Source`] when it cannot be read or
    /// has another size; [`Unsent::Store`] as [`Blobs::put`].
    pub async fn put_file(
        &self,
        class: BlobClass,
        (digest, size): (Digest, u64),
        file: &Arc<File>,
        hashed: Hashed,
    ) -> Result<u64, Unsent> {
        StoreError::check_size(digest, size)?;
        if self.is_sent_whole(size) {
            let file = file.clone();
            let pack = move || streamed::pack(&file, (digest, size), hashed);
            let blob = Compressed { digest, size, zstd: packed(pack).await? };
            self.put_compressed(class, &blob).await?;
            return Ok(blob.zstd.len() as u64);
        }
        let key = &key(&self.space, class, digest);
        let sent = self.request(digest, || async move {
            send_object(self.backend.as_ref(), key, (digest, size), (file, hashed)).await
        });
        sent.await?
    }

    /// Most bytes that [`Blobs::put_file`] has in memory of a file of `size` bytes.
    pub fn bytes_held(&self, size: u64) -> u64 {
        if self.is_sent_whole(size) { size } else { PIECES_HELD_BYTES }
    }

    fn is_sent_whole(&self, size: u64) -> bool {
        self.intake == Intake::Whole || size <= WHOLE_BYTES_MAX
    }

    /// The blob's bytes, checked against the digest; at most `bytes_max` of them.
    ///
    /// # Errors
    /// Every [`StoreError`] but [`StoreError::Full`].
    pub async fn get(
        &self,
        class: BlobClass,
        digest: Digest,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        let key = &key(&self.space, class, digest);
        let frame_max = frame_bytes_max(bytes_max);
        let read = self.request(digest, || async move {
            read_object(self.backend.as_ref(), key, frame_max).await
        });
        match read.await? {
            Object::Frame(frame) => {
                open_frame_async(digest, frame, bytes_max).await.map(Bytes::from)
            }
            Object::TooLarge(size) if size > frame_bytes_max(BLOB_BYTES_MAX) => {
                Err(StoreError::Corrupt(digest))
            }
            Object::TooLarge(size) => Err(StoreError::TooLarge { digest, size, limit: bytes_max }),
        }
    }

    /// Fills `target` with the blob's bytes, checked against the digest, at most `bytes_max` of them; few
    /// of them are in memory at once. After a failure anything may be in it.
    ///
    /// # Errors
    /// [`Unreceived::Target`] when it cannot be written; [`Unreceived::Store`] as [`Blobs::get`].
    pub async fn get_into(
        &self,
        class: BlobClass,
        digest: Digest,
        bytes_max: u64,
        target: &File,
    ) -> Result<(), Unreceived> {
        let key = &key(&self.space, class, digest);
        let received = self.request(digest, || async move {
            receive_object(self.backend.as_ref(), key, (digest, bytes_max), target).await
        });
        received.await?
    }

    /// Reads the blob and deletes it when its bytes are not those of its name, to make place for
    /// the right ones. For schedulers: others have no right to delete and tell them instead.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn examine(&self, class: BlobClass, digest: Digest) -> Result<Examined, StoreError> {
        match self.get(class, digest, BLOB_BYTES_MAX).await {
            Ok(_) => Ok(Examined::Sound),
            Err(StoreError::Missing(_)) => Ok(Examined::Missing),
            Err(error) if error.wrong().is_some() => {
                let key = &key(&self.space, class, digest);
                self.request(digest, || async move { self.backend.delete(key).await }).await?;
                Ok(Examined::Discarded)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether something is stored under the digest; its bytes are checked by who reads them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn has(&self, class: BlobClass, digest: Digest) -> Result<bool, StoreError> {
        let key = &key(&self.space, class, digest);
        let head = self.request(digest, || async move { self.backend.head(key).await });
        match head.await {
            Ok(_) => Ok(true),
            Err(StoreError::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks until there is an answer, within the limits.
    async fn request<T, F>(&self, digest: Digest, attempt: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut pause = self.limits.pause;
        let mut left = self.limits.attempts_max;
        loop {
            let permit = self.requests.acquire().await;
            let answer = tokio::time::timeout(self.limits.attempt_max, attempt()).await;
            drop(permit);
            let trouble = match answer {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => Trouble::of(&error, digest),
                Err(_) => Trouble::Passing(StoreError::Unavailable(format!(
                    "no answer within {} s",
                    self.limits.attempt_max.as_secs_f32()
                ))),
            };
            left = left.saturating_sub(1);
            match trouble {
                Trouble::Passing(_) if left > 0 => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Trouble::Passing(error) | Trouble::Final(error) => return Err(error),
            }
        }
    }
}

/// Where a blob lives: `<space>/in/<hex>`, `<space>/out/<hex>` or `<space>/tc/<hex>`. No other place
/// builds these names.
fn key(space: &Space, class: BlobClass, digest: Digest) -> Path {
    let folder = match class {
        BlobClass::Input => "in",
        BlobClass::Output => "out",
        BlobClass::Toolchain => "tc",
    };
    Path::from_iter([space.as_str(), folder, &digest.to_string()])
}

/// What stands under a key.
enum Object {
    /// All of its bytes.
    Frame(Bytes),
    /// More bytes than wanted; at least so many.
    TooLarge(u64),
}

/// Reads an object, never more than `bytes_max` bytes of it whatever the backend announces.
async fn read_object(
    backend: &dyn ObjectStore,
    key: &Path,
    bytes_max: u64,
) -> object_store::Result<Object> {
    let found = backend.get(key).await?;
    if found.meta.size > bytes_max {
        return Ok(Object::TooLarge(found.meta.size));
    }
    let mut pieces = match found.payload {
        // One read; the stream of a file would come in pieces of 8 KiB.
        GetResultPayload::File(..) => return found.bytes().await.map(Object::Frame),
        GetResultPayload::Stream(pieces) => pieces,
    };
    let first = pieces.try_next().await?.unwrap_or_default();
    let Some(second) = pieces.try_next().await? else {
        return Ok(within(first, bytes_max));
    };
    let announced = usize::try_from(found.meta.size).unwrap_or_default();
    let mut bytes = BytesMut::with_capacity(announced.max(first.len() + second.len()));
    bytes.extend_from_slice(&first);
    bytes.extend_from_slice(&second);
    while bytes.len() as u64 <= bytes_max {
        let Some(piece) = pieces.try_next().await? else { break };
        bytes.extend_from_slice(&piece);
    }
    Ok(within(bytes.freeze(), bytes_max))
}

/// Sends the frame of `file` as it is made, and gives the object its name when the file is
/// the blob of that digest and size. The inner error is final, the outer one may pass.
async fn send_object(
    backend: &dyn ObjectStore,
    key: &Path,
    (digest, size): (Digest, u64),
    (file, hashed): (&Arc<File>, Hashed),
) -> object_store::Result<Result<u64, Unsent>> {
    let mut upload = backend.put_multipart(key).await?;
    let (give, mut made) = mpsc::channel(PIECES_AHEAD);
    let file = file.clone();
    let packing = packed(move || {
        let take = |piece| give.blocking_send(piece).map_err(io::Error::other);
        streamed::pack_in_pieces(&file, (digest, size), hashed, take)
    });
    let mut sent = 0;
    let pieces = stream::poll_fn(|context| made.poll_recv(context));
    let publish = |piece: Bytes| {
        sent += piece.len() as u64;
        upload.put_part(piece.into())
    };
    let sending = pieces.map(publish).buffer_unordered(PIECES_AT_ONCE);
    sending.try_for_each(|()| ready(Ok(()))).await?;
    if let Err(error) = packing.await {
        return Ok(Err(error));
    }
    match upload.complete().await {
        Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(Ok(sent)),
        Err(error) => Err(error),
    }
}

/// What `pack` gives, which begins at once, beside the runtime.
fn packed<T: Send + 'static>(
    pack: impl FnOnce() -> Result<T, Unsent> + Send + 'static,
) -> impl Future<Output = Result<T, Unsent>> {
    let packing = tokio::task::spawn_blocking(pack);
    async { packing.await.map_err(|stopping| Unsent::Source(stopping.into())).flatten() }
}

/// Fills `target` with what the object's frame holds, which is to be the blob of that digest and of at
/// most so many bytes. The inner error is final, the outer one may pass.
async fn receive_object(
    backend: &dyn ObjectStore,
    key: &Path,
    (digest, bytes_max): (Digest, u64),
    target: &File,
) -> object_store::Result<Result<(), Unreceived>> {
    let found = backend.get(key).await?;
    let mut target = match target.try_clone() {
        Ok(target) => target,
        Err(error) => return Ok(Err(Unreceived::Target(error))),
    };
    let frame: Box<dyn Read + Send> = match found.payload {
        GetResultPayload::File(frame, _) => Box::new(frame),
        GetResultPayload::Stream(pieces) => {
            let pieces = StreamReader::new(pieces.map_err(io::Error::other));
            Box::new(SyncIoBridge::new(pieces))
        }
    };
    let opening = move || streamed::open_into(digest, frame, bytes_max, &mut target);
    let passing = |source| object_store::Error::Generic { store: "blob", source };
    match tokio::task::spawn_blocking(opening).await {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(Unopened::Final(error))) => Ok(Err(error)),
        Ok(Err(Unopened::Passing(error))) => Err(passing(error.into())),
        Err(stopping) => Err(passing(stopping.into())),
    }
}

fn within(bytes: Bytes, bytes_max: u64) -> Object {
    match bytes.len() as u64 {
        size if size > bytes_max => Object::TooLarge(size),
        _ => Object::Frame(bytes),
    }
}

/// A failed try.
enum Trouble {
    /// Another try may succeed.
    Passing(StoreError),
    /// It will not.
    Final(StoreError),
}

impl Trouble {
    fn of(error: &object_store::Error, digest: Digest) -> Self {
        use object_store::Error as E;
        if is_full(error) {
            return Self::Final(StoreError::Full(error.to_string()));
        }
        if let Some(NoConnection { words, is_final }) = NoConnection::below(error) {
            let trouble = StoreError::Unavailable(words);
            return if is_final { Self::Final(trouble) } else { Self::Passing(trouble) };
        }
        match error {
            E::NotFound { .. } => Self::Final(StoreError::Missing(digest)),
            E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::InvalidPath { .. }
            | E::UnknownConfigurationKey { .. } => {
                Self::Final(StoreError::Unavailable(error.to_string()))
            }
            _ => Self::Passing(StoreError::Unavailable(error.to_string())),
        }
    }
}

/// Whether the reason below `error` is a lack of room, as the system or a backend of ours says it.
fn is_full(error: &object_store::Error) -> bool {
    let mut reason = error.source();
    while let Some(cause) = reason {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        reason = cause.source();
    }
    false
}
