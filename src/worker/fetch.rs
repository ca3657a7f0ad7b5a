//! Brings blobs from the store to this machine, with patience for those that are on their way.
//!
//! Clients send a job before its last blob is stored, so a missing blob is normal for a moment;
//! then the client is told once, and the worker looks until the blob is there. A blob with wrong bytes
//! is as good as missing: a scheduler deletes it, and the client uploads it again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::job::wire::{BlobClass, MISSING_MAX, Progress, TreeDifference, Trouble};
use crate::job::{Difference, Digest, Space, Tree, difference, tree};
use crate::store::{Blobs, DiskError, StoreError, frames};

use super::folder::Caches;

/// Largest encoded tree, in bytes.
const TREE_BYTES_MAX: u64 = tree::TREE_BYTES_MAX as u64;
/// Largest file that travels inside a job, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Largest difference between two trees, in bytes.
const DIFFERENCE_BYTES_MAX: u64 = difference::DIFFERENCE_BYTES_MAX as u64;
/// Downloads of one job at once.
const FETCHES_MAX: usize = 16;
/// For so long a missing blob is taken for one that is being uploaded anyway.
const GRACE: Duration = Duration::from_millis(50);
/// First and longest pause between two looks.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];

/// What a job has to say while it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// To its client: how it goes.
    Progress(Progress),
    /// To a scheduler: the store holds something else under this name.
    Wrong(BlobClass, Digest),
}

/// Says what a job has to say.
pub(super) type Tell<'a> = &'a (dyn Fn(Word) + Send + Sync);

/// One file of a tree.
pub(super) type Wanted = (BlobClass, Digest, u64);

/// How long one job waits for blobs that its client was told of.
pub(super) struct Patience<'a> {
    tell: Tell<'a>,
    told: HashSet<Digest>,
    /// What was wrong with blobs that a scheduler was told of.
    wrong: HashMap<Digest, StoreError>,
    /// How long without any of them arriving.
    limit: Duration,
    first: Option<Instant>,
    last_arrival: Instant,
    absent: usize,
    pause: Duration,
}

impl<'a> Patience<'a> {
    pub(super) fn new(tell: Tell<'a>, limit: Duration) -> Self {
        Self {
            tell,
            told: HashSet::new(),
            wrong: HashMap::new(),
            limit,
            first: None,
            last_arrival: Instant::now(),
            absent: 0,
            pause: PAUSES[0],
        }
    }

    /// Says what the job has to say.
    pub(super) fn tell(&self) -> Tell<'a> {
        self.tell
    }

    /// Whether it makes sense to wait for a blob that was not read because of `error`.
    fn bears(&mut self, blob: (BlobClass, Digest), error: StoreError) -> Result<(), Trouble> {
        if error.wrong().is_some() {
            if !self.wrong.contains_key(&blob.1) {
                tracing::warn!(blob = %blob.1, %error, "blob with wrong bytes reported");
                (self.tell)(Word::Wrong(blob.0, blob.1));
                self.wrong.insert(blob.1, error);
            }
            return Ok(());
        }
        match error {
            StoreError::Missing(_) => Ok(()),
            error => Err(trouble(error)),
        }
    }

    /// Waits a moment because `blobs` are not in the store.
    async fn wait_for(&mut self, blobs: &[(BlobClass, Digest)]) -> Result<(), Trouble> {
        let now = Instant::now();
        if now.duration_since(*self.first.get_or_insert(now)) >= GRACE {
            let new: Vec<_> =
                blobs.iter().copied().filter(|blob| self.told.insert(blob.1)).collect();
            for blobs in new.chunks(MISSING_MAX) {
                (self.tell)(Word::Progress(Progress::Missing(blobs.to_vec())));
            }
            if !new.is_empty() || blobs.len() < self.absent {
                self.last_arrival = now;
                self.pause = PAUSES[0];
            }
            self.absent = blobs.len();
            if let Some((_, digest)) = blobs.first()
                && now.duration_since(self.last_arrival) > self.limit
            {
                return Err(match self.wrong.remove(digest) {
                    Some(error) => trouble(error),
                    None => Trouble::MissingBlob(*digest),
                });
            }
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSES[1]);
        Ok(())
    }
}

/// One space of the store and what this machine keeps of it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) blobs: Blobs,
    pub(super) caches: Caches,
}

impl Source {
    /// The same for another space: nothing that was fetched for one is there in another.
    pub(super) fn of(&self, space: &Space) -> Result<Self, DiskError> {
        let caches = Caches {
            toolchains: self.caches.toolchains.of(space)?,
            inputs: self.caches.inputs.of(space)?,
        };
        Ok(Self { blobs: self.blobs.of(space), caches })
    }

    /// Whose blobs these are.
    pub(super) fn space(&self) -> &Space {
        self.blobs.space()
    }

