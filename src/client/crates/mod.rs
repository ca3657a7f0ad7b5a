//! What does a compile of a crate read? No pass of rustc tells that without compiling, and macros
//! read whatever they like. So the inputs are everything that a crate may be expected to read: its
//! package, what its build script made, the crates that it uses and those that these use, native
//! libraries, and what was found out when an earlier compile lacked something.
//!
//! A worker's compile sees nothing else. Where it asked for a variable and heard something else than
//! it would here, the compiler's own list tells; where it lacked a file, it fails, and the words of
//! the failure or the local compile that follows tell which ([`learned`]).
//!
//! Reading order: [`discover`] and [`find`] (the story), `package`, `uses` (with `sources`), `native`, [`answered`],
//! [`learned`] (with `words`), [`study`].

pub(super) mod answered;
pub mod learned;
mod native;
mod package;
mod sources;
pub mod study;
mod uses;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::inputs::{About, Extent, Held, Inputs, absolute, working_folders};
use crate::compiler::Plan;
use crate::compiler::rustc::mentions::{Extra, Scan};
use crate::compiler::rustc::{CratePlan, dep_info, environment};
use crate::job::outcome::is_artifact;
use crate::job::reads::PathList;
use crate::job::{Digest, Kind, LocalReason, RustTool};
use crate::store::stamps::{FileIndex, Pieces};
use crate::store::walk::{Added, TreeBuilder, WalkError};
use crate::toolchain::resolve::Resolved;

use learned::{Learned, Lesson};

/// Most bytes of all files of one crate's inputs.
const INPUT_BYTES_MAX: u64 = 1 << 30;
/// Files whose digests and mentions are remembered.
const INDEX_MAX: usize = 100_000;

/// The crates that a compiled crate speaks of; `None` where nobody can read that off.
pub type Mentions = Option<Arc<BTreeSet<Extra>>>;

/// What files of crates say.
pub type CrateIndex = FileIndex<Mentions>;

/// Whether sources define macros.
pub type MacroIndex = FileIndex<bool>;

impl Pieces<Mentions> for Scan {
    fn take(&mut self, piece: &[u8]) {
        Self::take(self, piece);
    }

    fn end(self: Box<Self>) -> Mentions {
        Self::end(*self).map(Arc::new)
    }
}

/// An empty index.
fn index() -> CrateIndex {
    FileIndex::in_pieces(INDEX_MAX, || Box::<Scan>::default())
}

/// A crate whose inputs are wanted.
#[derive(Clone, Debug)]
pub struct CrateReader {
    /// The compiler.
    pub compiler: Resolved,
    /// What its command line says.
    pub plan: Arc<Plan>,
    /// What it says of the crate.
    pub krate: CratePlan,
    /// Physical working directory.
    pub directory: String,
    /// Working directory as `PWD` names it, if that is the same place.
    pub logical_directory: String,
    /// The wrapper's variables.
    pub environment: BTreeMap<String, String>,
}

impl CrateReader {
    /// `path` seen from the working directory.
    fn absolute(&self, path: &str) -> String {
        absolute(&self.directory, path)
    }

    /// A variable that names an absolute folder.
    fn folder(&self, variable: &str) -> Option<&str> {
        let value = self.environment.get(variable)?;
        (value.starts_with('/') && Path::new(value).is_dir()).then_some(value)
    }

    /// The folder of the crate's package.
    pub fn package(&self) -> String {
        let source = self.absolute(&self.plan.source);
        let manifest = Path::new(&source)
            .ancestors()
            .skip(1)
            .find(|folder| folder.join("Cargo.toml").is_file())
            .and_then(Path::to_str);
        match self.folder("CARGO_MANIFEST_DIR").or(manifest) {
            Some(folder) => folder.to_owned(),
            None => super::inputs::folder_of(&source).to_owned(),
        }
    }

    /// Variables that the package's build script has set: cargo keeps its words beside what it made.
    fn set_by_script(&self) -> BTreeSet<String> {
        let words = self.folder("OUT_DIR").and_then(|made| Path::new(made).parent());
        let words = words.and_then(|folder| std::fs::read(folder.join("output")).ok());
        words
            .map(|words| environment::set_by_script(&String::from_utf8_lossy(&words)))
            .unwrap_or_default()
    }

    /// Names the crate through its edits: equal crates of equal packages learn from one another.
    pub fn key(&self) -> Digest {
        let source = self.absolute(&self.plan.source);
        Digest::of([source.as_str(), "\0", &self.krate.name].concat().as_bytes())
    }

    /// Names the crate and what it is compiled into, with which options.
    fn command_key(&self) -> Digest {
        let arguments = self.plan.arguments.join("\0");
        Digest::of([self.key().to_string().as_str(), "\0", &arguments].concat().as_bytes())
    }
}

/// What this daemon knows of crates.
#[derive(Debug)]
pub struct Crates {
    /// What is in files.
    pub index: CrateIndex,
    /// Which sources define macros.
    pub macros: MacroIndex,
    /// What was learned.
    pub learned: Learned,
}

