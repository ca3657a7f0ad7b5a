//! The digest of a file that is not held in memory.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::job::Digest;

/// Read at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// The digest of all that `reader` still gives.
///
/// # Errors
/// Those of reading.
pub fn digest_of(reader: &mut impl Read) -> io::Result<Digest> {
    digest_with(reader, |_| Ok(()))
}

/// As [`digest_of`]; `look` sees one piece after the other.
///
/// # Errors
/// Those of reading, and of `look`.
pub(super) fn digest_with(
    reader: &mut impl Read,
    mut look: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    read_pieces(reader, |piece| {
        hasher.update(piece);
        look(piece)
    })?;
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// Gives `look` all that `reader` still has, one piece after the other.
///
/// # Errors
/// Those of reading, and of `look`.
pub(super) fn read_pieces(
    reader: &mut impl Read,
    mut look: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(()),
            length => look(&chunk[..length])?,
        }
    }
}
