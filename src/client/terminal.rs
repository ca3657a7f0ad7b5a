//! The action whose messages are for the wrapper's terminal: the same command, with that terminal and
//! the variables that compilers read for one.
//!
//! gcc colours by `TERM` and measures standard input. clang colours by what the terminal's description
//! says, a file of this machine; ncurses takes the description itself in a variable since 6.1. Its
//! texts stay here: clang asks for the number of colours.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::ipc::Diagnostics;
use super::request::Request;
use crate::compiler::environment::{TERMINFO, TERMINFO_INSIDE, terminal_environment};
use crate::job::{Action, Family, Terminal, Tree};

/// Largest description, in bytes, as for ncurses.
const DESCRIPTION_BYTES_MAX: u64 = 32 << 10;
/// Six numbers of 16 bits (`term(5)`): what it is, the bytes of its names, its flags, its numbers; then
/// its texts, and all their bytes.
const HEADER_BYTES: usize = 12;
const HEADER_TEXTS: Range<usize> = 8..HEADER_BYTES;
/// A description whose numbers have 32 bits.
const WIDE: usize = 0o1036;
/// Where distributions have descriptions, in the order in which ncurses looks.
const FOLDERS: [&str; 4] =
    ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"];
/// Libraries that read descriptions.
const LIBRARIES: [&str; 4] = ["libtinfo.so.", "libtinfow.so.", "libncurses.so.", "libncursesw.so."];

/// Whether a compiler finds a description in a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptions {
    /// It does, or needs none.
    InVariable,
    /// Its library is too old.
    InFiles,
}

impl Descriptions {
    /// How the compiler of a toolchain's `tree` finds them.
    pub fn of(tree: &Tree) -> Self {
        let mut names = tree.iter().filter_map(|(path, _)| Some(path.as_str().rsplit_once('/')?.1));
        match names.any(is_old_library) {
            true => Self::InFiles,
            false => Self::InVariable,
        }
    }
}

/// `libtinfo.so.5.9`; a name without a minor version is a link.
fn is_old_library(name: &str) -> bool {
    let version = LIBRARIES.iter().find_map(|start| name.strip_prefix(start));
    let numbers = version.and_then(|version| version.split_once('.'));
    let first = |text: &str| text.split('.').next().and_then(|number| number.parse::<u32>().ok());
    numbers.is_some_and(|(major, rest)| (first(major), first(rest)) < (Some(6), Some(1)))
}

/// The action that answers `plain`'s request on its terminal; `None` where there is no terminal, or
/// nobody can tell what `compiler` would write to it.
pub(super) fn action(
    plain: &Action,
    request: &Request,
    compiler: Family,
    descriptions: Descriptions,
) -> Option<Action> {
    let Diagnostics::Terminal(terminal) = request.diagnostics else { return None };
    let mut variables = terminal_environment(&request.environment)?;
    if compiler == Family::Clang {
        let term = variables.get("TERM").map_or("", String::as_str);
        let description = description(&request.environment, term, descriptions)?;
        variables.extend(description.map(|text| (TERMINFO.to_owned(), text)));
    }
    Some(with(plain.clone(), terminal, variables))
}

fn with(mut action: Action, terminal: Terminal, variables: BTreeMap<String, String>) -> Action {
    action.command.environment.extend(variables);
    action.terminal = Some(terminal);
    action
}

