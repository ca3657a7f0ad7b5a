//! Which files will the compile read? Remembers what a command read last time; else scans for
//! includes ([`super::scan`]), and in doubt asks the compiler's own dependency pass. Follows every
//! path as the kernel would and puts what it finds into a tree.
//!
//! In reading order: [`pass`] asks the compiler, [`build`] makes the tree of what is listed, and
//! [`lookout`] says what would make the list wrong. [`precise`] leaves out what was not read;
//! [`offers`] when somebody else found out what that is; [`edited`] puts a file's new content in the
//! place of its old one.

mod build;
mod edited;
mod lookout;
mod offers;
mod packed;
mod pass;
mod precise;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::daemon::Daemon;
use super::memory::Memory;
use super::scan::{Doubt, Scanner, Standing, Turn};
use super::upload::Sources;
use crate::compiler::search::Search;
use crate::compiler::{FileFacts, Plan};
use crate::job::reads::PathList;
use crate::job::{Digest, Family, LocalReason, Tree};
use crate::store::stamps::{FileIndex, Known, now_ns};
use crate::store::walk::Seen;
use crate::toolchain::resolve::Resolved;

/// Whether a compile reads all files of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// It does: the compiler, or whoever ran it, said so.
    Exact,
    /// It does, unless an edit made it read others: it is what was read before the edit. Should a
    /// file be missing, the compiler knows better.
    Likely,
    /// It reads some of them: includes were followed without the compiler, and should a file be
    /// missing, the compiler knows better.
    Larger,
}

/// Everything a compile reads, and perhaps more.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The command's name in the memory.
    pub command: Digest,
    /// Digest of the tree.
    pub digest: Digest,
    /// The tree.
    pub tree: PackedTree,
    /// Size of its canonical bytes.
    pub tree_size: u64,
    /// The source file that the command names, if the compiler lists it under that name.
    pub main: Option<Digest>,
    /// Whether it reads all of it.
    pub extent: Extent,
    /// How its includes are followed, where an edit that changes none of them leaves the inputs what
    /// they are; see [`edited`].
    pub rules: Option<Rules>,
    /// Where each of its files can be read for upload.
    pub sources: Sources,
    /// Files that count as read although no compiler says so: the source, files whose being there
    /// is tested, files that flags and line marks name.
    pub always: PathList,
    /// What to look at again before the result is believed.
    pub seen: Vec<Seen>,
}

/// How inputs were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are those of last time.
    Remembered,
    /// By following the includes: more than the compiler reads.
    Scanned,
    /// By asking the compiler.
    Exact,
}

impl Mode {
    /// Name in the statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Remembered => "remembered",
            Self::Scanned => "scanned",
            Self::Exact => "exact",
        }
    }

    /// Name of the step in a report.
    pub fn step(self) -> &'static str {
        match self {
            Self::Remembered => "inputs (remembered)",
            Self::Scanned => "inputs (scanned)",
            Self::Exact => "inputs (exact)",
        }
    }
}

/// Which ways to find inputs are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Any.
    Any,
    /// Those that give no less than is read, though nobody may ever say that a file was missing:
    /// any but [`Extent::Likely`] inputs.
    Sure,
    /// None but the compiler's own word, now or remembered.
    Exact,
}

impl Way {
    /// Whether remembered inputs of this extent will do.
    fn allows(self, extent: Extent) -> bool {
        match self {
            Self::Any => true,
            Self::Sure => extent != Extent::Likely,
            Self::Exact => extent == Extent::Exact,
        }
    }
}

/// Inputs, and how they were found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The inputs.
    pub inputs: Arc<Inputs>,
    /// Their tree, where it is decoded already: to be held while the inputs are worked with.
    pub tree: Option<Arc<Tree>>,
    /// How they were found.
    pub mode: Mode,
    /// Why the compiler was asked.
    pub doubt: Option<Doubt>,
}

/// Inputs, and their tree if it is decoded: it stays so while somebody holds it.
pub type Held = (Arc<Inputs>, Option<Arc<Tree>>);

/// What is known, and who can be asked.
#[derive(Clone, Copy, Debug)]
pub struct Finder<'a> {
    /// Inputs of commands that were seen before.
    pub memory: &'a Memory,
    /// What is in files.
    pub index: &'a FileIndex<FileFacts>,
    /// Bounds the compilers started at once.
    pub passes: &'a Semaphore,
    /// Follows includes, if that is wanted.
    pub scanner: Option<&'a Arc<Scanner>>,
}

impl<'a> Finder<'a> {
    /// With what `daemon` knows.
    pub fn of(daemon: &'a Daemon) -> Self {
        let scans = daemon.settings.dist.scan.unwrap_or(true);
        Self {
            memory: &daemon.memory,
            index: &daemon.index,
            passes: &daemon.passes,
            scanner: scans.then_some(&daemon.scanner),
        }
    }
}

use build::Built;
pub use edited::{Edit, Rules};
pub use lookout::PRECOMPILED;
pub use offers::choose;
pub use packed::PackedTree;
pub use precise::About;

/// The command whose inputs are wanted.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The compiler.
    pub compiler: Resolved,
    /// Whose command line it speaks.
    pub family: Family,
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

