//! What a compile's words say of files.
//!
//! Only files of the project and sources of packages are taken from them: a macro may name any file of
//! this machine in its messages, and it shall not be sent for that.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::CrateReader;
use super::package::UNPACKED;
use crate::job::outcome::is_artifact;

/// Most words that are looked at.
const WORDS_MAX: usize = 20_000;
/// What linkers and compilers say of a library that they do not find, before its name.
const NO_LIBRARY: [&str; 3] =
    ["unable to find library -l", "cannot find -l", "could not find native static library `"];
/// The same of crates.
const NO_CRATE: [&str; 1] = ["can't find crate for `"];
/// What compilers and macros say of a file that is not there.
const ABSENCE: [&str; 5] =
    ["No such file or directory", "couldn't read", "does not exist", "file not found", "NotFound"];
/// What version control keeps in the outermost folder of a project.
const VERSION_CONTROL: [&str; 4] = [".git", ".hg", ".jj", ".svn"];
/// Where cargo unpacks packages, below its home.
const PACKAGES: [&str; 2] = ["registry/src", "git/checkouts"];

/// The files of the project, and the sources of packages, that `words` name; absolute.
pub(super) fn files<'a>(
    reader: &'a CrateReader,
    words: &'a str,
) -> impl Iterator<Item = String> + 'a {
    let package = reader.package();
    let mut allowed = Vec::from([project(&package, reader.environment.get("HOME"))]);
    let sources = packages(reader);
    allowed.extend(sources.iter().cloned());
    let bases = [reader.directory.clone(), package];
    // What the compiler says of what it writes is nothing that it reads.
    let outputs: BTreeSet<PathBuf> =
        reader.plan.outputs.iter().map(|file| reader.absolute(&file.path).into()).collect();
    let found: BTreeSet<String> = spelled(words)
        .flat_map(|word| bases.iter().map(move |base| Path::new(base).join(word)))
        .filter(|path| {
            if outputs.contains(path) || path.to_str().is_some_and(is_artifact) {
                return false;
            }
            // As the kernel follows it, so that no `..` leads out of the project.
            let Ok(real) = path.canonicalize() else { return false };
            let is_source = sources.iter().any(|folder| real.starts_with(folder));
            let may_go = allowed.iter().any(|folder| is_open_in(&real, folder));
            real.is_file()
                && may_go
                && (!is_source || real.extension().is_some_and(|it| it == "rs"))
        })
        .filter_map(|path| path.into_os_string().into_string().ok())
        .collect();
    found.into_iter()
}

/// Words that may be paths, without the place in the file.
fn spelled(words: &str) -> impl Iterator<Item = &str> {
    words
        .split(|letter: char| letter.is_whitespace() || "\"'`()[]{},;\\".contains(letter))
        .filter(|word| word.contains(['/', '.']))
        .take(WORDS_MAX)
        .map(|word| word.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == ':'))
        .map(|word| word.trim_matches(|letter| ":.".contains(letter)).trim_start_matches(' '))
        .filter(|word| !word.is_empty())
}

/// Whether `file` is in `folder`, and not in anything hidden there.
fn is_open_in(file: &Path, folder: &Path) -> bool {
    let is_hidden = |part: Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
    file.strip_prefix(folder).is_ok_and(|rest| !rest.components().any(is_hidden))
}

/// The folder of the project of which `package` is a part: what version control holds together, else
/// the outermost package. A home folder is no project.
pub(super) fn project(package: &str, home: Option<&String>) -> PathBuf {
    let package = Path::new(package).canonicalize().unwrap_or_else(|_| package.into());
    if package.join(UNPACKED).exists() {
        return package;
    }
    let home = home.and_then(|home| Path::new(home).canonicalize().ok());
    let is_home = |folder: &&Path| home.as_deref() == Some(*folder);
    let is_held = |folder: &&Path| VERSION_CONTROL.iter().any(|name| folder.join(name).exists());
    let around = || package.ancestors().take_while(|folder| !is_home(folder));
    let outermost = around().filter(|folder| folder.join("Cargo.toml").is_file()).last();
    around().find(is_held).or(outermost).unwrap_or(&package).to_owned()
}

