//! What gcc, clang and rustc do with a command line: pure knowledge, without I/O and without
//! processes.
//!
//! Called by `client` (may this compile travel, what does it read and write, what does the
//! compiler's dependency pass say) and by `worker` ([`allow`]: what it agrees to run). Promises:
//! nothing panics whatever the bytes; a command line that is not understood to the last flag never
//! travels; equal input gives equal answers.
//!
//! What it cannot know, because it reads no files: a precompiled header beside a listed one
//! (`NAME.gch`, `NAME.pch`) is read instead of it, so its presence is the caller's reason to stay
//! at home.
//!
//! Reading order: [`family`], `response`, `flags` (the tables), `scan` (argv into words),
//! `fold` (words into one description), `nested` (`-Wa,`, `-Wp,`, `-Xclang`), [`language`],
//! `outputs`, `plan` (the story), [`environment`]; then what reads bytes: [`depfile`],
//! [`search`], [`version`], [`facts`] (with [`includes`]); then [`rustc`], which has all of this of
//! its own; then the worker's side, [`allow`].

pub mod allow;
pub mod depfile;
pub mod environment;
pub mod facts;
pub mod family;
mod flags;
mod fold;
mod include_test;
pub mod includes;
pub mod language;
mod line_marks;
mod nested;
mod outputs;
pub mod plan;
mod response;
pub mod rustc;
mod scan;
pub mod search;
pub mod version;

#[cfg(test)]
mod tests;

pub use environment::remote_environment;
pub use facts::{FACTS_VERSION, FileFacts, IncludeTest, scan_facts};
pub use family::family_of_name;
pub use language::Language;
pub use plan::{Invocation, Plan, Verdict, plan};
pub use response::BYTES_MAX as RESPONSE_BYTES_MAX;
