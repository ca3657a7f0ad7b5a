//! The tree of what a compile reads: every listed file with the links on the way to it, the folders
//! that are searched, and what include tests look for; or why the compile cannot leave.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use super::lookout::{PRECOMPILED, lookout};
use super::{About, Extent, Inputs, Listing, Reader, Rules, absolute, working_folders};
use crate::client::memory::Lookout;
use crate::compiler::search::Search;
use crate::compiler::{FileFacts, IncludeTest};
use crate::job::reads::PathList;
use crate::job::{Digest, Family, LocalReason, Node, Tree, TreePath};
use crate::store::stamps::FileIndex;
use crate::store::walk::{self, Added, TreeBuilder};

/// Inputs that were just found.
pub(super) struct Built {
    pub(super) inputs: Inputs,
    /// Their tree.
    pub(super) tree: Arc<Tree>,
    /// What to watch for.
    pub(super) lookout: Lookout,
}

/// The tree of what `listing` names, and what to watch for.
pub(super) fn build(
    (command, extent): (Digest, Extent),
    reader: &Reader,
    listing: &Listing,
    index: &FileIndex<FileFacts>,
) -> Result<Built, LocalReason> {
    let mut builder = TreeBuilder::new(index);
    let (mut tests, mut once) = (BTreeSet::new(), HashSet::new());
    let (mut main, mut named) = (None, Vec::new());
    for (number, file) in listing.files.iter().chain(&reader.plan.input_files).enumerate() {
        let path = absolute(&reader.directory, file);
        let scanned = listing.known.get(number);
        let added = match scanned {
            Some(Some(known)) => builder.add_known(&path, known),
            Some(None) | None => builder.add(&path),
        };
        let added = added.map_err(|error| unreadable(&error))?;
        let Added::File(known) = added else {
            return Err(LocalReason::UnreadableInput(path));
        };
        if *file == reader.plan.source {
            main = Some(known.digest);
        }
        if number == 0 || scanned.is_none() {
            refuse_precompiled(reader, &path)?;
        }
        let Some(facts) = &known.facts else {
            return Err(LocalReason::UnreadableInput(format!(
                "`{path}` is too large to look into"
            )));
        };
        judge(reader, listing, &path, facts)?;
        once.extend(facts.once.then_some(known.digest));
        named.extend(add_quoted(reader, facts, &mut builder)?);
        let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
        tests.extend(facts.has_include.iter().map(|test| (folder.to_owned(), test.clone())));
    }
    add_folders(reader, listing, &mut builder)?;
    for (folder, test) in &tests {
        named.extend(add_tested(folder, test, &listing.search, reader, &mut builder)?);
    }
    let names = tests.iter().map(|(_, test)| &test.name).chain(&listing.missing);
    let lookout = lookout(reader, listing, names.map(String::as_str));
    let walk::Built { tree, seen, .. } = builder.finish();
    refuse_twins(reader.family, &tree, &once)?;
    let always = [&reader.plan.source].into_iter().chain(&reader.plan.input_files);
    let always = always.map(|file| absolute(&reader.directory, file)).chain(named);
    let always = always.filter_map(|path| tree.resolve_file(&path).cloned()).collect();
    let always = PathList::new(always).ok_or_else(|| {
        LocalReason::UnreadableInput("too many files whose being there is tested".into())
    })?;
    let rules = (extent == Extent::Larger).then(|| Rules::of(reader, &listing.search));
    let about = About { command, main, always, extent, rules };
    let tree = Arc::new(tree);
    let inputs = Inputs::of_tree(about, &tree, seen);
    Ok(Built { inputs, tree, lookout })
}

/// What a file says that no worker can do as this machine would.
fn judge(
    reader: &Reader,
    listing: &Listing,
    path: &str,
    facts: &FileFacts,
) -> Result<(), LocalReason> {
    let fixed_time = (reader.epoch && listing.takes_epoch) || reader.plan.fixed_time;
    let any_time = facts.timestamp_macro || facts.file_times;
    if any_time || (facts.time_macro && !fixed_time) {
        return Err(LocalReason::TimeMacro(path.to_owned()));
    }
    let quotes_unknown = facts.unresolved_line_file && reader.family == Family::Gcc;
    if facts.unresolved_include_test || facts.embed || quotes_unknown {
        return Err(LocalReason::UnresolvedIncludeTest(path.to_owned()));
    }
    if facts.precompiled_header {
        return Err(LocalReason::PrecompiledHeader(path.to_owned()));
    }
    if facts.assembler_include {
        return Err(LocalReason::AssemblerInclude(path.to_owned()));
    }
    Ok(())
}

