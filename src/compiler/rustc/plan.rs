//! The story of one command line of rustc: what it reads and writes as far as the words say, or why
//! it stays at home.

use std::io;

use super::fold::{Seen, fold};
use super::outputs;
use crate::compiler::plan::{Plan, Preprocessing, Verdict};
use crate::compiler::response::absolute;
use crate::compiler::{Language, RESPONSE_BYTES_MAX};
use crate::job::{LocalReason, WantedOutput};

/// What a crate's command names besides what every command has. Paths are as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CratePlan {
    /// The crate's name.
    pub name: String,
    /// The platform compiled for, if it is not the compiler's own: a name, or a file with its
    /// description.
    pub target: Option<String>,
    /// Whether a linker runs.
    pub links: bool,
    /// The linker that the command names.
    pub linker: Option<String>,
    /// Crates in use.
    pub externs: Vec<Extern>,
    /// Folders where crates are searched.
    pub crate_folders: Vec<String>,
    /// Folders where native libraries are searched.
    pub native_folders: Vec<String>,
    /// Native libraries that the command names.
    pub libraries: Vec<NativeLibrary>,
    /// The file in which the compiler says what it read.
    pub dep_info: Option<String>,
    /// How much of the crates in use is read.
    pub depth: Depth,
    /// The output that the compiler announces while it goes on: whoever uses the crate may begin.
    pub announced: Option<String>,
}

/// How much of the crates in use a compile reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// What they declare.
    #[default]
    Metadata,
    /// Their objects too: something is made that holds them.
    Objects,
}

/// A crate that is used by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extern {
    /// Its name in the source.
    pub name: String,
    /// Its file; without one it is searched.
    pub path: Option<String>,
}

impl Extern {
    /// `[OPTIONS:]NAME[=FILE]`.
    pub(super) fn of(value: &str) -> Self {
        let (name, path) = value.split_once('=').map_or((value, None), |(n, p)| (n, Some(p)));
        let name = name.rsplit(':').next().unwrap_or(name);
        Self { name: name.to_owned(), path: path.map(str::to_owned) }
    }
}

/// A native library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeLibrary {
    /// Its name, without prefix and suffix.
    pub name: String,
    /// Whether it is a file of that very name.
    pub verbatim: bool,
}

impl NativeLibrary {
    /// `[KIND[:MODIFIERS]=]NAME[:RENAME]`.
    pub(super) fn of(value: &str) -> Self {
        let (kind, name) = value.split_once('=').unwrap_or(("", value));
        // What is renamed is searched under its new name.
        let name = name.rsplit(':').next().unwrap_or(name);
        Self { name: name.to_owned(), verbatim: kind.contains("+verbatim") }
    }
}

/// Crate types whose files come from a linker.
const LINKED: [&str; 4] = ["bin", "cdylib", "dylib", "proc-macro"];

/// What to do with the command of `arguments`, without `argv[0]`, in the absolute `directory`.
/// `read_file` gets absolute paths of files with more arguments.
pub fn plan(
    arguments: &[String],
    directory: &str,
    read_file: &dyn Fn(&str) -> io::Result<Vec<u8>>,
) -> Verdict {
    decide(arguments, directory, read_file).into()
}

