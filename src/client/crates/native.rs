//! Native libraries: those that the command names, and those in folders of the build.

use std::collections::BTreeSet;
use std::path::Path;

use super::{CrateReader, Mentions, unreadable};
use crate::compiler::rustc::Depth;
use crate::compiler::rustc::mentions::Extra;
use crate::job::LocalReason;
use crate::store::walk::TreeBuilder;

/// Folders of the system hold far more than one build needs: of these only what is named.
const SYSTEMS: [&str; 4] = ["/lib", "/lib64", "/usr", "/opt"];
/// Where libraries are that no folder is named for, as linkers of Debian and others search.
const STANDARD: [&str; 4] = ["/usr/local/lib", "/usr/lib64", "/usr/lib", "/lib"];
/// Most files of one folder; a folder with more is no build's own.
const FILES_MAX: usize = 2_000;

/// Adds what a library may be taken from. An archive may go into any kind of crate, a shared object
/// into what is linked.
pub(super) fn add(
    reader: &CrateReader,
    builder: &mut TreeBuilder<'_, Mentions>,
) -> Result<(), LocalReason> {
    let krate = &reader.krate;
    let folders: BTreeSet<String> =
        krate.native_folders.iter().map(|folder| reader.absolute(folder)).collect();
    let mut files = BTreeSet::new();
    for folder in folders.iter().filter(|folder| !is_systems(folder)) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let fits = |name: &String| is_library(name, krate.depth);
        files.extend(names.take(FILES_MAX).filter(fits).map(|name| format!("{folder}/{name}")));
    }
    let linked = STANDARD.iter().filter(|_| krate.links).map(|folder| (*folder).to_owned());
    let searched: Vec<String> = folders.into_iter().chain(linked).collect();
    for library in &krate.libraries {
        let names = match library.verbatim {
            true => vec![library.name.clone()],
            false => vec![format!("lib{}.a", library.name), format!("lib{}.so", library.name)],
        };
        for name in names {
            files.extend(searched.iter().flat_map(|folder| in_folder(folder, &name)));
        }
    }
    for file in files {
        if Path::new(&file).is_file() {
            builder.add(&file).map_err(unreadable)?;
        }
    }
    Ok(())
}

/// The file `name` in `folder` or, as Debian has them, in the folder of a platform in it.
pub(super) fn in_folder(folder: &str, name: &str) -> Vec<String> {
    let platform = format!("{folder}/{}-linux-gnu", std::env::consts::ARCH);
    let places = [folder.to_owned(), platform];
    let files = places.iter().map(|place| format!("{place}/{name}"));
    files.filter(|file| Path::new(file).is_file()).collect()
}

/// Where a linker finds the library `name`: in the folders that the command names, or without being
/// told where.
pub(super) fn called(reader: &CrateReader, name: &str) -> Vec<String> {
    let names = [format!("lib{name}.so"), format!("lib{name}.a")];
    let named = reader.krate.native_folders.iter().map(|folder| reader.absolute(folder));
    let folders = named.chain(STANDARD.map(str::to_owned));
    folders
        .flat_map(|folder| names.each_ref().map(|name| in_folder(&folder, name)).concat())
        .collect()
}

fn is_systems(folder: &str) -> bool {
    SYSTEMS.iter().any(|system| Path::new(folder).starts_with(system))
}

fn is_library(name: &str, depth: Depth) -> bool {
    let is_shared = name.ends_with(".so") || name.contains(".so.");
    let is_static = [".a", ".lib", ".o"].iter().any(|suffix| name.ends_with(suffix));
    // Crates have names of their own kind, and are reached through one another.
    let is_crate = name.rsplit_once('.').is_some_and(|(stem, _)| Extra::of_stem(stem).is_some());
    !is_crate && (is_static || (is_shared && depth == Depth::Objects))
}