/// A precompiled header beside a listed one would be read instead of it.
fn refuse_precompiled(reader: &Reader, path: &str) -> Result<(), LocalReason> {
    let suffixes = match reader.family {
        Family::Gcc => &PRECOMPILED[..1],
        Family::Clang => &PRECOMPILED[..],
    };
    for suffix in suffixes {
        let precompiled = format!("{path}.{suffix}");
        if Path::new(&precompiled).exists() {
            return Err(LocalReason::PrecompiledHeader(precompiled));
        }
    }
    Ok(())
}

/// gcc's messages quote the files that a source claims to come from, if they are there. Gives those.
fn add_quoted(
    reader: &Reader,
    facts: &FileFacts,
    builder: &mut TreeBuilder<'_, FileFacts>,
) -> Result<Vec<String>, LocalReason> {
    let mut added = Vec::new();
    if reader.family != Family::Gcc {
        return Ok(added);
    }
    for name in facts.line_files.iter().filter(|name| !name.starts_with('<')) {
        let path = absolute(&reader.directory, name);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => {
                builder.add(&path).map_err(|error| unreadable(&error))?;
                added.push(path);
            }
            Ok(_) => {}
            Err(_) => builder.watch(Path::new(&path)),
        }
    }
    Ok(added)
}

/// Files of the same content are files of their own on a worker. Here gcc may take two that ask to
/// be read once for one, by their times; and clang takes links to one file for one.
fn refuse_twins(family: Family, tree: &Tree, once: &HashSet<Digest>) -> Result<(), LocalReason> {
    let identity = |path: &TreePath| {
        let found = std::fs::metadata(path.as_str()).ok();
        found.map(|found| (found.dev(), found.ino()))
    };
    let mut first = HashMap::new();
    for (path, node) in tree.iter() {
        let Node::File { digest, .. } = node else { continue };
        let Some(other) = first.insert(*digest, path) else { continue };
        let matters = match family {
            Family::Gcc => once.contains(digest),
            Family::Clang => identity(path) == identity(other),
        };
        if matters {
            return Err(LocalReason::TwinFiles(path.to_string()));
        }
    }
    Ok(())
}

/// Folders exist for the remote compiler as they exist here, even when they are empty.
fn add_folders(
    reader: &Reader,
    listing: &Listing,
    builder: &mut TreeBuilder<'_, FileFacts>,
) -> Result<(), LocalReason> {
    let Reader { plan, directory, logical_directory, .. } = reader;
    for folder in working_folders(plan, directory, logical_directory) {
        builder.add_directory(&folder).map_err(|error| unreadable(&error))?;
    }
    let searched = listing.search.quote.iter().chain(&listing.search.angle);
    for folder in searched.chain(&reader.plan.directories) {
        let path = absolute(&reader.directory, folder);
        // A file in a folder's place is worth another warning than nothing.
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() || found.is_file() => {
                builder.add(&path).map_err(|error| unreadable(&error))?;
            }
            _ => builder.watch(Path::new(&path)),
        }
    }
    Ok(())
}

/// An include test must find there what it finds here, whether or not it leads to an include. Gives
/// the files that it may find.
fn add_tested(
    folder: &str,
    test: &IncludeTest,
    search: &Search,
    reader: &Reader,
    builder: &mut TreeBuilder<'_, FileFacts>,
) -> Result<Vec<String>, LocalReason> {
    let (name, mut added) = (&test.name, Vec::new());
    let own = [folder.to_owned()];
    let quoted = own.iter().chain(&search.quote).filter(|_| test.quoted);
    for place in quoted.chain(&search.angle) {
        let place = absolute(&reader.directory, place);
        let path = if name.starts_with('/') { name.clone() } else { format!("{place}/{name}") };
        if Path::new(&path).is_file() {
            builder.add(&path).map_err(|error| unreadable(&error))?;
            added.push(path);
        } else {
            builder.watch(Path::new(&path));
        }
    }
    Ok(added)
}

fn unreadable(error: &crate::store::walk::WalkError) -> LocalReason {
    LocalReason::UnreadableInput(error.to_string())
}
