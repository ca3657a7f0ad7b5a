//! A toolchain as it travels: its tree and the reference compiles that prove it.

use serde::{Deserialize, Serialize};

use super::{Command, Digest, Tree};

/// Whose command line a compiler speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Family {
    /// gcc, g++ and their versioned and target-prefixed names.
    Gcc,
    /// clang, clang++.
    Clang,
}

/// What kind of compiler a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One of C and C++.
    C(Family),
    /// One of Rust.
    Rust(RustTool),
}

/// A program that takes rustc's command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RustTool {
    /// rustc itself.
    Rustc,
    /// clippy-driver: rustc with more lints.
    Clippy,
}

impl RustTool {
    /// The tool that a program's file name speaks of.
    pub fn of_name(file_name: &str) -> Option<Self> {
        [Self::Rustc, Self::Clippy].into_iter().find(|tool| tool.name() == file_name)
    }

    /// Its file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rustc => "rustc",
            Self::Clippy => "clippy-driver",
        }
    }
}

/// A compile of a small fixed source whose object every copy of the toolchain must reproduce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The command; it reads [`Reference::source_path`] and writes [`Reference::object_path`].
    pub command: Command,
    /// Absolute path of the source file.
    pub source_path: String,
    /// The source's text.
    pub source: String,
    /// Absolute path of the object.
    pub object_path: String,
    /// Digest of the object that the client's own compiler wrote.
    pub object: Digest,
}

/// A compiler with every file that it needs to run, and how to see that it runs right.
#[derive(Clone, Debug, PartialEq)]
pub struct Toolchain {
    /// Driver, its programs, shared libraries, loaders and the links between them.
    pub tree: Tree,
    /// What a worker compiles before the first use.
    pub references: Vec<Reference>,
}
