//! Blobs inside NATS: `object_store`'s trait over write-once streams, three for each space, read by
//! direct get.
//!
//! A small blob is one message. A large one is cut into parts and committed by its head, which is
//! written last; whoever sees the head finds the parts. The server refuses a second message on a
//! subject, so nobody can overwrite a blob and a put is its own existence check.
//! Measured against JetStream's own object store: 4 KB in 0.1 ms instead of 0.5 to 0.8.

use std::fmt;
use std::io;
use std::sync::Arc;

use async_nats::{HeaderMap, Message};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{ready, try_join_all};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, UploadPart,
};
use serde::Deserialize;

use super::connect::{Connection, QueueError};
use super::serve::direct_get;
use super::{streams, subjects};
use crate::job::wire::BlobClass;
use crate::job::{Digest, Space};

/// Largest part, in bytes; less when the server's own limit is lower.
const PART_BYTES_MAX: usize = 512 << 10;
/// Room that headers and subject need within the server's limit.
const HEADROOM: usize = 4 << 10;
/// Parts under way at once: enough to fill a slow link, little enough for a client's buffers.
const PARTS_AT_ONCE: usize = 16;
/// The same of those that come: they wait in memory for a reader that is slower than the link.
const PARTS_READ_AT_ONCE: usize = 4;
/// Largest blob, in bytes: 4 GiB. The store room asks for less.
const BLOB_BYTES_MAX: u64 = 4 << 30;
/// Most parts that a head may name: [`BLOB_BYTES_MAX`] behind a server that takes 64 KiB.
const PARTS_MAX: u64 = 65_536;
/// Hex digits of the name that the parts of one upload share.
const STORED_DIGITS: usize = 12;
/// Error of the server for a message that a limit of the stream forbids; the text says which limit.
const LIMIT: u64 = 10_077;
/// The text when the subject has its message already.
const SUBJECT_FULL: &str = "maximum messages per subject exceeded";
/// Errors of the server for a stream or account at its limit; the first when it is not that of a
/// subject.
const STREAM_FULL: [u64; 4] = [LIMIT, 10_023, 10_047, 10_122];

const HEADER_PARTS: &str = "Jetcc-Parts";
const HEADER_SIZE: &str = "Jetcc-Size";
const HEADER_STORED: &str = "Jetcc-Stored";
const STORE: &str = "nats";

/// The blob streams as an object store. Paths are `<space>/in/<hex>`, `<space>/out/<hex>` and
/// `<space>/tc/<hex>`.
#[derive(Clone, Debug)]
pub struct NatsBlobs {
    connection: Connection,
}

/// The server's answer to a publish.
#[derive(Deserialize)]
struct PubAck {
    error: Option<PubError>,
}

#[derive(Deserialize)]
struct PubError {
    err_code: u64,
    description: String,
}

/// What a path names.
#[derive(Debug)]
struct Blob {
    space: Space,
    class: BlobClass,
    digest: Digest,
}

impl Blob {
    /// Subject of its head.
    fn head(&self) -> String {
        subjects::blob_head(self.class, &self.space, self.digest)
    }

    /// Subject of one part of a large one.
    fn part(&self, stored: &str, part: u64) -> String {
        subjects::blob_part(self.class, &self.space, self.digest, stored, part)
    }
}

enum Put {
    Stored,
    AlreadyThere,
}

impl NatsBlobs {
    /// The blob streams behind `connection`, as the trait object that the store room takes.
    pub fn shared(connection: Connection) -> Arc<dyn ObjectStore> {
        Arc::new(Self { connection })
    }

    fn part_bytes(&self) -> usize {
        PART_BYTES_MAX.min(self.connection.client().max_payload().saturating_sub(HEADROOM)).max(1)
    }