/// The folders in which cargo has unpacked packages.
fn packages(reader: &CrateReader) -> Vec<PathBuf> {
    let value = |name: &str| reader.environment.get(name).map(PathBuf::from);
    let home = value("CARGO_HOME").or_else(|| Some(value("HOME")?.join(".cargo")));
    let folders =
        PACKAGES.iter().filter_map(|folder| home.as_ref()?.join(folder).canonicalize().ok());
    folders.collect()
}

/// Whether `words` are those of somebody who did not find a file.
pub(super) fn tell_of_absence(words: &str) -> bool {
    ABSENCE.iter().any(|text| words.contains(text))
}

/// The native libraries that were not found.
pub(super) fn missing_libraries(words: &str) -> BTreeSet<&str> {
    named_behind(&NO_LIBRARY, words)
}

/// The crates that were not found.
pub(super) fn missing_crates(words: &str) -> BTreeSet<&str> {
    named_behind(&NO_CRATE, words)
}

/// The names behind any of `starts`.
fn named_behind<'w>(starts: &'static [&'static str], words: &'w str) -> BTreeSet<&'w str> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "_-+.".contains(letter);
    let named = |start: &&'static str| {
        let start: &'static str = start;
        words
            .split(start)
            .skip(1)
            .map(move |rest| &rest[..rest.find(|letter| !is_name(letter)).unwrap_or(rest.len())])
    };
    let all = starts.iter().flat_map(named);
    all.map(|name| name.trim_end_matches('.')).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn linkers_name_the_libraries_that_they_lack() {
        let words =
            "rust-lld: error: unable to find library -lz\\n/usr/bin/ld: cannot find -lfoo_1: No";
        assert!(missing_libraries(words).into_iter().eq(["foo_1", "z"]));
        let words = "error: could not find native static library `x`, perhaps an -L flag";
        assert!(missing_libraries(words).into_iter().eq(["x"]));
        let words = "error[E0463]: can't find crate for `a_b` which `c` depends on";
        assert!(missing_crates(words).into_iter().eq(["a_b"]));
    }

    #[test]
    fn paths_are_cut_out_of_messages() {
        let words =
            "  --> app/src/a.rs:12:5 couldn't read `../x.txt`: \"file_name\":\"b.rs\", v1.2.3";
        let found: Vec<&str> = spelled(words).filter(|word| word.contains(['/', 's'])).collect();
        assert_eq!(found, ["app/src/a.rs", "/x.txt", "b.rs"]);
    }

    #[test]
    fn a_project_is_what_version_control_holds() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let package = root.join("work/project/crates/a");
        fs::create_dir_all(&package).unwrap();
        for manifest in ["work/project/Cargo.toml", "work/project/crates/a/Cargo.toml"] {
            fs::write(root.join(manifest), "").unwrap();
        }
        let (a, home) = (package.to_str().unwrap(), root.to_str().unwrap().to_owned());
        assert_eq!(project(a, Some(&home)), root.join("work/project"));
        // The home folder may be under version control: that makes it no project.
        fs::create_dir(root.join(".git")).unwrap();
        assert_eq!(project(a, Some(&home)), root.join("work/project"));
        fs::create_dir(root.join("work/.git")).unwrap();
        assert_eq!(project(a, Some(&home)), root.join("work"));
        fs::write(package.join(UNPACKED), "").unwrap();
        assert_eq!(project(a, Some(&home)), package);
        assert!(is_open_in(&root.join("work/x/y.txt"), &root.join("work")));
        assert!(!is_open_in(&root.join("work/.ssh/key"), &root.join("work")));
        assert!(!is_open_in(&root.join("other"), &root.join("work")));
    }
}
