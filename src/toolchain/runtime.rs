//! What the C library reads on behalf of a program: locales and character sets.
//!
//! Locales decide the quotes in gcc's messages. All of `/usr/lib/locale` belongs when it is
//! small, else `C.utf8` alone: a compiler then falls back to ASCII quotes, which shows in
//! messages only. Translated messages (`/usr/share/locale`) do not belong: they would outweigh
//! the rest. Of the character sets for `-finput-charset` and the like the common ones belong; the
//! compiler fails for others, and a failed compile is repeated locally.

use std::path::{Path, PathBuf};

/// Most bytes of locales that are taken along.
const LOCALE_BYTES_MAX: u64 = 16 << 20;
const LOCALES: &str = "/usr/lib/locale";
/// The tables, and modules for Latin 1, Latin 9, Windows and Unicode.
const CHARACTER_SETS: [&str; 9] = [
    "gconv-modules",
    "gconv-modules.cache",
    "gconv-modules.d/gconv-modules-extra.conf",
    "ISO8859-1.so",
    "ISO8859-15.so",
    "CP1251.so",
    "CP1252.so",
    "UTF-16.so",
    "UTF-32.so",
];

/// Files of locales and character sets for programs that use the C library at `libc`.
pub(super) fn files(libc: &str) -> Vec<String> {
    let mut files = locale_files(Path::new(LOCALES), LOCALE_BYTES_MAX);
    let folder = libc.rsplit_once('/').map_or("", |(folder, _)| folder);
    // The library may be found in `/lib/…` while its modules are in `/usr/lib/…`.
    for folder in [folder.to_owned(), format!("/usr{folder}")] {
        files.extend(CHARACTER_SETS.iter().map(|name| format!("{folder}/gconv/{name}").into()));
    }
    let existing = files.into_iter().filter(|path| path.is_file());
    existing.filter_map(|path| path.into_os_string().into_string().ok()).collect()
}

fn locale_files(locales: &Path, bytes_max: u64) -> Vec<PathBuf> {
    let (mut files, mut bytes) = (Vec::new(), 0);
    list(locales, &mut files, &mut bytes);
    if bytes > bytes_max {
        files.retain(|file| file.starts_with(locales.join("C.utf8")));
    }
    files.sort();
    files
}

fn list(folder: &Path, files: &mut Vec<PathBuf>, bytes: &mut u64) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list(&entry.path(), files, bytes),
            Ok(_) => {
                *bytes += std::fs::metadata(entry.path()).map_or(0, |found| found.len());
                files.push(entry.path());
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_archive_stays_at_home() {
        let folder = tempfile::tempdir().unwrap();
        let locales = folder.path();
        std::fs::create_dir_all(locales.join("C.utf8/LC_MESSAGES")).unwrap();
        std::fs::write(locales.join("C.utf8/LC_MESSAGES/SYS_LC_MESSAGES"), "x").unwrap();
        std::fs::write(locales.join("locale-archive"), [0; 100]).unwrap();
        assert_eq!(locale_files(locales, 101).len(), 2);
        let few = locale_files(locales, 100);
        assert_eq!(few, [locales.join("C.utf8/LC_MESSAGES/SYS_LC_MESSAGES")]);
        assert!(
            files("/lib/x86_64-linux-gnu/libc.so.6").iter().all(|path| Path::new(path).is_file())
        );
    }
}
