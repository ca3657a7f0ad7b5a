//! The compiled crates that a crate uses, and those that these use in turn.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use super::{CrateIndex, CrateReader, MacroIndex, Mentions, sources, unreadable};
use crate::compiler::rustc::Depth;
use crate::compiler::rustc::mentions::Extra;
use crate::job::LocalReason;
use crate::job::outcome::ARTIFACTS;
use crate::store::walk::TreeBuilder;

/// The files of one compiled crate in a folder, by the order of [`ARTIFACTS`].
type Files = [Option<String>; 3];

/// Adds what the command names, what was `missing` once, and what is reached from there, each with the
/// sources of its macros. Where objects are not needed, metadata alone will do.
pub(super) fn add(
    reader: &CrateReader,
    missing: impl Iterator<Item = String>,
    (index, macros): (&CrateIndex, &MacroIndex),
    builder: &mut TreeBuilder<'_, Mentions>,
) -> Result<(), LocalReason> {
    let krate = &reader.krate;
    let named = krate.externs.iter().filter_map(|used| used.path.as_deref());
    let missing = missing.filter(|path| Path::new(path).is_file());
    let named = named.map(|path| reader.absolute(path)).chain(missing).collect();
    let shelf = Shelf::of(reader);
    reach(named, shelf, krate.depth, index, &mut |path| {
        builder.add(path).map_err(unreadable)?;
        sources::add(reader, path, macros, builder)
    })
}

/// Gives `found` each of the files `named`, and of those on the `shelf` all that are reached from
/// there, once.
fn reach(
    named: Vec<String>,
    mut shelf: Shelf,
    depth: Depth,
    index: &CrateIndex,
    found: &mut dyn FnMut(&str) -> Result<(), LocalReason>,
) -> Result<(), LocalReason> {
    let mut pending = named;
    pending.append(&mut shelf.others);
    let mut reached = HashSet::new();
    while let Some(path) = pending.pop() {
        if reached.contains(&path) {
            continue;
        }
        found(&path)?;
        match mentioned(&path, index)? {
            Some(extras) => {
                for extra in extras.iter() {
                    pending.extend(shelf.take(*extra, depth));
                }
            }
            None => pending.extend(shelf.take_all(depth)),
        }
        reached.insert(path);
    }
    Ok(())
}

/// The crates that the compiled crate at `path` speaks of; `None` when that is not known.
fn mentioned(path: &str, index: &CrateIndex) -> Result<Mentions, LocalReason> {
    match index.digest(Path::new(path)) {
        Ok(known) => Ok(known.facts.flatten()),
        Err(error) => Err(LocalReason::UnreadableInput(format!("`{path}`: {error}"))),
    }
}

/// The kind of a compiled crate's file, by the order of [`ARTIFACTS`], and its name without `lib` and
/// suffix.
pub(super) fn crate_file(path: &str) -> Option<(usize, &str)> {
    let kind = ARTIFACTS.iter().position(|suffix| path.ends_with(suffix))?;
    let name = path.rsplit('/').next()?.strip_prefix("lib")?;
    Some((kind, name.strip_suffix(ARTIFACTS[kind])?))
}

/// The compiled crates called `name` in the folders that `reader`'s compile searches.
pub(super) fn called<'a>(reader: &'a CrateReader, name: &'a str) -> impl Iterator<Item = String> {
    let is_called = move |path: &String| {
        let stem = crate_file(path).and_then(|(_, stem)| stem.strip_prefix(name));
        stem.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    crate_folders(reader).into_iter().flat_map(files_in).filter(is_called)
}

/// The folders that `reader`'s compile searches for crates, each once.
fn crate_folders(reader: &CrateReader) -> BTreeSet<String> {
    reader.krate.crate_folders.iter().map(|folder| reader.absolute(folder)).collect()
}

fn files_in(folder: String) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.map(move |name| format!("{folder}/{name}"))
}

/// The compiled crates in the folders that are searched.
struct Shelf {
    by_extra: BTreeMap<Extra, BTreeMap<String, Files>>,
    /// Those without an extra part, which are found by their names; these nobody can read off.
    others: Vec<String>,
}

