//! From a compiler's name to everything it needs to run elsewhere.
//!
//! Called by the client's daemon (and by `--package-toolchain`). Promises: a packed toolchain
//! holds every file that the compiler reads except sources, headers and what only the linker
//! reads, at the paths where the compiler looks for them; its identity covers all of them; and
//! its references tell whether a copy works.
//!
//! Reading order: [`resolve`] finds the compiler (`script` sees through wrapper scripts, `rustup`
//! through rustup), [`collect`] tells the story of packing one, with `parts`, `gcc`, `clang`, `rust`,
//! `linker`, `elf` and `runtime` for what belongs to it and `reference` for the proof; [`registry`] remembers; [`archive`]
//! writes a toolchain to a file and reads it back.

pub mod archive;
mod ask;
mod clang;
pub mod collect;
pub mod elf;
mod gcc;
mod linker;
mod parts;
mod reference;
pub mod registry;
pub mod resolve;
mod runtime;
mod rust;
mod rustup;
mod script;

use std::io;
use std::path::PathBuf;

pub use collect::{Packed, collect};
pub use registry::Toolchains;
pub use resolve::{Equipment, ResolveError, Resolved, Resolver, resolve};

use crate::exec::ExecError;
use crate::job::tree::InvalidTree;
use crate::store::walk::WalkError;

/// Limits of this room.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most bytes of all files of one toolchain, uncompressed.
    pub toolchain_bytes_max: u64,
    /// Most files, links and directories of one toolchain.
    pub toolchain_entries_max: usize,
    /// How long a compiler that could not be packed is left alone, in seconds.
    pub failure_retry_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            toolchain_bytes_max: 2 << 30,
            toolchain_entries_max: 20_000,
            failure_retry_seconds: 30,
        }
    }
}

/// Why a compiler could not be packed, or an archive not written or read.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// A program of the toolchain could not be asked.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// It was asked and gave no usable answer.
    #[error("`{program}` was asked with `{question}` and answered: {answer}")]
    Answer {
        /// Which program.
        program: String,
        /// The arguments.
        question: String,
        /// The beginning of what it wrote.
        answer: String,
    },
    /// A part without which the compiler cannot compile.
    #[error("`{compiler}` has no `{part}`\nhint: is the compiler installed completely?")]
    MissingPart {
        /// Which compiler.
        compiler: String,
        /// What it lacks.
        part: String,
    },
    /// A part is a script or belongs to another kind of machine.
    #[error("`{0}` is not a program of this machine's kind: wanted an ELF file")]
    NotElf(PathBuf),
    /// The loader does not find a library in its own places.
    #[error(
        "`{program}` needs `{library}`, which the loader does not find\nhint: LD_LIBRARY_PATH does not travel; name the folder in /etc/ld.so.conf.d"
    )]
    MissingLibrary {
        /// Who needs it.
        program: PathBuf,
        /// Its name.
        library: String,
    },
    /// A file on the way could not be added.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The tree breaks a rule.
    #[error(transparent)]
    Tree(#[from] InvalidTree),
    /// More than the limit allows.
    #[error("toolchain has {found} {what}, wanted at most {limit}")]
    TooLarge {
        /// Bytes or entries.
        what: &'static str,
        /// How many.
        found: u64,
        /// The setting.
        limit: u64,
    },
    /// A file changed while it was packed.
    #[error("`{0}` changed while the toolchain was packed")]
    Changed(PathBuf),
    /// The compiler does not compile a trivial source.
    #[error("`{compiler}` does not compile a small reference source: {answer}")]
    Reference {
        /// Which compiler.
        compiler: String,
        /// The beginning of what it wrote.
        answer: String,
    },
    /// An archive breaks a rule.
    #[error("`{path}` is not a toolchain archive: {what}")]
    Archive {
        /// Which archive.
        path: PathBuf,
        /// Which rule.
        what: String,
    },
    /// A file could not be read or written.
    #[error("`{path}`: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl ToolchainError {
    /// For `map_err`: an [`io::Error`] at `path`.
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
