//! Where a new file would make a list of inputs wrong.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Listing, Reader, absolute};
use crate::client::memory::Lookout;

/// Suffixes of precompiled headers: gcc's, and clang's own.
pub const PRECOMPILED: [&str; 2] = ["gch", "pch"];

/// Where a new file could be found before one of the listed ones. A file found beside its includer
/// or by its full path has nothing before it; any other was found in a search folder, and then
/// every folder that any include might search counts.
pub(super) fn lookout<'a>(
    reader: &Reader,
    listing: &Listing,
    tested: impl Iterator<Item = &'a str>,
) -> Lookout {
    let searched: Vec<String> = listing
        .search
        .quote
        .iter()
        .chain(&listing.search.angle)
        .map(|folder| absolute(&reader.directory, folder))
        .collect();
    let files: Vec<String> =
        listing.files.iter().map(|file| absolute(&reader.directory, file)).collect();
    let beside = files.iter().filter_map(|file| Some(Path::new(file.rsplit_once('/')?.0)));
    let bases: BTreeSet<PathBuf> = searched
        .iter()
        .map(Path::new)
        .chain(beside)
        .filter(|folder| folder.is_dir())
        .map(Path::to_owned)
        .collect();
    let mut lookout = Lookout {
        began_ns: listing.began_ns,
        files: files.iter().map(PathBuf::from).collect(),
        folders: bases.clone(),
        names: BTreeSet::new(),
    };
    let mut names: BTreeSet<&str> = tested.collect();
    for file in &files {
        let found =
            searched.iter().filter_map(|folder| file.strip_prefix(folder)?.strip_prefix('/'));
        names.extend(found);
        let name = file.rsplit('/').next().unwrap_or(file);
        let precompiled = PRECOMPILED.iter().map(|suffix| format!("{name}.{suffix}").into());
        lookout.names.extend(precompiled);
    }
    let mut watched = HashSet::new();
    for name in names {
        // Of the names in one folder the first one watches for the folder.
        match name.rsplit_once('/') {
            Some((folder, _)) if watched.insert(folder) => lookout.watch(&bases, name),
            _ => lookout
                .names
                .extend(name.split('/').filter(|part| !is_step(part)).map(OsString::from)),
        }
    }
    lookout
}

/// A part of a path that names nothing.
fn is_step(part: &str) -> bool {
    matches!(part, "" | "." | "..")
}
