//! Finds what a command includes without starting its compiler.
//!
//! Called by [`super::inputs`] for commands that were never seen. Promises: what the compiler would
//! read is among what is found, in folders that are searched as the compiler searches them; more may
//! be found, because `#if` is not evaluated. Whatever cannot be promised is a [`Doubt`], and the
//! compiler is asked.
//!
//! Reading order: [`crate::compiler::includes`] (what one file says), `searches` (in which folders),
//! `presence` (which names stand there), `follow` (from file to file); `turns` (who asks the compiler
//! about new flags), `kept` (what is left for the next daemon).

mod follow;
mod kept;
mod presence;
mod searches;
mod turns;

use std::io;
use std::path::PathBuf;

use memchr::memmem;

use self::presence::Presence;
pub use self::presence::Standing;
use self::searches::{Learned, Searches};
pub use self::turns::Turn;
use self::turns::Turns;
use super::inputs::{Listing, Reader};
use crate::compiler::{FileFacts, Language};
use crate::job::{Family, LocalReason};
use crate::store::stamps::{FileIndex, now_ns};

/// Starts of flags under which includes are searched or read in ways that the scan does not know.
const FLAGS: [&str; 5] = ["-finput-charset", "-fms-", "-Wp,", "-Xpreprocessor", "-Xclang"];
/// The same for clang alone: its driver looks below them before it names the folders.
const CLANG_FLAGS: [&str; 4] = ["--sysroot", "-isysroot", "--gcc-toolchain", "-F"];
/// The same for gcc alone, whose driver names folders below them where some are there...
const GCC_FLAGS: [&str; 2] = ["-B", "--prefix"];
/// ...and below those in this variable.
const GCC_VARIABLE: &str = "COMPILER_PATH";

/// Why the compiler has to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The scan is switched off.
    Off,
    /// No command with these flags was seen yet, or its folders are not what they were.
    NewFlags,
    /// A flag changes how includes are read.
    Flags,
    /// With such flags the compiler reads more than includes say.
    Incomplete,
    /// An include names a macro that may stand for anything.
    Macro,
    /// An include is written in a way that is not understood.
    Spelling,
    /// A file is too large to be read here.
    TooLarge,
    /// There are too many files.
    TooMany,
    /// Something stands there that cannot be read, or is precompiled.
    Unreadable,
    /// What was found cannot leave; what is really read may.
    Refused(LocalReason),
    /// A worker missed a file.
    Missed,
}

impl Doubt {
    /// Name in the statistics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NewFlags => "new-flags",
            Self::Flags => "flags",
            Self::Incomplete => "incomplete",
            Self::Macro => "macro",
            Self::Spelling => "spelling",
            Self::TooLarge => "too-large",
            Self::TooMany => "too-many",
            Self::Unreadable => "unreadable",
            Self::Refused(reason) => reason.code(),
            Self::Missed => "missed",
        }
    }
}

/// What all scans share.
#[derive(Debug)]
pub struct Scanner {
    searches: Searches,
    presence: Presence,
    turns: Turns,
}

impl Scanner {
    /// With what is kept in the file `searches`, which is read when the first flags are asked for.
    pub fn new(searches: PathBuf) -> Self {
        let (presence, turns) = (Presence::default(), Turns::default());
        Self { searches: Searches::new(searches), presence, turns }
    }

    /// Writes what was learned, if that is not written yet. Blocks for some ms.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self) -> io::Result<()> {
        self.searches.keep()
    }

    /// The turn to ask the compiler about `reader`'s flags, [`Doubt::NewFlags`]; `None` when it was
    /// somebody else's, and has ended.
    pub async fn turn(&self, reader: &Reader) -> Option<Turn> {
        self.turns.take(searches::key(reader)?).await
    }

    /// Lists what `reader`'s command may read.
    ///
    /// # Errors
    /// Why the compiler has to be asked.
    pub fn scan(&self, reader: &Reader, index: &FileIndex<FileFacts>) -> Result<Listing, Doubt> {
        check(reader)?;
        let key = searches::key(reader).ok_or(Doubt::Flags)?;
        let learned = self.searches.recall(&key).ok_or(Doubt::NewFlags)?;
        if !learned.complete {
            return Err(Doubt::Incomplete);
        }
        self.list(reader, &learned, index)
    }

    /// Learns from what the compiler said, `exact`, in which folders commands with these flags
    /// search. `is_complete` compares what a scan would have found.
    pub fn learn(
        &self,
        reader: &Reader,
        exact: &Listing,
        index: &FileIndex<FileFacts>,
        is_complete: impl FnOnce(&Listing) -> bool,
    ) {
        let Some(key) = searches::key(reader).filter(|_| check(reader).is_ok()) else { return };
        if self.searches.recall(&key).is_some() {
            return;
        }
        let Some(mut learned) = Learned::new(reader, exact) else { return };
        // A doubt says nothing about the next source.
        learned.complete = match self.list(reader, &learned, index) {
            Ok(listing) => is_complete(&listing),
            Err(_) => true,
        };
        self.searches.learn(key, learned);
    }

    fn list(
        &self,
        reader: &Reader,
        learned: &Learned,
        index: &FileIndex<FileFacts>,
    ) -> Result<Listing, Doubt> {
        let began_ns = now_ns();
        let found = follow::follow(reader, &learned.search, &self.presence, index)?;
        Ok(Listing {
            files: found.files,
            known: found.known,
            standing: found.standing,
            missing: found.missing,
            search: learned.search.clone(),
            takes_epoch: learned.takes_epoch,
            began_ns,
        })
    }
}

/// What gcc and clang say of a file that is not there.
const NOT_FOUND: [&[u8]; 2] = [b"No such file or directory", b"file not found"];

/// Whether the compiler's messages say that a file is not there.
pub fn misses_file(stderr: &[u8]) -> bool {
    NOT_FOUND.iter().any(|text| memmem::find(stderr, text).is_some())
}

/// Whether the scan knows how this command's includes are read.
fn check(reader: &Reader) -> Result<(), Doubt> {
    let is_known = |argument: &String| {
        let starts = |flags: &[&str]| flags.iter().any(|flag| argument.starts_with(flag));
        let of_family = match reader.family {
            Family::Gcc => starts(&GCC_FLAGS),
            Family::Clang => starts(&CLANG_FLAGS),
        };
        !(starts(&FLAGS) || of_family)
    };
    let is_gccs = reader.family == Family::Gcc && reader.travelling.contains_key(GCC_VARIABLE);
    let is_plain =
        matches!(reader.plan.language, Language::C | Language::Cxx | Language::AssemblerWithCpp);
    if is_plain && !is_gccs && reader.plan.preprocessing.search.iter().all(is_known) {
        Ok(())
    } else {
        Err(Doubt::Flags)
    }
}
