//! A toolchain with everything that the store has to hold of it.

use std::sync::Arc;

use super::link::Reach;
use super::locale::Locales;
use super::sent::Sent;
use super::terminal::Descriptions;
use super::upload::{Source, Sources, Uploads};
use crate::compiler::FileFacts;
use crate::job::wire::{self, BlobClass, HelloReply};
use crate::job::{Digest, Kind, LocalReason};
use crate::store::stamps::FileIndex;
use crate::toolchain::{Packed, Resolved, Settings, ToolchainError, Toolchains};

/// Files of toolchains of Rust whose digests are remembered.
const RUST_FILES_MAX: usize = 50_000;

/// Packs compilers, each once.
#[derive(Debug)]
pub(super) struct Packers {
    c: Toolchains<FileFacts>,
    /// These are large, and nothing in them is a source: nobody looks for includes there.
    rust: Toolchains<()>,
}

impl Packers {
    /// None is packed yet; `index` knows the files of C.
    pub(super) fn new(index: &FileIndex<FileFacts>) -> Self {
        let rust = FileIndex::in_pieces(RUST_FILES_MAX, || Box::new(()));
        Self {
            c: Toolchains::new(index.clone(), Settings::default()),
            rust: Toolchains::new(rust, Settings::default()),
        }
    }

    /// The toolchain of `compiler` as it is now on disk.
    pub(super) async fn get(
        &self,
        compiler: &Resolved,
    ) -> Result<Arc<Packed>, Arc<ToolchainError>> {
        match compiler.kind {
            Kind::C(_) => self.c.get(compiler).await,
            Kind::Rust(_) => self.rust.get(compiler).await,
        }
    }
}

/// A toolchain, and all that the store has to hold of it.
#[derive(Debug)]
pub struct ReadyToolchain {
    /// Digest of its tree.
    pub digest: Digest,
    /// Digest of its references.
    pub references: Digest,
    /// `PATH` with which the compiler finds itself and its tools inside the tree.
    pub path: String,
    /// Whether the tree has the locales that this machine has, and not only `C.UTF-8`.
    pub locales: Locales,
    /// How its compiler finds what a terminal can.
    pub descriptions: Descriptions,
    /// Every blob of it.
    pub sources: Sources,
}

impl ReadyToolchain {
    /// What a packed toolchain has to bring.
    pub(super) fn of(packed: &Packed) -> Self {
        let references = wire::encode(&packed.toolchain.references);
        let mut sources: Sources = packed
            .sources
            .iter()
            .map(|(digest, path)| ((BlobClass::Toolchain, *digest), Source::File(path.clone())))
            .collect();
        let tree = packed.toolchain.tree.encode();
        let digest = Digest::of(&references);
        sources.insert((BlobClass::Toolchain, digest), Source::Bytes(references));
        sources.insert((BlobClass::Toolchain, packed.tree_digest), Source::Bytes(tree.into()));
        Self {
            digest: packed.tree_digest,
            references: digest,
            path: packed.path.clone(),
            locales: Locales::of(&packed.toolchain.tree),
            descriptions: Descriptions::of(&packed.toolchain.tree),
            sources,
        }
    }

    /// Uploads a toolchain's files, unless the store has its tree already: the tree goes up last.
    pub(super) async fn upload(
        &self,
        reach: &Reach,
        uploads: &Uploads,
        sent: &Sent,
    ) -> Result<(), LocalReason> {
        let tree = (BlobClass::Toolchain, self.digest);
        if uploads.knows(tree) {
            return Ok(());
        }
        let Reach { farm, blobs } = reach;
        let there = blobs.has(tree.0, tree.1).await;
        if there.map_err(|error| LocalReason::Store(error.to_string()))? {
            uploads.learn(self.sources.keys());
            return Ok(());
        }
        if let Ok(HelloReply::Welcome { over_quota: Some(limit), .. }) = farm.hello().await {
            return Err(LocalReason::OverQuota(limit));
        }
        let (last, files): (Vec<_>, Vec<_>) =
            self.sources.iter().partition(|(name, _)| **name == tree);
        uploads.ensure(blobs, files, sent).await?;
        uploads.ensure(blobs, last, sent).await
    }
}
