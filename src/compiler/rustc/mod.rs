//! What rustc does with a command line: pure knowledge, as the rest of this room is of gcc and
//! clang.
//!
//! A crate is more than its root file, and no pass of the compiler lists its inputs without
//! compiling: so the plan names what the command line names, and `client` adds the package and what
//! the crates in use need in turn ([`mentions`]). Afterwards the compiler tells what it read
//! ([`dep_info`]).
//!
//! Reading order: `flags` (the tables), `fold` (words into one description), `outputs`, `plan` (the
//! story), [`environment`], [`mentions`], [`dep_info`]; then the worker's side, [`allow`].

pub mod allow;
pub mod dep_info;
pub mod environment;
mod flags;
mod fold;
pub mod mentions;
mod outputs;
mod plan;

pub use plan::{CratePlan, Depth, Extern, NativeLibrary, plan};
