//! Checkouts of one project in different folders, named by `base_dirs`: whose results are the same?
//!
//! A result is shared only if nothing in it depends on where the checkout is. A path can get into a
//! result in three ways, and each is closed: the compiler is told it (then no argument may name the
//! base, but for prefix maps of exactly that base, and paths that such a map covers); the compiler
//! finds it out by itself, from its folder or from links (then it stands in what was written, and
//! what was written is searched; what cannot be searched, because it is compressed or encoded, is not
//! shared); or the files differ (then the input trees do). Programs that look at `__FILE__` without
//! writing it down are why the arguments count too.

use super::Kept;
use crate::job::{Action, ActionKey, Digest, Node, Tree};

/// Raised whenever equal keys could mean different bytes.
const KEY_VERSION: &str = "base-1";
/// Largest output that is searched, in bytes; what is larger is not shared.
const SEARCHED_BYTES_MAX: u64 = 256 << 20;
/// Stands for the base in a key; no path, argument or variable can hold it.
const MARK: &str = "\0base";
/// Flags whose OLD=NEW rewrites paths in outputs.
const MAPS: [&str; 5] = [
    "-ffile-prefix-map=",
    "-fmacro-prefix-map=",
    "-fdebug-prefix-map=",
    "-fcoverage-prefix-map=",
    "-fprofile-prefix-map=",
];
/// Those of them that rewrite what a program can see of its own path.
const MACRO_MAPS: usize = 2;
/// Flags that are followed by a path, in the same word or the next one.
const PATH_FLAGS: [&str; 7] =
    ["-I", "-isystem", "-iquote", "-idirafter", "-include", "-imacros", "-o"];
/// Flags of folders whose paths gcc may replace by shorter ones, which it finds by itself.
const SYSTEM_FLAGS: [&str; 4] = ["-isystem", "-idirafter", "-cxx-isystem", "--sysroot"];

/// The folder that a checkout is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base(String);

impl Base {
    /// The innermost of `bases` that `directory` is in. Names with letters that a compiler could
    /// write differently are passed over.
    pub(super) fn of<'a>(bases: impl Iterator<Item = &'a str>, directory: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
        bases
            .map(|base| base.trim_end_matches('/'))
            .filter(|base| base.len() > 1 && base.starts_with('/') && base.chars().all(plain))
            .filter(|base| within(directory, base))
            .max_by_key(|base| base.len())
            .map(|base| Self(base.to_owned()))
    }

    /// Its path.
    pub(super) fn path(&self) -> &str {
        &self.0
    }

    /// What makes two compiles the same wherever their checkouts are; `None` when that cannot be
    /// shown of this one.
    pub(super) fn key(&self, action: &Action, inputs: &Tree) -> Option<ActionKey> {
        let command = &action.command;
        let told = command.environment.values().chain([&command.executable]);
        let is_open = !told.clone().any(|text| self.is_in(text.as_bytes()))
            && within(&command.directory, &self.0)
            && self.allows(&command.arguments);
        if !is_open {
            return None;
        }
        let mapped = |text: &str| text.replace(&self.0, MARK);
        let moved = |path: &str| match path.strip_prefix(&self.0) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{MARK}{rest}"),
            _ => path.to_owned(),
        };
        let arguments: Vec<String> = command.arguments.iter().map(|text| mapped(text)).collect();
        let outputs: Vec<_> =
            action.outputs.iter().map(|output| (moved(&output.path), output.required)).collect();
        let tree: Vec<_> = inputs.iter().map(|(path, node)| (moved(path.as_str()), node)).collect();
        // A link that leads to a place in the checkout by its full path.
        let links = inputs.iter().filter_map(|(_, node)| match node {
            Node::Symlink { target } => Some(target),
            Node::File { .. } | Node::Directory => None,
        });
        if links.into_iter().any(|target| self.is_in(target.as_bytes())) {
            return None;
        }
        let same = (
            (KEY_VERSION, &action.pool, action.toolchain),
            (&command.executable, arguments, &command.environment, moved(&command.directory)),
            (tree, outputs, &action.terminal),
        );
        Some(Digest::of(&rmp_serde::to_vec(&same).ok()?).into())
    }

    /// Whether nothing that was written depends on the base.
    pub(super) fn is_absent_from(&self, kept: &Kept) -> bool {
        let streams = [&kept.stdout, &kept.stderr];
        streams.into_iter().all(|stream| is_searchable(stream) && !self.is_in(stream))
            && kept.outputs.iter().all(|product| {
                let bytes = product.body.read(SEARCHED_BYTES_MAX);
                bytes.is_ok_and(|bytes| is_searchable(&bytes) && !self.is_in(&bytes))
            })
    }

    /// A path of a result, seen from outside the checkout; and back.
    pub(super) fn leave(&self, path: &str) -> String {
        match path.strip_prefix(&self.0) {
            Some(rest) if rest.starts_with('/') => format!("{MARK}{rest}"),
            _ => path.to_owned(),
        }
    }

    /// The reverse of [`Base::leave`], for this checkout.
    pub(super) fn enter(&self, path: &str) -> String {
        match path.strip_prefix(MARK) {
            Some(rest) => format!("{}{rest}", self.0),
            None => path.to_owned(),
        }
    }

    /// Whether the arguments name the base only where that makes no difference.
    fn allows(&self, arguments: &[String]) -> bool {
        let mut is_mapped = false;
        for argument in arguments {
            let map = MAPS.iter().position(|flag| argument.starts_with(flag));
            let Some(number) = map else { continue };
            let Some((old, new)) = argument[MAPS[number].len()..].split_once('=') else {
                return false;
            };
            // A map of a folder above leaves a part of the base in place.
            let above = within(&self.0, old.trim_end_matches('/')) || self.0.starts_with(old);
            let exact = old.trim_end_matches('/') == self.0;
            if self.is_in(new.as_bytes()) || (above && !exact) {
                return false;
            }
            is_mapped |= exact && number < MACRO_MAPS;
        }
        let words = [""].into_iter().chain(arguments.iter().map(String::as_str));
        words.zip(arguments).all(|(before, argument)| {
            let system = SYSTEM_FLAGS.iter().find_map(|flag| argument.strip_prefix(flag));
            let folder = match system {
                Some(joined) if !joined.is_empty() => Some(joined.trim_start_matches('=')),
                _ if SYSTEM_FLAGS.contains(&before) => Some(argument.as_str()),
                _ => None,
            };
            if folder.is_some_and(|folder| !folder.starts_with('/')) {
                return false;
            }
            let is_map = MAPS.iter().any(|flag| argument.starts_with(flag));
            !self.is_in(argument.as_bytes())
                || is_map
                || (is_mapped && self.is_path(before, argument))
        })
    }

    /// Whether an argument that names the base is a path and nothing else.
    fn is_path(&self, before: &str, argument: &str) -> bool {
        let takes_text = before.starts_with("-D")
            || before.starts_with("-X")
            || before.starts_with("-U")
            || before.starts_with("-A");
        let joined = PATH_FLAGS.iter().find_map(|flag| argument.strip_prefix(flag));
        let path = joined.unwrap_or(argument);
        let names_once = path.matches(&self.0).count() == 1;
        !takes_text && within(path, &self.0) && names_once
    }

    /// Whether the base's path, or the same as part of a symbol's name, is in `bytes`.
    fn is_in(&self, bytes: &[u8]) -> bool {
        let symbol: String =
            self.0.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let find = |text: &str| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        find(&self.0) || find(&symbol)
    }
}

