//! Where bytes live: blobs named by the SHA-256 of their content, in a shared store and on disk.
//!
//! Called by the client (uploads inputs and toolchains, reads outputs), the worker (fetches inputs,
//! keeps them on its disk, uploads outputs) and the scheduler (asks whether blobs exist).
//!
//! Promises: what is read under a digest has that digest, always; a blob that is half written is
//! never seen; writing twice is the same as writing once; every read is bounded, compressed or not.
//! What the caller can do after a failure is the name of the error.
//!
//! Reading order: [`error`], [`compressed`] ([`frames`]: what zstd makes; [`streamed`]: of large files), [`content`], [`blobs`], [`backend`],
//! [`https`] (object stores and their certificates), [`hash`],
//! [`disk`], [`stamps`] (files hashed once; `kept_stamps`: and not again after a restart), [`walk`] (trees made
//! of files), [`sealed`].

pub mod backend;
pub mod blobs;
pub mod compressed;
pub mod content;
pub mod disk;
pub mod error;
mod folder_lock;
pub mod frames;
mod hash;
pub mod https;
mod kept_stamps;
pub mod sealed;
pub mod stamps;
pub mod streamed;
pub mod walk;

pub use backend::{StoreSettings, StoreSettingsError, open_backend};
pub use blobs::{Blobs, Limits};
pub use compressed::Compressed;
pub use disk::{DiskCache, DiskError, Kind};
pub use error::{StoreError, is_full};
pub(crate) use folder_lock::FolderLock;
pub use hash::digest_of;
pub use https::CaFileError;
pub use kept_stamps::{Occasion, StampsFile};

/// Largest blob that is stored or believed, in uncompressed bytes: several times the largest
/// file of a toolchain (`libLLVM`, about 150 MB), and what one machine can hold in memory.
pub const BLOB_BYTES_MAX: u64 = 1 << 30;
