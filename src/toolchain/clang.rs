//! What belongs to a clang: the one large program, and everything by which it decides where to
//! look: installations of gcc, the distribution's name, configuration files.

use std::path::{Path, PathBuf};

use super::ask::Asked;
use super::parts::{Parts, include_directories, labelled, search_directories};
use super::{Resolved, ToolchainError};

/// Files by which clang's driver recognises the distribution (`Distro.cpp`).
const DISTRIBUTION_FILES: [&str; 7] = [
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/lsb-release",
    "/etc/redhat-release",
    "/etc/debian_version",
    "/etc/SuSE-release",
    "/etc/gentoo-release",
];
/// Folders of `lib` in which clang looks for installations of gcc, for any target.
const LIBRARY_FOLDERS: [&str; 4] = ["lib", "lib64", "lib32", "libx32"];
const GCC_FOLDERS: [&str; 2] = ["gcc", "gcc-cross"];
/// Deepest nesting of configuration files, as a guard against circles.
const CONFIGURATION_DEPTH_MAX: usize = 10;

pub(super) async fn parts(compiler: &Resolved, asked: &Asked) -> Result<Parts, ToolchainError> {
    let mut parts = Parts {
        programs: vec![compiler.executable.display().to_string()],
        cplusplus: true,
        ..Parts::default()
    };
    // Needed with `-fno-integrated-as` and by old releases for split debug information.
    for name in ["as", "objcopy"] {
        parts.add_program(&compiler.search_path, asked, name).await?;
    }
    let (answer, _) = asked.answer(&["-print-search-dirs"]).await?;
    parts.directories = search_directories(&answer);
    let mut bases = gcc_bases(compiler);
    for language in ["c", "c++"] {
        let (_, answer) = asked.answer(&["-v", "-E", "-x", language, "/dev/null"]).await?;
        parts.directories.extend(include_directories(&answer));
        for candidate in labelled(&answer, "Found candidate GCC installation:") {
            parts.directories.push(candidate.to_owned());
            bases.extend(Path::new(candidate).ancestors().nth(2).map(Path::to_owned));
        }
        for path in labelled(&answer, "Configuration file:") {
            configuration(Path::new(path), &mut parts.files, 0);
        }
    }
    for base in bases {
        gcc_installations(&base, &mut parts);
    }
    let resources = asked.line("-print-resource-dir").await?;
    parts.files.extend(text_files(&Path::new(&resources).join("share")));
    parts.directories.push(resources);
    parts.files.extend(DISTRIBUTION_FILES.iter().map(|&path| path.to_owned()));
    parts.files.retain(|path| Path::new(path).is_file());
    Ok(parts)
}

/// Folders that may hold `<triple>/<version>/crtbegin.o`.
fn gcc_bases(compiler: &Resolved) -> Vec<PathBuf> {
    let near = |path: &Path| path.ancestors().nth(2).map(Path::to_owned);
    let prefixes = [near(&compiler.executable), near(&compiler.real), Some("/usr".into())];
    let folders = prefixes.into_iter().flatten().flat_map(|prefix| {
        LIBRARY_FOLDERS.iter().flat_map(move |library| {
            let library = prefix.join(library);
            GCC_FOLDERS.map(move |gcc| library.join(gcc))
        })
    });
    folders.collect()
}

/// Marks of gcc installations below `base`: `<triple>/<version>[/<multilib>]/crtbegin.o`. Clang
/// takes the newest one that has the file, so all of them belong, and a new one is a change.
fn gcc_installations(base: &Path, parts: &mut Parts) {
    for triple in folders(base) {
        parts.watched.extend(triple.to_str().map(str::to_owned));
        for version in folders(&triple) {
            let multilibs = folders(&version);
            for folder in std::iter::once(version).chain(multilibs) {
                let mark = folder.join("crtbegin.o");
                parts.files.extend(mark.to_str().map(str::to_owned));
            }
        }
    }
}

/// A configuration file and, recursively, those that it names with `@`.
fn configuration(path: &Path, files: &mut Vec<String>, depth: usize) {
    let (Some(text), Ok(content)) = (path.to_str(), std::fs::read_to_string(path)) else { return };
    files.push(text.to_owned());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let named = content.split_whitespace().filter_map(|word| word.strip_prefix('@'));
    for name in named.filter(|_| depth < CONFIGURATION_DEPTH_MAX) {
        configuration(&folder.join(name), files, depth + 1);
    }
}

/// Sanitizer ignore lists and the like.
fn text_files(folder: &Path) -> Vec<String> {
    let text = |path: PathBuf| path.into_os_string().into_string().ok();
    entries(folder).into_iter().filter(|path| path.is_file()).filter_map(text).collect()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.is_dir()).collect()
}

/// Entries of a folder, sorted; none when it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