/// What the dependency pass tells, or the scan.
#[derive(Debug, Default)]
pub struct Listing {
    /// The files as the command and its includes spell them; the source first.
    pub files: Vec<String>,
    /// What the scan saw in each of them, if it is no link; nothing when the compiler was asked.
    /// Beside all but the first it has looked for precompiled headers.
    pub known: Vec<Option<Known<FileFacts>>>,
    /// What the scan saw of folders.
    pub standing: Standing,
    /// Headers that were looked for and not found.
    pub missing: BTreeSet<String>,
    /// Where it was searched.
    pub search: Search,
    /// Whether the compiler takes the time from `SOURCE_DATE_EPOCH`.
    pub takes_epoch: bool,
    /// When the search began, Unix time in ns.
    pub began_ns: i64,
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

/// Finds the inputs of `reader`'s command.
///
/// # Errors
/// Why the compile has to run locally.
pub async fn discover(reader: Reader, finder: &Finder<'_>, way: Way) -> Result<Found, LocalReason> {
    let key = reader.key()?;
    let known = finder.memory.recall(&key);
    if let Some(inputs) = known.filter(|inputs| way.allows(inputs.extent)) {
        return Ok(Found { inputs, tree: None, mode: Mode::Remembered, doubt: None });
    }
    check_source(&reader)?;
    let reader = Arc::new(reader);
    let (scanned, turn) = match (way, finder.scanner) {
        (Way::Any | Way::Sure, Some(scanner)) => {
            scan_in_turn(key, &reader, scanner, finder.index).await?
        }
        (Way::Any | Way::Sure, None) => (Err(Doubt::Off), None),
        (Way::Exact, _) => (Err(Doubt::Missed), None),
    };
    let (built, mode, doubt) = match scanned {
        Ok(found) => (found, Mode::Scanned, None),
        Err(doubt) => (ask(key, &reader, finder, turn).await?, Mode::Exact, Some(doubt)),
    };
    let Built { inputs, tree, lookout } = built;
    let inputs = Arc::new(inputs);
    finder.memory.remember(&inputs, lookout);
    Ok(Found { inputs, tree: Some(tree), mode, doubt })
}

/// What following the includes gives.
type Scanned = Result<Built, Doubt>;

/// Follows the includes. Where the flags are new, somebody else may be asking the compiler about
/// them: that is waited for once. Else gives the turn to ask.
async fn scan_in_turn(
    command: Digest,
    reader: &Arc<Reader>,
    scanner: &Arc<Scanner>,
    index: &FileIndex<FileFacts>,
) -> Result<(Scanned, Option<Turn>), LocalReason> {
    let scanned = scan(command, reader, scanner, index).await?;
    if !matches!(scanned, Err(Doubt::NewFlags)) {
        return Ok((scanned, None));
    }
    let turn = scanner.turn(reader).await;
    // Even with the turn: an answer may have been learned just before.
    Ok((scan(command, reader, scanner, index).await?, turn))
}

/// Follows the includes. What must not leave may be read by nobody: then the compiler is asked.
async fn scan(
    command: Digest,
    reader: &Arc<Reader>,
    scanner: &Arc<Scanner>,
    index: &FileIndex<FileFacts>,
) -> Result<Scanned, LocalReason> {
    let (reader, scanner, index) = (reader.clone(), scanner.clone(), index.clone());
    let scanned = tokio::task::spawn_blocking(move || {
        let listing = scanner.scan(&reader, &index)?;
        build::build((command, Extent::Larger), &reader, &listing, &index).map_err(Doubt::Refused)
    });
    scanned.await.map_err(|_| LocalReason::Stopping)
}

/// Asks the compiler, and learns from it for the next scans; then the turn ends.
async fn ask(
    command: Digest,
    reader: &Arc<Reader>,
    finder: &Finder<'_>,
    turn: Option<Turn>,
) -> Result<Built, LocalReason> {
    let listing = match &reader.plan.dependency {
        Some(arguments) => pass::ask(reader, arguments, finder.passes).await?,
        None => Listing {
            files: vec![reader.plan.source.clone()],
            began_ns: now_ns(),
            ..Listing::default()
        },
    };
    let (reader, index) = (reader.clone(), finder.index.clone());
    let scanner = finder.scanner.filter(|_| reader.plan.dependency.is_some()).cloned();
    let built = tokio::task::spawn_blocking(move || {
        let exact = build::build((command, Extent::Exact), &reader, &listing, &index)?;
        if let Some(scanner) = scanner {
            let is_complete = |scanned: &Listing| {
                // A refusal says nothing about the next source.
                build::build((command, Extent::Larger), &reader, scanned, &index)
                    .map_or(true, |scanned| holds_all(&scanned.inputs, &exact.inputs))
            };
            scanner.learn(&reader, &listing, &index, is_complete);
        }
        drop(turn);
        Ok(exact)
    });
    built.await.map_err(|_| LocalReason::Stopping)?
}

/// Whether every file and link of `few` is in `many`.
fn holds_all(many: &Inputs, few: &Inputs) -> bool {
    let there: HashSet<&std::path::Path> =
        many.seen.iter().map(|seen| seen.path.as_path()).collect();
    few.seen.iter().all(|seen| seen.stamp.is_none() || there.contains(seen.path.as_path()))
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

/// The last part of a path, or of a name in an include.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The folder of a full path; of one in the root, nothing.
pub(super) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The folders in which a compile works and writes, under all names that it may give them.
pub(super) fn working_folders(
    plan: &Plan,
    directory: &str,
    logical_directory: &str,
) -> impl Iterator<Item = String> {
    let written = plan.outputs.iter().map(|output| absolute(directory, &output.path));
    let folders = written.map(|path| folder_of(&path).to_owned());
    let own = [directory.to_owned(), logical_directory.to_owned()];
    own.into_iter().chain(folders).filter(|folder| !matches!(folder.as_str(), "" | "/"))
}

/// `path` seen from `directory`; not cleaned, because `..` after a link means something else.
pub(super) fn absolute(directory: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") }
}
