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
/// (`rustc_proc_macro_decls` in `rustc_session`). The metadata of other crates in this form is compressed.
const LOADED: &[u8] = b"\x7fELF";
const MACROS: &[u8] = b"__rustc_proc_macro_decls";

/// Whether the bytes are those of a crate whose uses nobody can read off.
pub fn is_closed(bytes: &[u8]) -> bool {
    bytes.starts_with(LOADED) && memmem::find(bytes, MACROS).is_none()
}

/// The extra parts in the bytes of a compiled crate; none in other files.
pub fn mentions(bytes: &[u8]) -> BTreeSet<Extra> {
    if !MAGICS.iter().any(|magic| bytes.starts_with(magic)) {
        return BTreeSet::new();
    }
    memchr_iter(b'-', bytes)
        .filter_map(|at| Extra::of_digits(bytes.get(at + 1..at + 1 + DIGITS)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_shape_are_found() {
        let bytes =
            b"rust\0\0\0\x0a..serde-00000000000000ff.x-123-0123456789abcdeg-fedcba9876543210";
        let found = mentions(bytes);
        let wanted = ["libserde-00000000000000ff", "x-fedcba9876543210"];
        assert!(found.iter().copied().eq(wanted.map(|stem| Extra::of_stem(stem).unwrap())));
        assert!(mentions(b"text -00000000000000ff").is_empty());
        for stem in ["libserde", "libserde-00000000000000F0", "libserde-0", "-"] {
            assert_eq!(Extra::of_stem(stem), None, "{stem}");
        }
    }
}