impl Shelf {
    /// Those that `reader`'s crate may use: what an earlier compile of itself has left is nothing it
    /// reads.
    fn of(reader: &CrateReader) -> Self {
        let own = reader.plan.outputs.iter().map(|file| reader.absolute(&file.path)).collect();
        Self::in_folders(crate_folders(reader), &own)
    }

    fn in_folders(folders: BTreeSet<String>, own: &BTreeSet<String>) -> Self {
        let mut shelf = Self { by_extra: BTreeMap::new(), others: Vec::new() };
        for path in folders.into_iter().flat_map(files_in).filter(|path| !own.contains(path)) {
            shelf.put(path);
        }
        shelf.others.sort();
        shelf
    }

    fn put(&mut self, path: String) {
        let Some((kind, _)) = crate_file(&path) else { return };
        let stem = &path[..path.len() - ARTIFACTS[kind].len()];
        match Extra::of_stem(stem) {
            Some(extra) => {
                let crates = self.by_extra.entry(extra).or_default();
                crates.entry(stem.to_owned()).or_default()[kind] = Some(path.clone());
            }
            None if kind < 2 => self.others.push(path),
            // A native library, unless a command or a failure names it.
            None => {}
        }
    }

    /// The files with this extra part, once.
    fn take(&mut self, extra: Extra, depth: Depth) -> Vec<String> {
        let crates = self.by_extra.remove(&extra).unwrap_or_default();
        crates.into_values().flat_map(|files| chosen(files, depth)).collect()
    }

    fn take_all(&mut self, depth: Depth) -> Vec<String> {
        let all = std::mem::take(&mut self.by_extra);
        let files = all.into_values().flat_map(BTreeMap::into_values);
        files.flat_map(|files| chosen(files, depth)).collect()
    }
}

/// The files of a crate that are read: what can be loaded is another form of it.
fn chosen([metadata, objects, loadable]: Files, depth: Depth) -> impl Iterator<Item = String> {
    let whole = match depth {
        Depth::Metadata => metadata.or(objects),
        Depth::Objects => objects.or(metadata),
    };
    whole.into_iter().chain(loadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn made(folder: &Path, name: &str, mentions: &str) {
        fs::write(folder.join(name), format!("rust\0\0\0{mentions}")).unwrap();
    }

    /// What a crate with one extern gets of a folder, by file name.
    fn reached(depth: Depth) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (one, two, three) = ("0000000000000001", "0000000000000002", "0000000000000003");
        made(&root, &format!("liba-{one}.rmeta"), &format!("b-{two}.."));
        made(&root, &format!("liba-{one}.rlib"), "");
        made(&root, &format!("libb-{two}.rmeta"), &format!("-{three}"));
        made(&root, &format!("libb-{two}.rlib"), &format!("-{three}"));
        let macros = format!("libc-{three}.so");
        fs::write(root.join(macros), b"\x7fELF..__rustc_proc_macro_decls_0").unwrap();
        made(&root, "libb-0000000000000009.rlib", "");
        made(&root, "libplain.rlib", "");
        made(&root, "libown.rlib", "");
        made(&root, "libnative.so", "");
        let closed = root.join("libd-0000000000000004.so");
        fs::write(&closed, b"\x7fELF..rust_metadata_d_0").unwrap();
        let index = crate::client::crates::index();
        assert_eq!(mentioned(closed.to_str().unwrap(), &index).unwrap(), None);
        let own = BTreeSet::from([format!("{}/libown.rlib", root.display())]);
        let shelf = Shelf::in_folders([root.to_str().unwrap().to_owned()].into(), &own);
        let named = vec![format!("{}/liba-{one}.rmeta", root.display())];
        let mut found = BTreeSet::new();
        let mut note = |path: &str| {
            assert!(found.insert(path.rsplit('/').next().unwrap().to_owned()), "{path} twice");
            Ok(())
        };
        reach(named, shelf, depth, &index, &mut note).unwrap();
        found.into_iter().collect()
    }

    #[test]
    fn crates_are_reached_through_one_another() {
        let metadata = reached(Depth::Metadata);
        let of = ["liba-0000000000000001.rmeta", "libb-0000000000000002.rmeta"];
        assert_eq!(metadata, [&of[..], &["libc-0000000000000003.so", "libplain.rlib"]].concat());
        assert!(reached(Depth::Objects).contains(&"libb-0000000000000002.rlib".to_owned()));
    }
}
