//! Where a new file would make a list of inputs wrong.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;

use super::{Listing, Reader, absolute};
use crate::client::memory::Lookout;
use crate::client::scan::Standing;

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
    let beside = files.iter().filter_map(|file| Some(file.rsplit_once('/')?.0));
    // Files are many, and folders few.
    let bases: HashSet<&str> = searched.iter().map(String::as_str).chain(beside).collect();
    let bases: Vec<&str> =
        bases.into_iter().filter(|folder| listing.standing.is_folder(folder)).collect();
    let mut folders: HashSet<String> = bases.iter().map(|base| (*base).to_owned()).collect();
    let mut names: BTreeSet<&str> = tested.collect();
    let mut watched: Vec<OsString> = Vec::new();
    for file in &files {
        let found =
            searched.iter().filter_map(|folder| file.strip_prefix(folder)?.strip_prefix('/'));
        names.extend(found);
        let name = file.rsplit('/').next().unwrap_or(file);
        watched.extend(PRECOMPILED.iter().map(|suffix| format!("{name}.{suffix}").into()));
    }
    let (mut between, mut absent) = (HashSet::new(), Vec::new());
    for name in names {
        let parts = name.split('/').filter(|part| !is_step(part));
        watched.extend(parts.map(OsString::from));
        // Of the names in one folder the first one watches for the folder.
        if let Some((folder, _)) = name.rsplit_once('/')
            && between.insert(folder)
        {
            absent.extend(watch(&mut folders, &bases, folder, &listing.standing));
        }
    }
    Lookout {
        began_ns: listing.began_ns,
        files,
        folders: folders.into_iter().map(PathBuf::from).collect(),
        absent,
        names: watched.into_iter().collect(),
    }
}

/// Adds to `folders` all on the way to the folder `between` below each of `bases`. One that is not
/// there yet is noticed where its name would appear: gives those.
fn watch(
    folders: &mut HashSet<String>,
    bases: &[&str],
    between: &str,
    standing: &Standing,
) -> Vec<String> {
    let mut absent = Vec::new();
    for base in bases {
        let mut folder = (*base).to_owned();
        for part in between.split('/').filter(|part| !is_step(part)) {
            folder.extend(["/", part]);
            if folders.contains(&folder) {
                continue;
            }
            if !standing.is_folder(&folder) {
                absent.push(folder);
                break;
            }
            folders.insert(folder.clone());
        }
    }
    absent
}

/// A part of a path that names nothing.
fn is_step(part: &str) -> bool {
    matches!(part, "" | "." | "..")
}
