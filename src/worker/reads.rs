//! What a compile read, found out without changing a byte of what it writes.
//!
//! Either the command itself writes a make rule that names every file (`-MD`), or a variable makes
//! the compiler write a list of its own into the sandbox' temporary folder: gcc reads
//! `SUNPRO_DEPENDENCIES` only when the command asks for no dependencies, and clang's list is beside
//! all others. (With `-MMD`, clang's variables would change the rule, and gcc's are not read: then
//! nobody can tell.) `worker/tests/reads.rs` holds every output equal with and without.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;

use rustix::fs::{Mode, OFlags, openat};

use super::layout::{Layout, Place};
use super::outputs::Gathered;
use super::prepare::Prepared;
use crate::compiler::depfile;
use crate::job::reads::{PathList, Reads, ReadsAsked, Way};
use crate::job::{Action, Command, Node, Tree, TreePath};

/// The compiler's own list.
const LIST: &str = ".jetcc-reads";
/// Folder of the list, for the compiler.
const TEMPORARY: &str = "/tmp";
/// Most names in a list, each as often as it was read.
const NAMES_MAX: usize = 100_000;

/// `command` with what makes the compiler tell what it reads.
pub(super) fn asking(command: &Command, asked: Option<&ReadsAsked>) -> Command {
    let mut command = command.clone();
    if let Some(ReadsAsked { way, .. }) = asked {
        let more = variables(way, &format!("{TEMPORARY}/{LIST}"));
        command.environment.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    command
}

/// The variables that make a compiler write its list to `path`.
pub(super) fn variables(way: &Way, path: &str) -> Vec<(&'static str, String)> {
    match way {
        Way::Output(_) => Vec::new(),
        // The second word is the rule's target.
        Way::MakeRule => vec![("SUNPRO_DEPENDENCIES", format!("{path} x"))],
        Way::HeaderList => {
            vec![("CC_PRINT_HEADERS", "1".into()), ("CC_PRINT_HEADERS_FILE", path.to_owned())]
        }
    }
}

/// What the compile of `action` read; `None` when it was not asked or does not tell for sure.
pub(super) fn found(
    prepared: &Prepared,
    gathered: &Gathered,
    action: &Action,
    asked: Option<&ReadsAsked>,
    [inputs, toolchain]: [&Tree; 2],
) -> Option<Reads> {
    let ReadsAsked { way, always } = asked?;
    // Lists do not tell such names from several others.
    if inputs.iter().any(|(path, _)| path.as_str().contains(['\n', '\\'])) {
        return None;
    }
    let names = match way {
        Way::Output(path) => {
            let file = gathered.files.iter().find(|file| file.path == *path)?;
            let (_, body) = file.found.as_ref()?;
            depfile::parse(&body.read(depfile::BYTES_MAX as u64).ok()?, NAMES_MAX).ok()?
        }
        Way::MakeRule => depfile::parse(&list(prepared)?, NAMES_MAX).ok()?,
        Way::HeaderList => lines(&list(prepared)?)?,
    };
    let mut read = BTreeSet::new();
    for name in names {
        let path = absolute(&action.command.directory, &name);
        match inputs.resolve_file(&path) {
            Some(file) => drop(read.insert(file.clone())),
            // The toolchain is part of the command.
            None => drop(toolchain.resolve_file(&path)?),
        }
    }
    let is_file = |path: &&TreePath| matches!(inputs.get(path), Some(Node::File { .. }));
    read.extend(always.paths().iter().filter(is_file).cloned());
    Some(Reads {
        command: action.command_key(),
        whole: action.inputs,
        precise: inputs.restricted(&read).digest(),
        paths: PathList::new(read)?,
    })
}

/// The compiler's own list.
fn list(prepared: &Prepared) -> Option<Vec<u8>> {
    let folder = File::open(prepared.folder.place(place(&prepared.layout)?)).ok()?;
    // Whatever the compile may have put there: neither a link nor a pipe leads or holds us.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(&folder, LIST, flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(depfile::BYTES_MAX as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= depfile::BYTES_MAX).then_some(bytes)
}

/// Where the list lies, unless the inputs have something there or it is a wanted output.
fn place(layout: &Layout) -> Option<Place> {
    let number = (0..layout.writable.len()).find(|number| layout.is_temporary(*number))?;
    let place = Place::Writable(number);
    let is_taken = layout.files.iter().any(|file| file.place == place && file.path == LIST)
        || layout.links.iter().any(|link| link.place == place && link.path == LIST)
        || layout.targets.iter().any(|target| target.folder == number && target.name == LIST);
    (!is_taken).then_some(place)
}

/// The names in clang's list, one a line.
fn lines(bytes: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let names: BTreeSet<&str> = text.lines().collect();
    (names.len() <= NAMES_MAX).then(|| names.into_iter().map(str::to_owned).collect())
}

fn absolute(directory: &str, name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("{directory}/{name}") }
}