    async fn publish(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Result<Put> {
        let client = self.connection.client();
        let answer = client.request_with_headers(subject.clone(), headers, payload).await;
        let answer = answer.map_err(|error| generic(format!("`{subject}`: {error}")))?;
        let ack: PubAck = serde_json::from_slice(&answer.payload)
            .map_err(|error| generic(format!("`{subject}`: strange answer: {error}")))?;
        match ack.error {
            None => Ok(Put::Stored),
            Some(error) if error.err_code == LIMIT && error.description == SUBJECT_FULL => {
                Ok(Put::AlreadyThere)
            }
            Some(error) if STREAM_FULL.contains(&error.err_code) => {
                let full = io::Error::new(io::ErrorKind::StorageFull, error.description);
                Err(Error::Generic { store: STORE, source: full.into() })
            }
            Some(error) => Err(generic(format!("`{subject}`: {}", error.description))),
        }
    }

    async fn put_parts(&self, blob: &Blob, bytes: &Bytes) -> Result<HeaderMap> {
        let size = self.part_bytes();
        let stored = Digest::of(bytes).short();
        let parts = bytes.len().div_ceil(size);
        stream::iter(0..parts)
            .map(|index| {
                let end = bytes.len().min((index + 1) * size);
                let part = bytes.slice(index * size..end);
                self.publish(blob.part(&stored, index as u64 + 1), HeaderMap::new(), part)
            })
            .buffer_unordered(PARTS_AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(head_of_parts(parts as u64, &stored, bytes.len() as u64))
    }

    /// Writes the message that makes `blob` visible.
    async fn put_head(&self, blob: &Blob, headers: HeaderMap, body: Bytes) -> Result<PutResult> {
        let head = blob.head();
        match self.publish(head.clone(), headers, body).await? {
            Put::Stored => {
                Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
            }
            Put::AlreadyThere => Err(Error::AlreadyExists {
                path: head,
                source: "the server keeps one message a subject".into(),
            }),
        }
    }

    /// The bytes that a head leads to, one part after the other. One that does not lead to all of its
    /// parts gives too few bytes, which their reader takes for what they are: not those of the name.
    fn parts(&self, blob: Blob, head: Head) -> BoxStream<'static, Result<Bytes>> {
        let Some(Parts { count, stored }) = head.parts else {
            return stream::once(async { Ok(head.payload) }).boxed();
        };
        let (blobs, blob) = (self.clone(), Arc::new(blob));
        let parts = stream::iter(1..=count).map(move |part| {
            let (blobs, blob, subject) = (blobs.clone(), blob.clone(), blob.part(&stored, part));
            async move { blobs.message(&blob, subject).await }
        });
        let within = |left: &mut u64, part| {
            let bytes = match part {
                Ok(Message { payload, .. }) => payload,
                Err(Error::NotFound { .. }) => return ready(None),
                Err(error) => return ready(Some(Err(error))),
            };
            ready(left.checked_sub(bytes.len() as u64).map(|less| {
                *left = less;
                Ok(bytes)
            }))
        };
        parts.buffered(PARTS_READ_AT_ONCE).scan(head.size, within).boxed()
    }

    /// Deletes a blob: a right that schedulers alone have.
    async fn purge(&self, location: Path) -> Result<Path> {
        let Blob { space, class, digest } = parse(&location)?;
        let stream = streams::context(&self.connection)
            .get_stream_no_info(subjects::blob_stream(class, &space))
            .await
            .map_err(|error| generic(error.to_string()))?;
        let purged = stream.purge().filter(subjects::blob_messages(class, &space, digest)).await;
        purged.map(|_| location).map_err(|error| generic(error.to_string()))
    }

    async fn message(&self, blob: &Blob, subject: String) -> Result<Message> {
        let stream = subjects::blob_stream(blob.class, &blob.space);
        match direct_get(&self.connection, &stream, &subject).await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(Error::NotFound { path: subject.clone(), source: subject.into() }),
            Err(error @ QueueError::NoResponders(_)) => {
                Err(generic(format!("{error}: no scheduler has declared the streams")))
            }
            Err(error) => Err(generic(error.to_string())),
        }
    }
}

/// A blob that comes a piece after the other.
#[derive(Debug)]
struct Upload {
    blobs: NatsBlobs,
    blob: Arc<Blob>,
    /// What its parts are called: the digest of the first one. The same bytes from the same release
    /// are the same parts, so a thousand clients that bring a blob at the same time store it once. Where
    /// a file changed on its way up, parts of it are left that do not belong to the right ones: whoever
    /// reads the blob finds wrong bytes then, and all parts are deleted.
    stored: Option<String>,
    parts: u64,
    size: u64,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, piece: PutPayload) -> UploadPart {
        let mut bytes = Bytes::from(piece);
        self.size += bytes.len() as u64;
        let mut publishes = Vec::new();
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(self.blobs.part_bytes()));
            let stored = self.stored.get_or_insert_with(|| Digest::of(&part).short());
            self.parts += 1;
            let (blobs, subject) = (self.blobs.clone(), self.blob.part(stored, self.parts));
            publishes.push(async move { blobs.publish(subject, HeaderMap::new(), part).await });
        }
        Box::pin(async { try_join_all(publishes).await.map(drop) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let stored = self.stored.as_deref().unwrap_or_default();
        let headers = head_of_parts(self.parts, stored, self.size);
        self.blobs.put_head(&self.blob, headers, Bytes::new()).await
    }

    /// Without a head nobody sees the parts; they go with time.
    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Headers of the head of a blob in so many parts.
fn head_of_parts(parts: u64, stored: &str, size: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HEADER_PARTS, parts.to_string());
    headers.insert(HEADER_STORED, stored);
    headers.insert(HEADER_SIZE, size.to_string());
    headers
}

/// The message under a blob's own name: all of it, or where its parts are. Written by whoever put
/// the blob, so nothing in it is believed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the blob as it is stored, at most [`BLOB_BYTES_MAX`].
    pub size: u64,
    /// Where the bytes are when they are not in the payload.
    pub parts: Option<Parts>,
    payload: Bytes,
}