/// Whether `path` is `folder` or below it, by its text, without ways back out.
fn within(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('/') && !rest.contains("/..")))
}

/// Whether every text in `bytes` can be found by looking for its bytes: in text, and in objects that
/// hold nothing compressed and no other compiler's code.
fn is_searchable(bytes: &[u8]) -> bool {
    match bytes.starts_with(b"\x7fELF") {
        true => sections_are_plain(bytes) == Some(true),
        false => !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok(),
    }
}

/// Reads the section headers of an ELF file of 64 bits, little endian (`elf(5)`); `None` for any
/// other.
fn sections_are_plain(bytes: &[u8]) -> Option<bool> {
    const COMPRESSED: u64 = 0x800;
    const OPAQUE: [&[u8]; 4] = [b".zdebug", b".gnu.lto_", b".llvm", b".gnu.debuglto_"];
    let number = |at: usize, size: usize| {
        let field = bytes.get(at..at.checked_add(size)?)?;
        let mut wide = [0; 8];
        wide[..size].copy_from_slice(field);
        Some(u64::from_le_bytes(wide))
    };
    if bytes.get(4..6)? != [2, 1] {
        return None;
    }
    let table = usize::try_from(number(0x28, 8)?).ok()?;
    let (count, names) = (number(0x3c, 2)?, usize::try_from(number(0x3e, 2)?).ok()?);
    // Objects with very many sections keep the numbers elsewhere.
    if count == 0 || count >= 0xff00 || names >= usize::try_from(count).ok()? {
        return None;
    }
    let header = |index: usize| table.checked_add(index * 0x40);
    let names = usize::try_from(number(header(names)?.checked_add(0x18)?, 8)?).ok()?;
    for index in 0..usize::try_from(count).ok()? {
        let at = header(index)?;
        let name = names.checked_add(usize::try_from(number(at, 4)?).ok()?)?;
        let flags = number(at.checked_add(8)?, 8)?;
        let is_opaque = OPAQUE
            .iter()
            .any(|start| bytes.get(name..).is_some_and(|name| name.starts_with(start)));
        if flags & COMPRESSED != 0 || is_opaque {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
#[path = "base_tests.rs"]
mod tests;
