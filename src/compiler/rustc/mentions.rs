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

/// Whether the bytes are those of a crate whose uses nobody can read off.
pub fn is_closed(bytes: &[u8]) -> bool {
    is_loaded_crate(bytes) && !has_plain_metadata(bytes)
}

/// The extra parts in the bytes of a compiled crate; none in other files.
pub fn mentions(bytes: &[u8]) -> BTreeSet<Extra> {
    let is_plain = MAGICS.iter().any(|magic| bytes.starts_with(magic));
    if !(is_plain || is_loaded_crate(bytes) && has_plain_metadata(bytes)) {
        return BTreeSet::new();
    }
    memchr_iter(b'-', bytes)
        .filter_map(|at| Extra::of_digits(bytes.get(at + 1..at + 1 + DIGITS)?))
        .collect()
}

fn is_loaded_crate(bytes: &[u8]) -> bool {
    let has = |text| memmem::find(bytes, text).is_some();
    bytes.starts_with(LOADED) && has(METADATA) && !has(MACROS)
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

    #[test]
    fn texts_of_the_shape_are_found() {
        let bytes =
            b"rust\0\0\0\x0a..serde-00000000000000ff.x-123-0123456789abcdeg-fedcba9876543210";
        let found = mentions(bytes);
        let wanted = ["libserde-00000000000000ff", "x-fedcba9876543210"];
        assert!(found.iter().copied().eq(wanted.map(|stem| Extra::of_stem(stem).unwrap())));
        assert!(mentions(b"text -00000000000000ff").is_empty());
        let loaded = |rest: &[u8]| [b"\x7fELF..rust_metadata_a_0..", rest].concat();
        let plain = loaded(b"rust\0\0\0\x0a........rust\0\0\0\x0a-00000000000000ff");
        assert!(!is_closed(&plain) && mentions(&plain).len() == 1);
        let compressed = loaded(b"rust\0\0\0\x0a-00000000000000ff");
        assert!(is_closed(&compressed) && mentions(&compressed).is_empty());
        assert!(!is_closed(b"\x7fELF, of C"));
        assert!(!is_closed(&loaded(b"__rustc_proc_macro_decls_0")));
        for stem in ["libserde", "libserde-00000000000000F0", "libserde-0", "-"] {
            assert_eq!(Extra::of_stem(stem), None, "{stem}");
        }
    }
}
