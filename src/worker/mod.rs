//! A worker: takes a job, brings what its disk lacks, runs the command in a sandbox, answers.
//!
//! Called by `main`. Promises: a job ends as an outcome or as a named
//! trouble, never as a panic; outputs are in the store before the outcome is given; when a job has
//! ended, however it did, no process, mount or folder of it is left; a compile cannot change what
//! another one sees. The barriers are listed in [`sandbox`].
//!
//! Reading order: [`run`], [`execute`] (the story), [`check`], [`fetch`], [`toolchains`], [`proof`],
//! [`paths`] and [`layout`] (pure), [`roots`], [`scratch`], [`folder`], [`prepare`], [`sandbox`], [`early`], [`outputs`], [`parts`], [`reads`],
//! [`capacity`], [`rest`].

pub mod capacity;
mod check;
mod early;
mod execute;
mod fetch;
mod folder;
mod layout;
mod outputs;
mod parts;
mod paths;
mod prepare;
mod proof;
mod reads;
mod rest;
mod roots;
pub mod run;
mod sandbox;
mod scratch;
mod settings;
#[cfg(test)]
mod tests;
mod toolchains;

use std::io;
use std::path::{Path, PathBuf};

use crate::store::DiskError;

pub use capacity::{Capacity, SlotPermit};
pub use execute::{Executed, Executor};
pub use fetch::Word;
pub use settings::{Load, Settings};

/// Why this machine cannot be a worker.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// bubblewrap is not there or may not do what it has to.
    #[error(
        "`{}` does not work: {text}\nhint: install bubblewrap 0.8 or later; ordinary users need \
         user namespaces (`sysctl kernel.unprivileged_userns_clone=1`, and on Ubuntu \
         `kernel.apparmor_restrict_unprivileged_userns=0`)",
        bwrap.display()
    )]
    Sandbox {
        /// Path of bubblewrap.
        bwrap: PathBuf,
        /// Its words.
        text: String,
    },
    /// The folder for jobs cannot be used.
    #[error("build folder `{}`: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another worker lays out its jobs there.
    #[error(
        "build folder `{}` is used by another worker\nhint: give each worker a `build_dir`",
        .0.display()
    )]
    FolderInUse(PathBuf),
    /// A disk cache cannot be used.
    #[error(transparent)]
    Cache(#[from] DiskError),
}

impl WorkerError {
    fn sandbox(bwrap: &Path, text: String) -> Self {
        Self::Sandbox { bwrap: bwrap.to_owned(), text }
    }
}