/// What ncurses finds for the terminal `term`, as [`TERMINFO`] may say it: `Some(None)` for nothing,
/// `None` where that cannot be said.
#[expect(clippy::option_option, reason = "nothing found is an answer that travels")]
fn description(
    environment: &BTreeMap<OsString, OsString>,
    term: &str,
    descriptions: Descriptions,
) -> Option<Option<String>> {
    let set = |name: &str| environment.get(OsStr::new(name)).filter(|value| !value.is_empty());
    if descriptions == Descriptions::InFiles || set("TERMINFO_DIRS").is_some() {
        return None;
    }
    if term.is_empty() || term.contains('/') {
        return Some(None);
    }
    let own = set(TERMINFO);
    if let Some(own) = own.and_then(|own| own.to_str())
        && TERMINFO_INSIDE.iter().any(|start| own.starts_with(start))
    {
        return Some(Some(own.to_owned()));
    }
    let home = set("HOME").map(|home| Path::new(home).join(".terminfo"));
    let folders = own.map(PathBuf::from).into_iter().chain(home);
    let mut folders = folders.chain(FOLDERS.map(PathBuf::from));
    let Some(file) = folders.find_map(|folder| entry(&folder, term)) else { return Some(None) };
    let mut bytes = Vec::new();
    file.take(DESCRIPTION_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    let is_whole = bytes.len() as u64 <= DESCRIPTION_BYTES_MAX;
    without_texts(&bytes).filter(|_| is_whole).map(|short| Some(in_hex(&short)))
}

/// The description of `term` in `folder`: below its first letter, or that letter's code.
fn entry(folder: &Path, term: &str) -> Option<File> {
    let first = term.chars().next()?;
    let letters = [first.to_string(), format!("{:02x}", u32::from(first))];
    letters.iter().find_map(|letter| {
        let file = File::open(folder.join(letter).join(term)).ok()?;
        file.metadata().is_ok_and(|found| found.is_file()).then_some(file)
    })
}

/// The description's names, flags and numbers.
fn without_texts(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = bytes.get(..HEADER_BYTES)?;
    let number = |at: usize| usize::from(u16::from_le_bytes([header[2 * at], header[2 * at + 1]]));
    let width = if number(0) == WIDE { 4 } else { 2 };
    let end = (HEADER_BYTES + number(1) + number(2)).next_multiple_of(2) + number(3) * width;
    let mut short = bytes.get(..end)?.to_vec();
    short[HEADER_TEXTS].fill(0);
    Some(short)
}

fn in_hex(bytes: &[u8]) -> String {
    let mut text = String::from(TERMINFO_INSIDE[0]);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn libraries_that_look_into_files_alone_are_known() {
        for old in ["libtinfo.so.5.9", "libncursesw.so.6.0", "libncurses.so.5.9.1"] {
            assert!(is_old_library(old), "{old}");
        }
        for new in ["libtinfo.so.6.1", "libtinfo.so.6", "libtinfo.so.10.0", "libc.so.5.1", "x"] {
            assert!(!is_old_library(new), "{new}");
        }
    }

    #[test]
    fn the_description_is_the_one_that_ncurses_finds() {
        let folder = tempfile::tempdir().unwrap();
        let find = |pairs: &[(&str, &str)], term| {
            description(&environment(pairs), term, Descriptions::InVariable)
        };
        let own = folder.path().to_str().unwrap();
        std::fs::create_dir_all(folder.path().join(".terminfo/6f")).unwrap();
        let described = |colours: u8| {
            let numbers = [0x1a, 1, 2, 0, 1, 0, 1, 0, 1, 0, 2, 0];
            [&numbers[..], b"x\0", &[1, 0], &[colours, 0], &[0, 0], b"t\0"].concat()
        };
        std::fs::write(folder.path().join(".terminfo/6f/one"), described(8)).unwrap();
        std::fs::create_dir_all(folder.path().join("o")).unwrap();
        std::fs::write(folder.path().join("o/one"), described(9)).unwrap();
        std::fs::write(folder.path().join("o/oops"), &described(9)[..17]).unwrap();
        let short =
            |colours| Some(Some(format!("hex:1A0102000100010000000000780001000{colours}00")));
        assert_eq!(find(&[("HOME", own)], "one"), short(8));
        let both = [("HOME", own), ("TERMINFO", own)];
        assert_eq!((find(&both, "one"), find(&both, "oops")), (short(9), None));
        assert_eq!(find(&[("TERMINFO", "b64:aaaa")], "one"), Some(Some("b64:aaaa".into())));
        for term in ["one", "", "../o/one", "none-of-this-name"] {
            assert_eq!(find(&[], term), Some(None), "{term}");
        }
        assert_eq!(find(&[("TERMINFO_DIRS", own)], "one"), None);
        assert_eq!(description(&environment(&[]), "one", Descriptions::InFiles), None);
    }
}