/// The messages that one large blob was cut into.
#[derive(Debug, PartialEq, Eq)]
pub struct Parts {
    /// How many, 1 to [`PARTS_MAX`].
    pub count: u64,
    /// What tells this upload from others: hex digits, safe inside a subject.
    pub stored: String,
}

impl Head {
    /// Reads a head; `None` when it is malformed.
    pub fn read(headers: Option<&HeaderMap>, payload: Bytes) -> Option<Self> {
        let text = |header| headers?.get(header).map(|value| value.as_str());
        let Some(count) = text(HEADER_PARTS) else {
            return Some(Self { size: payload.len() as u64, parts: None, payload });
        };
        let (count, size): (u64, u64) = (count.parse().ok()?, text(HEADER_SIZE)?.parse().ok()?);
        let stored = text(HEADER_STORED)?;
        let is_name = stored.len() == STORED_DIGITS
            && stored.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let fits = (1..=PARTS_MAX).contains(&count) && (count..=BLOB_BYTES_MAX).contains(&size);
        let parts = Some(Parts { count, stored: stored.to_owned() });
        (is_name && fits).then_some(Self { size, parts, payload })
    }
}

fn generic(message: String) -> Error {
    Error::Generic { store: STORE, source: message.into() }
}

fn unsupported(what: &str) -> Error {
    Error::NotSupported { source: format!("blobs in nats cannot be {what}").into() }
}

/// What a path such as `shared/in/<hex>` names.
fn parse(location: &Path) -> Result<Blob> {
    let text = location.as_ref();
    let read = || {
        let (space, name) = text.split_once('/')?;
        let (class, digest) = name.split_once('/')?;
        let classes = [BlobClass::Input, BlobClass::Output, BlobClass::Toolchain];
        let class = classes.into_iter().find(|known| subjects::blob_token(*known) == class)?;
        Some(Blob { space: space.parse().ok()?, class, digest: digest.parse().ok()? })
    };
    read().ok_or_else(|| unsupported(&format!("named `{text}`")))
}

impl fmt::Display for NatsBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nats:")
    }
}

#[async_trait]
impl ObjectStore for NatsBlobs {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if options.mode != PutMode::Create {
            return Err(unsupported("overwritten"));
        }
        let blob = parse(location)?;
        let bytes = Bytes::from(payload);
        let (headers, body) = if bytes.len() <= self.part_bytes() {
            (HeaderMap::new(), bytes)
        } else {
            (self.put_parts(&blob, &bytes).await?, Bytes::new())
        };
        self.put_head(&blob, headers, body).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let blob = Arc::new(parse(location)?);
        Ok(Box::new(Upload { blobs: self.clone(), blob, stored: None, parts: 0, size: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let blob = parse(location)?;
        let Message { headers, payload, .. } = self.message(&blob, blob.head()).await?;
        let head = Head::read(headers.as_ref(), payload).unwrap_or_default();
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: head.size,
            e_tag: Some(blob.digest.to_string()),
            version: None,
        };
        options.check_preconditions(&meta)?;
        if options.range.is_some() {
            return Err(unsupported("read in ranges"));
        }
        let range = 0..head.size;
        let parts = match options.head {
            true => stream::empty().boxed(),
            false => self.parts(blob, head),
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(parts),
            meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let blobs = self.clone();
        let purge = move |location| {
            let blobs = blobs.clone();
            async move { blobs.purge(location).await }
        };
        locations.and_then(purge).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(async { Err(unsupported("listed")) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(unsupported("listed"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(unsupported("copied"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(parts: &str, stored: &str, size: &str) -> Option<Head> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(HEADER_PARTS, parts), (HEADER_STORED, stored), (HEADER_SIZE, size)] {
            headers.insert(name, value);
        }
        Head::read(Some(&headers), Bytes::new())
    }

    #[test]
    fn a_head_is_not_believed() {
        let stored = "0123456789ab";
        let read = head("2", stored, "700000").unwrap();
        assert_eq!(read.parts, Some(Parts { count: 2, stored: stored.into() }));
        let small = Head::read(None, Bytes::from_static(b"abc")).unwrap();
        assert_eq!((small.size, small.parts), (3, None));
        for (parts, stored, size) in [
            ("0", stored, "1"),
            ("65537", stored, "4000000000"),
            ("2", stored, "4294967297"),
            ("2", stored, "1"),
            ("-1", stored, "9"),
            ("2", stored, ""),
            // Every part of every blob would answer to these.
            ("2", "*", "9"),
            ("2", "a.>.a.>.a.>.", "9"),
            ("2", "0123456789AB", "9"),
        ] {
            assert_eq!(head(parts, stored, size), None, "{parts} {stored} {size}");
        }
    }
}
