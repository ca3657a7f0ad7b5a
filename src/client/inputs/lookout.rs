//! Where a new file would make a list of inputs wrong.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Listing, Reader, absolute};
use crate::client::memory::Lookout;

/// Suffixes of precompiled headers: gcc's, and clang's own.
pub(super) const PRECOMPILED: [&str; 2] = ["gch", "pch"];

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
    for name in names {
        lookout.watch(&bases, name);
    }
    lookout
}
