//! What was learned of flags, in a file for the next daemon.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::searches::Learned;
use crate::compiler::FACTS_VERSION;
use crate::job::Digest;
use crate::store::sealed;

/// The version of the file's form, of the keys, and of how the scan searches: whether it finds all
/// that a compiler lists is in the file.
const KIND: &str = "searches 1";
/// Largest file, in bytes, uncompressed: 4,000 for each set of flags.
const BYTES_MAX: usize = 16 << 20;

/// Writes what is `known`, as far as there is room: about the others the compiler is asked again.
/// So it is where the scan was not complete: that may have been an accident.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write(path: &Path, known: &HashMap<Digest, Arc<Learned>>) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (key, learned) in known.iter().filter(|(_, learned)| learned.complete) {
        let entry = rmp_serde::to_vec(&(key, &**learned)).map_err(io::Error::other)?;
        if bytes.len() + entry.len() <= BYTES_MAX {
            bytes.extend(entry);
        }
    }
    sealed::write(path, &kind(), &bytes).map(drop)
}

/// What [`write`] wrote; nothing when the file is damaged or of another version.
pub(super) fn read(path: &Path) -> HashMap<Digest, Arc<Learned>> {
    let bytes = sealed::read(path, &kind(), BYTES_MAX).unwrap_or_default();
    let (mut rest, mut known) = (bytes.as_slice(), HashMap::new());
    while let Ok((key, learned)) = rmp_serde::from_read(&mut rest) {
        known.insert(key, Arc::new(learned));
    }
    known
}

fn kind() -> String {
    format!("{KIND} {FACTS_VERSION}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_complete_and_not_too_large_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("searches");
        let learned = |complete, bytes| {
            let mut learned = Learned::default();
            learned.complete = complete;
            learned.search.quote.push("x".repeat(bytes));
            Arc::new(learned)
        };
        let keys = [1, 2, 3, 4].map(|number| Digest::from_bytes([number; 32]));
        let all = [(true, 10), (false, 10), (true, BYTES_MAX), (true, 1_000)];
        let all = all.map(|(complete, bytes)| learned(complete, bytes));
        write(&path, &keys.into_iter().zip(all).collect()).unwrap();
        let read = read(&path);
        assert!(read.len() == 2 && read.contains_key(&keys[0]));
        assert_eq!(read[&keys[3]].search.quote[0].len(), 1_000);
    }
}
