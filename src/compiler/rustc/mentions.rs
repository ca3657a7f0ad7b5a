//! Which other crates a compiled crate speaks of.
//!
//! A crate's metadata names the crates that it uses by name, hash, and the extra part of their file
//! names (`CrateDep::extra_filename` in `rustc_metadata`), which cargo makes of sixteen hexadecimal
//! digits. That text stands in the bytes as it is, in `.rmeta` and in `.rlib` alike, in every version
//! of the compiler; so looking for texts of that shape finds every crate that is used, and perhaps
//! some more, without knowing the format.

use std::collections::BTreeSet;

use memchr::{memchr_iter, memmem};
use serde::{Deserialize, Serialize};

/// Digits of an extra part of cargo's.
const DIGITS: usize = 16;
/// How archives and bare metadata begin.
const MAGICS: [&[u8]; 2] = [b"!<arch>\n", b"rust\0\0\0"];

/// The digits of an extra part, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Extra(u64);

impl Extra {
    /// That of a file's name without its suffix, if it is of cargo's shape.
    pub fn of_stem(stem: &str) -> Option<Self> {
        let (_, digits) = stem.rsplit_once('-')?;
        (digits.len() == DIGITS).then(|| Self::of_digits(digits.as_bytes())).flatten()
    }

    fn of_digits(digits: &[u8]) -> Option<Self> {
        let value = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        digits
            .iter()
            .try_fold(0_u64, |number, byte| Some(number << 4 | u64::from(value(*byte)?)))
            .map(Self)
    }
}

/// What can be loaded: macros use nothing that the compiler would look for, and say so by a symbol
/// (`rustc_proc_macro_decls` in `rustc_session`). Other crates have one for their metadata
/// (`metadata_symbol_name`), native libraries have neither.
const LOADED: &[u8] = b"\x7fELF";
const MACROS: &[u8] = b"__rustc_proc_macro_decls";
const METADATA: &[u8] = b"rust_metadata_";
/// Bytes of the length between the two beginnings of metadata that is not compressed, as older
/// compilers do (`create_compressed_metadata_file` in `rustc_codegen_ssa`).
const LENGTH: usize = 8;

/// Most bytes of any of these texts, and of what belongs together with one.
const TEXT_BYTES_MAX: usize = 64;

/// What the beginning of a file says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// An archive or bare metadata.
    Plain,
    /// Something that can be loaded.
    Loaded,
    /// No crate.
    Other,
}

impl Form {
    fn of(start: &[u8]) -> Self {
        if MAGICS.iter().any(|magic| start.starts_with(magic)) {
            Self::Plain
        } else if start.starts_with(LOADED) {
            Self::Loaded
        } else {
            Self::Other
        }
    }
}

/// Looks for the extra parts in the bytes of a file, one piece after the other.
#[derive(Debug, Default)]
pub struct Scan {
    form: Option<Form>,
    /// The end of what came so far, where a text may have begun.
    rest: Vec<u8>,
    has_macros: bool,
    has_metadata: bool,
    is_plain: bool,
    found: BTreeSet<Extra>,
}

impl Scan {
    /// Takes the next piece.
    pub fn take(&mut self, piece: &[u8]) {
        if self.form == Some(Form::Other) {
            return;
        }
        self.rest.extend_from_slice(piece);
        if self.form.is_none() && self.rest.len() < TEXT_BYTES_MAX {
            return;
        }
        self.look();
    }

    /// The extra parts, none in a file that is no crate; `None` for a crate where nobody can read them
    /// off.
    pub fn end(mut self) -> Option<BTreeSet<Extra>> {
        self.look();
        match self.form {
            Some(Form::Plain) => Some(self.found),
            // Macros use nothing that the compiler would look for.
            Some(Form::Loaded) if self.has_macros || !self.has_metadata => Some(BTreeSet::new()),
            Some(Form::Loaded) => self.is_plain.then_some(self.found),
            Some(Form::Other) | None => Some(BTreeSet::new()),
        }
    }

    /// Looks through what there is, and keeps its end.
    fn look(&mut self) {
        let bytes = &self.rest;
        match self.form.get_or_insert_with(|| Form::of(bytes)) {
            Form::Other => return self.rest = Vec::new(),
            Form::Plain => {}
            Form::Loaded => {
                let has = |text| memmem::find(bytes, text).is_some();
                self.has_macros = self.has_macros || has(MACROS);
                self.has_metadata = self.has_metadata || has(METADATA);
                self.is_plain = self.is_plain || has_plain_metadata(bytes);
            }
        }
        let extra = |at: usize| Extra::of_digits(bytes.get(at + 1..at + 1 + DIGITS)?);
        self.found.extend(memchr_iter(b'-', bytes).filter_map(extra));
        let done = bytes.len().saturating_sub(TEXT_BYTES_MAX);
        self.rest.drain(..done);
    }
}

fn has_plain_metadata(bytes: &[u8]) -> bool {
    let [_, magic] = MAGICS;
    memmem::find_iter(bytes, magic).any(|at| {
        let version = 1;
        let again = at + magic.len() + version + LENGTH;
        bytes.get(again..).is_some_and(|rest| rest.starts_with(magic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in one piece, and in pieces of every length.
    fn found(bytes: &[u8]) -> Option<BTreeSet<Extra>> {
        let in_pieces = |length| {
            let mut scan = Scan::default();
            bytes.chunks(length).for_each(|piece| scan.take(piece));
            scan.end()
        };
        let whole = in_pieces(bytes.len());
        for length in 1..bytes.len() {
            assert_eq!(in_pieces(length), whole, "in pieces of {length}");
        }
        whole
    }

    #[test]
    fn texts_of_the_shape_are_found() {
        let bytes =
            b"rust\0\0\0\x0a..serde-00000000000000ff.x-123-0123456789abcdeg-fedcba9876543210";
        let wanted = ["libserde-00000000000000ff", "x-fedcba9876543210"];
        let wanted = wanted.map(|stem| Extra::of_stem(stem).unwrap());
        assert_eq!(found(bytes), Some(wanted.into()));
        let later = [&b"!<arch>\n"[..], &[b'.'; 300], &bytes[8..], &[b'.'; 100]].concat();
        assert_eq!(found(&later), Some(wanted.into()));
        let none = Some(BTreeSet::new());
        assert_eq!(found(b"text -00000000000000ff"), none);
        assert_eq!(Scan::default().end(), none);
        let loaded = |rest: &[u8]| [b"\x7fELF..rust_metadata_a_0..", rest].concat();
        let plain = loaded(b"rust\0\0\0\x0a........rust\0\0\0\x0a-00000000000000ff");
        assert_eq!(found(&plain).unwrap().len(), 1);
        let compressed = loaded(b"rust\0\0\0\x0a-00000000000000ff");
        assert_eq!(found(&compressed), None);
        assert_eq!(found(b"\x7fELF, of C -00000000000000ff"), none);
        assert_eq!(found(&loaded(b"__rustc_proc_macro_decls_0 -00000000000000ff")), none);
        for stem in ["libserde", "libserde-00000000000000F0", "libserde-0", "-"] {
            assert_eq!(Extra::of_stem(stem), None, "{stem}");
        }
    }
}
