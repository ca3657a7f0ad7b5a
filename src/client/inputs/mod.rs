//! Which files will the compile read? Remembers what a command read last time; else asks the
//! compiler's own dependency pass, follows every path as the kernel would and puts what it finds
//! into a tree.
//!
//! In reading order: [`pass`] asks the compiler, [`build`] makes the tree of what it lists, and
//! [`lookout`] says what would make the list wrong. [`precise`] leaves out what was not read;
//! [`offers`] when somebody else found out what that is.

mod build;
mod lookout;
mod offers;
mod pass;
mod precise;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::folders::now_ns;
use super::memory::Memory;
use super::upload::Sources;
use crate::compiler::search::Search;
use crate::compiler::{FileFacts, Plan};
use crate::job::reads::PathList;
use crate::job::{Digest, LocalReason};
use crate::store::stamps::FileIndex;
use crate::store::walk::Seen;
use crate::toolchain::resolve::Resolved;

/// Whether a compile reads all files of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// It does: the compiler, or whoever ran it, said so.
    Exact,
    /// It reads some of them.
    Larger,
}

/// Everything a compile reads, and perhaps more.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The command's name in the memory.
    pub command: Digest,
    /// Digest of the tree.
    pub digest: Digest,
    /// The tree's bytes when they travel inside the request.
    pub inline_zstd: Option<Bytes>,
    /// The source file that the command names, if the compiler lists it under that name.
    pub main: Option<Digest>,
    /// Whether it reads all of it.
    pub extent: Extent,
    /// Where each blob can be read for upload.
    pub sources: Sources,
    /// Files that count as read although no compiler says so: the source, files whose being there
    /// is tested, files that flags and line marks name.
    pub always: PathList,
    /// What to look at again before the result is believed.
    pub seen: Vec<Seen>,
}

pub use offers::choose;
pub use precise::About;

/// The command whose inputs are wanted.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The compiler.
    pub compiler: Resolved,
    /// What its command line says.
    pub plan: Arc<Plan>,
    /// Physical working directory.
    pub directory: String,
    /// Working directory as `PWD` names it, if that is the same place.
    pub logical_directory: String,
    /// The toolchain, which brings search folders of its own.
    pub toolchain: Digest,
    /// The variables that change what a compile gives.
    pub travelling: BTreeMap<String, String>,
    /// The wrapper's whole environment, for the dependency pass alone.
    pub environment: BTreeMap<OsString, OsString>,
    /// Whether `SOURCE_DATE_EPOCH` is set.
    pub epoch: bool,
}

/// What the dependency pass tells.
#[derive(Debug, Default)]
struct Listing {
    files: Vec<String>,
    search: Search,
    /// Whether the compiler takes the time from `SOURCE_DATE_EPOCH`.
    takes_epoch: bool,
    /// When the pass began, Unix time in ns.
    began_ns: i64,
}

impl Reader {
    /// Names the command: equal commands read the same as long as the files are the same.
    fn key(&self) -> Result<Digest, LocalReason> {
        let command = (
            (&self.compiler.executable, &self.compiler.argv0, self.toolchain),
            (&self.plan.source, &self.plan.arguments),
            (&self.directory, &self.logical_directory),
            &self.travelling,
        );
        let bytes = rmp_serde::to_vec(&command).map_err(|_| LocalReason::NotUtf8)?;
        Ok(Digest::of(&bytes))
    }
}

/// The inputs of `reader`'s command, if they are the same as last time; starts no process.
pub fn recall(reader: &Reader, memory: &Memory) -> Option<Arc<Inputs>> {
    reader.key().ok().and_then(|key| memory.recall(&key))
}

/// Finds the inputs of `reader`'s command. `passes` bounds the compilers started at once.
///
/// # Errors
/// Why the compile has to run locally.
pub async fn discover(
    reader: Reader,
    memory: &Memory,
    index: &FileIndex<FileFacts>,
    passes: &Semaphore,
) -> Result<Arc<Inputs>, LocalReason> {
    let key = reader.key()?;
    if let Some(inputs) = memory.recall(&key) {
        return Ok(inputs);
    }
    check_source(&reader)?;
    let listing = match &reader.plan.dependency {
        Some(arguments) => pass::ask(&reader, arguments, passes).await?,
        None => Listing {
            files: vec![reader.plan.source.clone()],
            began_ns: now_ns(),
            ..Listing::default()
        },
    };
    let index = index.clone();
    let built =
        tokio::task::spawn_blocking(move || build::build(key, &reader, &listing, &index)).await;
    let (inputs, lookout) = built.map_err(|_| LocalReason::Stopping)??;
    let inputs = Arc::new(inputs);
    memory.remember(&inputs, &lookout);
    Ok(inputs)
}

/// The source has to be a file that can be read again: neither a pipe, whose content the dependency
/// pass would take away, nor a descriptor of the wrapper's.
fn check_source(reader: &Reader) -> Result<(), LocalReason> {
    let path = absolute(&reader.directory, &reader.plan.source);
    let is_descriptor = path.starts_with("/dev/") || path.starts_with("/proc/");
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() && !is_descriptor => Ok(()),
        _ => Err(LocalReason::UnreadableInput(path)),
    }
}

/// `path` seen from `directory`; not cleaned, because `..` after a link means something else.
fn absolute(directory: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") }
}
