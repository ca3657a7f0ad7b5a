//! Which files will the compile read? Remembers what a command read last time; else asks the
//! compiler's own dependency pass, follows every path as the kernel would and puts what it finds
//! into a tree.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::folders::now_ns;
use super::memory::{Lookout, Memory};
use super::upload::{Source, Sources};
use crate::compiler::search::Search;
use crate::compiler::{FileFacts, IncludeTest, Plan, depfile, search, version};
use crate::exec;
use crate::job::wire::BlobClass;
use crate::job::{Digest, Family, LocalReason, Node, TreePath};
use crate::store::stamps::FileIndex;
use crate::store::walk::{Added, Built, Seen, TreeBuilder};
use crate::toolchain::resolve::Resolved;

/// How long the dependency pass may take.
const PASS_DEADLINE: Duration = Duration::from_secs(120);
/// Most bytes of a dependency list.
const PASS_BYTES_MAX: u64 = 64 << 20;
/// Most files that a compile reads.
const FILES_MAX: usize = 100_000;
/// Suffixes of precompiled headers: gcc's, and clang's own.
const PRECOMPILED: [&str; 2] = ["gch", "pch"];
/// Input trees up to this size, in bytes of zstd, travel inside the request.
const INLINE_TREE_MAX: usize = 64 << 10;

/// Everything a compile reads.
#[derive(Debug)]
pub struct Inputs {
    /// Digest of the tree.
    pub digest: Digest,
    /// The tree's bytes when they travel inside the request.
    pub inline_zstd: Option<Bytes>,
    /// The source file that the command names, if the compiler lists it under that name.
    pub main: Option<Digest>,
    /// Where each blob can be read for upload.
    pub sources: Sources,
    /// What to look at again before the result is believed.
    pub seen: Vec<Seen>,
}

/// The command whose inputs are wanted.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The compiler.
    pub compiler: Resolved,
    /// What its command line says.
    pub plan: Arc<Plan>,
    /// Physical working directory.
    pub directory: String,
    /// Working directory as `PWD` names it, if that is the same place.
    pub logical_directory: String,
    /// The toolchain, which brings search folders of its own.
    pub toolchain: Digest,
    /// The variables that change what a compile gives.
    pub travelling: BTreeMap<String, String>,
    /// The wrapper's whole environment, for the dependency pass alone.
    pub environment: BTreeMap<OsString, OsString>,
    /// Whether `SOURCE_DATE_EPOCH` is set.
    pub epoch: bool,
}

/// What the dependency pass tells.
#[derive(Debug, Default)]
struct Listing {
    files: Vec<String>,
    search: Search,
    /// Whether the compiler takes the time from `SOURCE_DATE_EPOCH`.
    takes_epoch: bool,
    /// When the pass began, Unix time in ns.
    began_ns: i64,
}

impl Reader {
    /// Names the command: equal commands read the same as long as the files are the same.
    fn key(&self) -> Result<Digest, LocalReason> {
        let command = (
            (&self.compiler.executable, &self.compiler.argv0, self.toolchain),
            (&self.plan.source, &self.plan.arguments),
            (&self.directory, &self.logical_directory),
            &self.travelling,
        );
        let bytes = rmp_serde::to_vec(&command).map_err(|_| LocalReason::NotUtf8)?;
        Ok(Digest::of(&bytes))
    }
}

/// Finds the inputs of `reader`'s command. `passes` bounds the compilers started at once.
///
/// # Errors
/// Why the compile has to run locally.
pub async fn discover(
    reader: Reader,
    memory: &Memory,
    index: &FileIndex<FileFacts>,
    passes: &Semaphore,
) -> Result<Arc<Inputs>, LocalReason> {
    let key = reader.key()?;
    if let Some(inputs) = memory.recall(&key) {
        return Ok(inputs);
    }
    check_source(&reader)?;
    let listing = match &reader.plan.dependency {
        Some(arguments) => dependency_pass(&reader, arguments, passes).await?,
        None => Listing {
            files: vec![reader.plan.source.clone()],
            began_ns: now_ns(),
            ..Listing::default()
        },
    };
    let index = index.clone();
    let built = tokio::task::spawn_blocking(move || build(&reader, &listing, &index)).await;
    let (inputs, lookout) = built.map_err(|_| LocalReason::Stopping)??;
    let inputs = Arc::new(inputs);
    memory.remember(key, &inputs, &lookout);
    Ok(inputs)
}

