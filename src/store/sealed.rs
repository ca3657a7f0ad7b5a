//! Small files that a program keeps for its next start: written beside and renamed, and believed
//! only when every byte is what was written. What a crash or a full disk leaves is as good as none.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::job::Digest;

use super::frames;

/// First bytes of every sealed file.
const MAGIC: &[u8] = b"jetcc sealed\n";
/// Longest name of a kind, in bytes.
const KIND_BYTES_MAX: usize = 64;
const DIGEST_BYTES: usize = 32;

/// Writes `content` to `path`; `kind` names what it is, with the version of its form. Gives the
/// file's size.
///
/// # Errors
/// When the folder cannot be written.
pub fn write(path: &Path, kind: &str, content: &[u8]) -> io::Result<u64> {
    debug_assert!(kind.len() <= KIND_BYTES_MAX, "`{kind}` is too long");
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let zstd = frames::compress(content)?;
    let mut file = NamedTempFile::new_in(folder)?;
    let head = [MAGIC, kind.as_bytes(), b"\n", Digest::of(&zstd).as_bytes()].concat();
    file.write_all(&head)?;
    file.write_all(&zstd)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok((head.len() + zstd.len()) as u64)
}

/// What [`write`] wrote to `path` as the same `kind`, at most `bytes_max` bytes; `None` when there
/// is no such file or it is damaged.
pub fn read(path: &Path, kind: &str, bytes_max: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).ok()?;
    let content = open(&bytes, kind, bytes_max);
    if content.is_none() {
        tracing::debug!(path = %path.display(), "kept file is of another version or damaged");
    }
    content
}

fn open(bytes: &[u8], kind: &str, bytes_max: usize) -> Option<Vec<u8>> {
    if bytes.len() > bytes_max {
        return None;
    }
    let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(kind.as_bytes())?.strip_prefix(b"\n")?;
    let (digest, zstd) = rest.split_at_checked(DIGEST_BYTES)?;
    if Digest::of(zstd).as_bytes() != digest {
        return None;
    }
    let size = zstd::zstd_safe::get_frame_content_size(zstd).ok()??;
    let size = usize::try_from(size).ok().filter(|size| *size <= bytes_max)?;
    frames::decompress(zstd, size).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let content = b"content ".repeat(100);
        assert_eq!(read(&path, "test 1", 1 << 20), None);
        let size = write(&path, "test 1", &content).unwrap();
        assert_eq!(size, std::fs::metadata(&path).unwrap().len());
        assert_eq!(read(&path, "test 1", 1 << 20).as_deref(), Some(&content[..]));
        assert_eq!(read(&path, "test 2", 1 << 20), None);
        assert_eq!(read(&path, "test 1", 100), None);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(open(&damaged, "test 1", 1 << 20), None, "byte {at}");
            assert_eq!(open(&whole[..at], "test 1", 1 << 20), None, "cut at {at}");
        }
    }
}