fn decide(
    arguments: &[String],
    directory: &str,
    read_file: &dyn Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Option<Plan>, LocalReason> {
    let arguments = expand(arguments, directory, read_file)?;
    // clippy-driver is called with the name of the compiler that it stands for.
    let skipped = usize::from(arguments.first().is_some_and(|first| is_rustc(first)));
    let seen = fold(&arguments[skipped..])?;
    if seen.informs || seen.operands.is_empty() {
        return Ok(None);
    }
    let (source, name) = root(directory, &seen)?;
    let outputs = outputs::wanted(&seen, name)?;
    Ok(Some(Plan {
        source: source.to_owned(),
        language: Language::Rust,
        reads: None,
        dependency: None,
        fixed_time: false,
        preprocessing: Preprocessing::default(),
        input_files: seen.input_files.iter().map(|file| (*file).to_owned()).collect(),
        directories: Vec::new(),
        krate: Some(krate(&seen, name, &outputs)),
        outputs,
        arguments: arguments.clone(),
    }))
}

/// The arguments with those that stand in files, one a line. What looks in there like the name of
/// another file is none to the compiler, but would be one on a command line.
fn expand(
    arguments: &[String],
    directory: &str,
    read_file: &dyn Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Vec<String>, LocalReason> {
    let mut all = Vec::with_capacity(arguments.len());
    let mut bytes_left = RESPONSE_BYTES_MAX;
    for argument in arguments {
        let Some(file) = argument.strip_prefix('@') else {
            all.push(argument.clone());
            continue;
        };
        let path = absolute(directory, file);
        let bytes = read_file(&path).ok().filter(|bytes| bytes.len() <= bytes_left);
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let is_plain = |text: &String| !text.lines().any(|line| line.starts_with('@'));
        let text = text.filter(is_plain).ok_or(LocalReason::ResponseFile(path))?;
        bytes_left -= text.len();
        all.extend(text.lines().map(str::to_owned));
    }
    Ok(all)
}

/// The crate's root file and its name, if the command may travel.
fn root<'a>(directory: &str, seen: &Seen<'a>) -> Result<(&'a str, &'a str), LocalReason> {
    let [source] = seen.operands[..] else { return Err(LocalReason::SeveralSources) };
    if source == "-" {
        return Err(LocalReason::StandardInput);
    }
    if let Some(reason) = &seen.refusal {
        return Err(reason.clone());
    }
    // It may stand in the source, and the names of the outputs with it.
    let Some(name) = seen.crate_name else {
        return Err(LocalReason::Flag("no --crate-name".into()));
    };
    // What the compiler was asked by `env!` stands there alone.
    if !seen.emit.iter().any(|(kind, _)| *kind == "dep-info") {
        return Err(LocalReason::Flag("no --emit dep-info".into()));
    }
    match probe(directory, seen) {
        Some(probe) => Err(LocalReason::ConfigureProbe(probe)),
        None => Ok((source, name)),
    }
}

/// What the words say of the crate.
fn krate(seen: &Seen<'_>, name: &str, outputs: &[WantedOutput]) -> CratePlan {
    let emits = |kind: &str| seen.emit.iter().any(|(found, _)| *found == kind);
    let links = emits("link") && outputs::kinds(seen).iter().any(|kind| LINKED.contains(kind));
    let is_static = outputs::kinds(seen).contains(&"staticlib");
    let goes_on = seen.announces && emits("link") && emits("metadata");
    let metadata = outputs.iter().map(|file| &file.path).find(|path| path.ends_with(".rmeta"));
    let folders = |kinds: &[&str]| {
        let fits = |(kind, _): &&(&str, &str)| kinds.contains(kind);
        seen.searched.iter().filter(fits).map(|(_, folder)| (*folder).to_owned()).collect()
    };
    CratePlan {
        name: name.to_owned(),
        target: seen.target.map(str::to_owned),
        links,
        linker: seen.linker.map(str::to_owned),
        externs: seen.externs.clone(),
        crate_folders: folders(&["all", "crate", "dependency"]),
        native_folders: folders(&["all", "framework", "native"]),
        libraries: seen.libraries.clone(),
        dep_info: outputs.last().map(|file| file.path.clone()),
        announced: metadata.filter(|_| goes_on).cloned(),
        depth: if links || is_static { Depth::Objects } else { Depth::Metadata },
    }
}

fn is_rustc(argument: &str) -> bool {
    argument.rsplit('/').next() == Some("rustc")
}

/// The folder that shows that a build script asks what the compiler can do: many such compiles are
/// meant to fail. Cargo itself compiles nothing into a folder of build scripts' results.
fn probe(directory: &str, seen: &Seen<'_>) -> Option<String> {
    let folder = seen.out_dir.unwrap_or(directory);
    let parts: Vec<&str> = folder.split('/').collect();
    let is_of_script = |place: &[&str]| place[0] == "build" && place[2] == "out";
    parts.windows(3).any(is_of_script).then(|| folder.to_owned())
}