/// The source has to be a file that can be read again: neither a pipe, whose content the dependency
/// pass would take away, nor a descriptor of the wrapper's.
fn check_source(reader: &Reader) -> Result<(), LocalReason> {
    let path = absolute(&reader.directory, &reader.plan.source);
    let is_descriptor = path.starts_with("/dev/") || path.starts_with("/proc/");
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() && !is_descriptor => Ok(()),
        _ => Err(LocalReason::UnreadableInput(path)),
    }
}

async fn dependency_pass(
    reader: &Reader,
    arguments: &[String],
    passes: &Semaphore,
) -> Result<Listing, LocalReason> {
    let began_ns = now_ns();
    let _turn = passes.acquire().await.map_err(|_| LocalReason::Stopping)?;
    let mut environment = reader.environment.clone();
    // The list is read by a program: whatever the user's language, in English.
    environment.insert("LC_MESSAGES".into(), "C".into());
    environment.remove(std::ffi::OsStr::new("LANGUAGE"));
    if let Some(all) = environment.remove(std::ffi::OsStr::new("LC_ALL")) {
        environment.insert("LC_CTYPE".into(), all);
    }
    let finished = exec::run(exec::Spec {
        argv0: Some(reader.compiler.argv0.clone().into()),
        arguments: arguments.iter().map(OsString::from).collect(),
        environment,
        directory: reader.directory.clone().into(),
        stream_bytes_max: PASS_BYTES_MAX,
        deadline: PASS_DEADLINE,
        ..exec::Spec::of(&reader.compiler.executable)
    })
    .await
    .map_err(|error| LocalReason::Toolchain(error.to_string()))?;
    if finished.status != exec::Ended::Code(0) {
        return Err(LocalReason::DependencyPass);
    }
    let files = depfile::parse(&finished.stdout, FILES_MAX)
        .map_err(|error| LocalReason::UnreadableInput(error.to_string()))?;
    let search = search::parse_search_dirs(&finished.stderr);
    if !search.complete || !search.frameworks.is_empty() {
        return Err(LocalReason::UnreadableInput("the compiler's search folders".into()));
    }
    let takes_epoch = version::takes_epoch(reader.compiler.family, &finished.stderr);
    Ok(Listing { files, search, takes_epoch, began_ns })
}

fn build(
    reader: &Reader,
    listing: &Listing,
    index: &FileIndex<FileFacts>,
) -> Result<(Inputs, Lookout), LocalReason> {
    let mut builder = TreeBuilder::new(index);
    let (mut tests, mut once) = (BTreeSet::new(), HashSet::new());
    let mut main = None;
    for file in listing.files.iter().chain(&reader.plan.input_files) {
        let path = absolute(&reader.directory, file);
        let added = builder.add(&path).map_err(|error| unreadable(&error))?;
        let Added::File(known) = added else {
            return Err(LocalReason::UnreadableInput(path));
        };
        if *file == reader.plan.source {
            main = Some(known.digest);
        }
        refuse_precompiled(reader, &path)?;
        let Some(facts) = &known.facts else {
            return Err(LocalReason::UnreadableInput(format!(
                "`{path}` is too large to look into"
            )));
        };
        judge(reader, listing, &path, facts)?;
        once.extend(facts.once.then_some(known.digest));
        add_quoted(reader, facts, &mut builder)?;
        let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
        tests.extend(facts.has_include.iter().map(|test| (folder.to_owned(), test.clone())));
    }
    add_folders(reader, listing, &mut builder)?;
    for (folder, test) in &tests {
        add_tested(folder, test, &listing.search, reader, &mut builder)?;
    }
    let lookout = lookout(reader, listing, tests.iter().map(|(_, test)| test.name.as_str()));
    let built = builder.finish();
    refuse_twins(reader.compiler.family, &built, &once)?;
    let bytes = built.tree.encode();
    let digest = Digest::of(&bytes);
    let mut sources: Sources = built
        .sources
        .into_iter()
        .map(|(digest, path)| ((BlobClass::Input, digest), Source::File(path)))
        .collect();
    let zstd = crate::store::Compressed::new(&bytes).zstd;
    let inline_zstd = (zstd.len() <= INLINE_TREE_MAX).then_some(zstd);
    if inline_zstd.is_none() {
        sources.insert((BlobClass::Input, digest), Source::Bytes(bytes.into()));
    }
    let inputs = Inputs { digest, inline_zstd, main, sources, seen: built.seen };
    Ok((inputs, lookout))
}