    /// One blob of at most `bytes_max` bytes, not kept on disk.
    pub(super) async fn bytes(
        &self,
        blob: (BlobClass, Digest),
        bytes_max: u64,
        patience: &mut Patience<'_>,
    ) -> Result<Bytes, Trouble> {
        loop {
            match self.blobs.get(blob.0, blob.1, bytes_max).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => patience.bears(blob, error)?,
            }
            patience.wait_for(&[blob]).await?;
        }
    }

    /// A tree of the store.
    pub(super) async fn tree(
        &self,
        blob: (BlobClass, Digest),
        patience: &mut Patience<'_>,
    ) -> Result<Tree, Trouble> {
        let bytes = self.bytes(blob, TREE_BYTES_MAX, patience).await?;
        decode(&bytes)
    }

    /// The tree with the digest `wanted`, which differs from one of the store by `difference`; `None`
    /// when that one cannot be had. It stays on this machine's disk, as others will differ from it too.
    pub(super) async fn differing(
        &self,
        difference: &TreeDifference,
        wanted: Digest,
        patience: &mut Patience<'_>,
    ) -> Result<Option<Tree>, Trouble> {
        let base = (BlobClass::Input, difference.base);
        if let Err(error) = self.fetch((base.0, base.1, TREE_BYTES_MAX)).await {
            if !matches!(error, StoreError::Full(_)) {
                patience.bears(base, error)?;
            }
            return Ok(None);
        }
        let bytes = open_inline("difference", &difference.zstd, DIFFERENCE_BYTES_MAX)?;
        let refused = |error: difference::InvalidDifference| Trouble::Refused(error.to_string());
        let difference = Difference::decode(&bytes).map_err(refused)?;
        match self.caches.of(base.0).read(base.1) {
            Ok(bytes) => difference.apply(&decode(&bytes)?, wanted).map_err(refused).map(Some),
            Err(DiskError::Missing(_)) => Ok(None),
            Err(error) => Err(Trouble::Sandbox(error.to_string())),
        }
    }

    /// Brings all `files` into the caches.
    pub(super) async fn files(
        &self,
        files: impl Iterator<Item = Wanted>,
        patience: &mut Patience<'_>,
    ) -> Result<(), Trouble> {
        let mut wanted: BTreeSet<Wanted> = files.collect();
        while !wanted.is_empty() {
            let mut absent = BTreeSet::new();
            let mut fetches = futures_util::stream::iter(wanted)
                .map(|file| async move { (file, self.fetch(file).await) })
                .buffer_unordered(FETCHES_MAX);
            while let Some((file, done)) = fetches.next().await {
                match done {
                    Ok(()) => {}
                    Err(error) => {
                        patience.bears((file.0, file.1), error)?;
                        absent.insert(file);
                    }
                }
            }
            drop(fetches);
            if !absent.is_empty() {
                let blobs: Vec<_> =
                    absent.iter().map(|(class, digest, _)| (*class, *digest)).collect();
                patience.wait_for(&blobs).await?;
            }
            wanted = absent;
        }
        Ok(())
    }

    /// Keeps files that came inside the job. Their names are computed here, so that they can be no
    /// other files than those that `tree` names.
    pub(super) fn keep(&self, files_zstd: &[Bytes], tree: &Tree) -> Result<(), Trouble> {
        for zstd in files_zstd {
            let bytes = open_inline("file", zstd, FILE_BYTES_MAX)?;
            let digest = Digest::of(&bytes);
            if !tree.files().any(|(named, _)| named == digest) {
                return Err(Trouble::Refused("a file inside the job is none of the inputs".into()));
            }
            let kept = self.caches.of(BlobClass::Input).insert(&bytes);
            kept.map_err(|error| Trouble::Sandbox(error.to_string()))?;
        }
        Ok(())
    }

    async fn fetch(&self, (class, digest, size): Wanted) -> Result<(), StoreError> {
        let cache = self.caches.of(class);
        match cache.fetch(&self.blobs, class, digest, size).await {
            // What one compile has made is what another reads: crates of Rust.
            Err(StoreError::Missing(_)) if class == BlobClass::Input => {
                cache.fetch(&self.blobs, BlobClass::Output, digest, size).await
            }
            done => done,
        }
    }
}

/// Bytes that came inside the job.
fn open_inline(what: &str, zstd: &[u8], bytes_max: u64) -> Result<Vec<u8>, Trouble> {
    let capacity = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    frames::decompress(zstd, capacity).map_err(|error| Trouble::Refused(format!("{what}: {error}")))
}

/// A tree that came inside the job.
pub(super) fn decode_inline(zstd: &[u8], wanted: Digest) -> Result<Tree, Trouble> {
    let bytes = open_inline("input tree", zstd, TREE_BYTES_MAX)?;
    let found = Digest::of(&bytes);
    if found != wanted {
        return Err(Trouble::Refused(format!(
            "input tree has digest `{found}`, wanted `{wanted}`"
        )));
    }
    decode(&bytes)
}

fn decode(bytes: &[u8]) -> Result<Tree, Trouble> {
    Tree::decode(bytes).map_err(|error| Trouble::Refused(error.to_string()))
}

/// Reading from the store fills nothing but the disk of this machine.
fn trouble(error: StoreError) -> Trouble {
    match error {
        StoreError::Full(disk) => Trouble::Sandbox(disk),
        error @ StoreError::Unavailable(_) => Trouble::Store(error.to_string()),
        error => Trouble::Space(error.to_string()),
    }
}
