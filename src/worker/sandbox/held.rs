//! Files that a compile deleted and still holds: they use the disk, and no folder lists them.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Bytes of deleted files that the processes whose root is `root` hold open or mapped.
///
/// Which processes those are shows the folder itself: nothing else has it for its root, and no
/// compile can change its root. A file that is mapped and not open can be looked at by root alone;
/// else it counts up to the last byte that is mapped.
pub(in crate::worker) fn bytes(root: &Path) -> u64 {
    let Ok(root) = fs::metadata(root) else { return 0 };
    let mut files = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = process.path();
        if fs::metadata(process.join("root")).is_ok_and(|found| same(&found, &root)) {
            open_files(&process, &mut files);
            mapped_files(&process, &mut files);
        }
    }
    files.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes))
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn open_files(process: &Path, files: &mut HashMap<u64, u64>) {
    for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        if let Ok(found) = fs::metadata(entry.path())
            && found.is_file()
            && found.nlink() == 0
        {
            files.insert(found.ino(), found.blocks().saturating_mul(512));
        }
    }
}

fn mapped_files(process: &Path, files: &mut HashMap<u64, u64>) {
    let Ok(maps) = fs::read_to_string(process.join("maps")) else { return };
    for mapped in maps.lines().filter_map(deleted) {
        let found = fs::metadata(process.join("map_files").join(mapped.range));
        let bytes = found.map_or(mapped.end, |found| found.blocks().saturating_mul(512));
        let known = files.entry(mapped.inode).or_default();
        *known = bytes.max(*known);
    }
}

/// A deleted file's part of a process's memory.
#[derive(Debug, PartialEq, Eq)]
struct Mapped<'a> {
    /// As its entry in `map_files` is called.
    range: &'a str,
    inode: u64,
    /// Where in the file it ends, in bytes.
    end: u64,
}

/// Reads a line of `/proc/PID/maps`: `START-END PERMISSIONS OFFSET DEVICE INODE PATH (deleted)`.
fn deleted(line: &str) -> Option<Mapped<'_>> {
    let mut fields = line.strip_suffix(" (deleted)")?.split_whitespace();
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (range, _, offset, _, inode) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let (start, end) = range.split_once('-')?;
    let length = number(end)?.checked_sub(number(start)?)?;
    Some(Mapped {
        range,
        inode: inode.parse().ok().filter(|inode| *inode != 0)?,
        end: number(offset)?.checked_add(length)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_files_are_read_from_the_map() {
        let line = "7f1000-7f3000 rw-p 00001000 08:01 4711       /tmp/x y (deleted)";
        let wanted = Mapped { range: "7f1000-7f3000", inode: 4711, end: 0x3000 };
        assert_eq!(deleted(line), Some(wanted));
        assert_eq!(deleted("7f1000-7f3000 rw-p 00000000 08:01 4711 /tmp/x"), None);
        assert_eq!(deleted("7f1000-7f3000 rw-p 00000000 00:00 0 /x (deleted)"), None);
        assert_eq!(deleted(" (deleted)"), None);
    }
}