/// Where a new file could be found before one of the listed ones. A file found beside its includer
/// or by its full path has nothing before it; any other was found in a search folder, and then
/// every folder that any include might search counts.
fn lookout<'a>(
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
    let quotes_unknown = facts.unresolved_line_file && reader.compiler.family == Family::Gcc;
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
    let suffixes = match reader.compiler.family {
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

/// gcc's messages quote the files that a source claims to come from, if they are there.
fn add_quoted(
    reader: &Reader,
    facts: &FileFacts,
    builder: &mut TreeBuilder<'_, FileFacts>,
) -> Result<(), LocalReason> {
    if reader.compiler.family != Family::Gcc {
        return Ok(());
    }
    for name in facts.line_files.iter().filter(|name| !name.starts_with('<')) {
        let path = absolute(&reader.directory, name);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => {
                builder.add(&path).map_err(|error| unreadable(&error))?;
            }
            Ok(_) => {}
            Err(_) => builder.watch(Path::new(&path)),
        }
    }
    Ok(())
}

/// Files of the same content are files of their own on a worker. Here gcc may take two that ask to
/// be read once for one, by their times; and clang takes links to one file for one.
fn refuse_twins(family: Family, built: &Built, once: &HashSet<Digest>) -> Result<(), LocalReason> {
    let identity = |path: &TreePath| {
        let found = std::fs::metadata(path.as_str()).ok();
        found.map(|found| (found.dev(), found.ino()))
    };
    let mut first = HashMap::new();
    for (path, node) in built.tree.iter() {
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
    let outputs = reader.plan.outputs.iter().filter_map(|output| {
        let path = absolute(&reader.directory, &output.path);
        path.rsplit_once('/')
            .map(|(folder, _)| folder.to_owned())
            .filter(|folder| !folder.is_empty())
    });
    for folder in
        [reader.directory.clone(), reader.logical_directory.clone()].into_iter().chain(outputs)
    {
        if folder != "/" {
            builder.add_directory(&folder).map_err(|error| unreadable(&error))?;
        }
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

/// An include test must find there what it finds here, whether or not it leads to an include.
fn add_tested(
    folder: &str,
    test: &IncludeTest,
    search: &Search,
    reader: &Reader,
    builder: &mut TreeBuilder<'_, FileFacts>,
) -> Result<(), LocalReason> {
    let name = &test.name;
    let own = [folder.to_owned()];
    let quoted = own.iter().chain(&search.quote).filter(|_| test.quoted);
    for place in quoted.chain(&search.angle) {
        let place = absolute(&reader.directory, place);
        let path = if name.starts_with('/') { name.clone() } else { format!("{place}/{name}") };
        if Path::new(&path).is_file() {
            builder.add(&path).map_err(|error| unreadable(&error))?;
        } else {
            builder.watch(Path::new(&path));
        }
    }
    Ok(())
}

fn unreadable(error: &crate::store::walk::WalkError) -> LocalReason {
    LocalReason::UnreadableInput(error.to_string())
}

/// `path` seen from `directory`; not cleaned, because `..` after a link means something else.
fn absolute(directory: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") }
}