impl Crates {
    /// What the file at `path` holds.
    pub fn open(path: PathBuf) -> Self {
        Self { index: index(), macros: sources::index(), learned: Learned::open(path) }
    }
}

/// The inputs of `reader`'s crate, and the variables that it may see.
///
/// # Errors
/// Why the compile has to run locally.
pub async fn discover(
    reader: &Arc<CrateReader>,
    crates: &Crates,
) -> Result<(Held, BTreeMap<String, String>), LocalReason> {
    if crates.learned.is_strange(&reader.command_key()) {
        return Err(LocalReason::OnlyHere(reader.krate.name.clone()));
    }
    let lesson = crates.learned.of(&reader.key());
    let (reader, index, macros) = (reader.clone(), crates.index.clone(), crates.macros.clone());
    let finding = tokio::task::spawn_blocking(move || {
        let mut named = lesson.variables.clone();
        named.extend(reader.set_by_script());
        let links = reader.krate.links;
        let environment = environment::remote_environment(&reader.environment, &named, links)?;
        Ok((find(&reader, &lesson, (&index, &macros))?, environment))
    });
    finding.await.map_err(|_| LocalReason::Stopping)?
}

/// The inputs of `reader`'s crate; blocking.
///
/// # Errors
/// Why the compile has to run locally.
pub fn find(
    reader: &CrateReader,
    lesson: &Lesson,
    (index, macros): (&CrateIndex, &MacroIndex),
) -> Result<Held, LocalReason> {
    let mut builder = TreeBuilder::new(index);
    // 1. The package, with the crate's root, and what its build script made.
    let source = reader.absolute(&reader.plan.source);
    let main = match builder.add(&source).map_err(unreadable)? {
        Added::File(known) => known.digest,
        Added::Directory => return Err(LocalReason::UnreadableInput(source)),
    };
    package::add(reader, &source, &mut builder)?;
    // 2. Compiled crates, and what a linker takes besides.
    let is_crate = |path: &&String| is_artifact(path);
    let missing = lesson.files.iter().filter(is_crate).cloned();
    uses::add(reader, missing, (index, macros), &mut builder)?;
    native::add(reader, &mut builder)?;
    // 3. Files that the command names, and those that were missing once.
    let target = reader.krate.target.iter().filter(|target| target.ends_with(".json"));
    for file in reader.plan.input_files.iter().chain(target) {
        builder.add(&reader.absolute(file)).map_err(unreadable)?;
    }
    for file in lesson.files.iter().filter(|path| !is_crate(path)) {
        add_if_there(file, &mut builder)?;
    }
    if let Kind::Rust(RustTool::Clippy) = reader.compiler.kind {
        package::add_clippys(reader, &mut builder)?;
    }
    add_folders(reader, &mut builder)?;
    let bytes = builder.bytes();
    if bytes > INPUT_BYTES_MAX {
        let words =
            format!("the crate's inputs have {bytes} bytes, wanted at most {INPUT_BYTES_MAX}");
        return Err(LocalReason::TooLarge(words));
    }
    let built = builder.finish();
    built.tree.check().map_err(|error| LocalReason::UnreadableInput(error.to_string()))?;
    let about = About {
        command: reader.key(),
        main: Some(main),
        always: PathList::default(),
        extent: Extent::Exact,
        rules: None,
    };
    let tree = Arc::new(built.tree);
    Ok((Arc::new(Inputs::of_tree(about, &tree, built.seen)), Some(tree)))
}

/// Adds a file that may be gone by now.
fn add_if_there(path: &str, builder: &mut TreeBuilder<'_, Mentions>) -> Result<(), LocalReason> {
    match builder.add(path) {
        Ok(_) | Err(WalkError::NotFound(_) | WalkError::NotADirectory(_)) => Ok(()),
        Err(error) => Err(unreadable(error)),
    }
}

/// What the compiler has said of its reads in the file at `path`, unless that is none or too large.
fn read_list(path: &Path) -> Option<Vec<u8>> {
    let size = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?.len();
    (size <= dep_info::BYTES_MAX as u64).then(|| std::fs::read(path).ok()).flatten()
}

/// Folders that have to be there even if nothing in them is wanted.
fn add_folders(
    reader: &CrateReader,
    builder: &mut TreeBuilder<'_, Mentions>,
) -> Result<(), LocalReason> {
    let CrateReader { plan, krate, directory, logical_directory, .. } = reader;
    for folder in working_folders(plan, directory, logical_directory) {
        builder.add_directory(&folder).map_err(unreadable)?;
    }
    for folder in krate.crate_folders.iter().chain(&krate.native_folders) {
        let folder = reader.absolute(folder);
        match builder.add(&folder) {
            Ok(_) => {}
            // The compiler passes over what is not there.
            Err(WalkError::NotFound(_) | WalkError::NotADirectory(_)) => {
                builder.watch(Path::new(&folder));
            }
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(())
}

fn unreadable(error: WalkError) -> LocalReason {
    LocalReason::UnreadableInput(error.to_string())
}
