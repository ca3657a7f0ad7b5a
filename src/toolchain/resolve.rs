//! Which compiler a name means: `PATH` is searched as the shell does, past ourselves and past
//! compiler caches that stand in a compiler's place, and through scripts that only pass it on.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::ask::{Asked, text};
use super::{elf, rustup, script};
use crate::exec::{Ended, ExecError};
use crate::job::{Family, Kind, RustTool};
use crate::store::stamps::Stamp;

/// Searched when there is no `PATH`, as `execvp` does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// Programs that stand in a compiler's place and call it in turn.
const LAUNCHERS: [&str; 5] = ["ccache", "sccache", "distcc", "icecc", "jetcc"];
/// Compilers and scripts that are remembered; more are asked again.
const MEMORY_MAX: usize = 256;

/// A compiler that was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resolved {
    /// Absolute path as found, UTF-8; the last link is not followed.
    pub executable: PathBuf,
    /// `argv[0]` with which it is to be started.
    pub argv0: String,
    /// The file that runs in the end.
    pub real: PathBuf,
    /// Whose command line it speaks.
    pub kind: Kind,
    /// The user's `PATH`: where the compiler looks for itself and for its assembler.
    pub search_path: String,
    /// What it is to be packed with.
    pub equipment: Equipment,
}

/// What belongs to a compiler of Rust for some commands and not for others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Equipment {
    /// The platform whose standard library is needed, if it is not the compiler's own.
    pub target: Option<String>,
    /// The C compiler that links.
    pub linker: Option<PathBuf>,
}

/// Why a name means no compiler that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No such program.
    #[error("`{0}` is not in PATH")]
    NotFound(String),
    /// A program, but no compiler that is known here.
    #[error("`{0}` is neither gcc nor clang nor rustc")]
    NotACompiler(PathBuf),
    /// A script that adds to the command line, or hides what it calls.
    #[error("`{0}` is a script that does more than call a compiler")]
    CompilerScript(PathBuf),
    /// Its path is not text.
    #[error("`{0}` is not UTF-8")]
    NotUtf8(PathBuf),
    /// It could not be asked what it is.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// It could not be read.
    #[error("`{path}`: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// What is remembered of one file, under its path, stamp and the `PATH` it would search.
type Memory = HashMap<(PathBuf, Stamp, String), Verdict>;

/// What a file turned out to be.
#[derive(Clone, Debug)]
enum Verdict {
    Compiler(Kind),
    /// A program that calls this compiler, unchanged.
    Calls {
        executable: PathBuf,
        argv0: String,
        kind: Kind,
    },
}

/// Finds compilers and remembers what it learned about them.
#[derive(Debug)]
pub struct Resolver {
    own: PathBuf,
    memory: Mutex<Memory>,
}

impl Resolver {
    /// A resolver that never takes `own_executable` for a compiler.
    pub fn new(own_executable: PathBuf) -> Self {
        Self { own: own_executable, memory: Mutex::default() }
    }

    /// The compiler that `program` means in `directory` with `environment`.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve(
        &self,
        program: &str,
        directory: &Path,
        environment: &BTreeMap<OsString, OsString>,
    ) -> Result<Resolved, ResolveError> {
        let path = environment.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), |p| p);
        let search_path = path.to_string_lossy().into_owned();
        let (found, argv0) = self.locate(program, &search_path, directory)?;
        let name = found.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let verdict = match RustTool::of_name(name) {
            Some(tool) if rustup::is_proxy(&found) => {
                self.behind_rustup((&found, tool), directory, environment).await?
            }
            Some(_) | None => self.verdict(&found, &search_path, environment).await?,
        };
        let (executable, argv0, kind) = match verdict {
            Verdict::Compiler(kind) => (found, argv0, kind),
            Verdict::Calls { executable, argv0, kind } => (executable, argv0, kind),
        };
        let executable = clean(executable)?;
        if executable.to_str().is_none() {
            return Err(ResolveError::NotUtf8(executable));
        }
        let real = canonical(&executable)?;
        let equipment = Equipment::default();
        Ok(Resolved { executable, argv0, real, kind, search_path, equipment })
    }

    /// The first program that `program` means and that is none of ours, and how it is to be called.
    fn locate(
        &self,
        program: &str,
        search_path: &str,
        directory: &Path,
    ) -> Result<(PathBuf, String), ResolveError> {
        let is_path = program.contains('/');
        if is_path {
            let named = directory.join(program);
            if !is_program(&named) {
                return Err(ResolveError::NotFound(program.to_owned()));
            }
            if !self.is_launcher(&named) {
                return Ok((named, program.to_owned()));
            }
        }
        let name = program.rsplit('/').next().unwrap_or(program);
        let mut passed_over = false;
        let found = find_in_path(name, search_path, directory, |candidate| {
            let is_ours = self.is_launcher(candidate);
            passed_over |= is_ours;
            !is_ours
        });
        let found = found.ok_or_else(|| ResolveError::NotFound(name.to_owned()))?;
        // Compilers look for their own files beside what `argv[0]` leads to.
        let leads_there = !is_path && !passed_over;
        let argv0 = if leads_there { program.into() } else { found.to_string_lossy() };
        let argv0 = argv0.into_owned();
        Ok((found, argv0))
    }

    /// The tool that rustup starts under the name of `proxy`; remembered where the folder plays no
    /// part.
    async fn behind_rustup(
        &self,
        (proxy, tool): (&Path, RustTool),
        directory: &Path,
        environment: &BTreeMap<OsString, OsString>,
    ) -> Result<Verdict, ResolveError> {
        let stamp = stamp(proxy)?;
        let key = rustup::key(environment).map(|chosen| (proxy.to_owned(), stamp, chosen));
        if let Some(verdict) = key.as_ref().and_then(|key| self.recall(key)) {
            return Ok(verdict);
        }
        let executable = rustup::behind(proxy, tool, directory, environment).await?;
        let argv0 = executable.to_string_lossy().into_owned();
        let verdict = Verdict::Calls { executable, argv0, kind: Kind::Rust(tool) };
        if let Some(key) = key {
            self.remember(key, &verdict);
        }
        Ok(verdict)
    }

    fn recall(&self, key: &(PathBuf, Stamp, String)) -> Option<Verdict> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.get(key).filter(|verdict| verdict.still_there()).cloned()
    }

    fn remember(&self, key: (PathBuf, Stamp, String), verdict: &Verdict) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() >= MEMORY_MAX {
            memory.clear();
        }
        memory.insert(key, verdict.clone());
    }

    async fn verdict(
        &self,
        found: &Path,
        search_path: &str,
        environment: &BTreeMap<OsString, OsString>,
    ) -> Result<Verdict, ResolveError> {
        let io = |source| ResolveError::Io { path: found.to_owned(), source };
        let key = (found.to_owned(), stamp(found)?, search_path.to_owned());
        if let Some(verdict) = self.recall(&key) {
            return Ok(verdict);
        }
        let verdict = match elf::first_bytes(found).map_err(io)? {
            elf::MAGIC => Verdict::Compiler(kind_of(found, search_path).await?),
            [b'#', b'!', ..] => {
                let accept = |candidate: &Path| !self.is_launcher(candidate);
                let (executable, argv0) =
                    script::behind(found, search_path, environment, accept).await?;
                let kind = kind_of(&executable, search_path).await?;
                Verdict::Calls { executable, argv0, kind }
            }
            _ => return Err(ResolveError::NotACompiler(found.to_owned())),
        };
        self.remember(key, &verdict);
        Ok(verdict)
    }

    /// Whether `candidate` is this program or one of its kind.
    fn is_launcher(&self, candidate: &Path) -> bool {
        let name = canonical(candidate).ok();
        let name = name.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
        name.is_some_and(|name| LAUNCHERS.contains(&name))
            || identity(candidate).is_some_and(|it| Some(it) == identity(&self.own))
    }
}

impl Verdict {
    fn still_there(&self) -> bool {
        match self {
            Self::Compiler(_) => true,
            Self::Calls { executable, .. } => is_program(executable),
        }
    }
}

/// The compiler that `program` means; nothing is remembered. See [`Resolver::resolve`].
///
/// # Errors
/// [`ResolveError`].
pub async fn resolve(
    program: &str,
    directory: &Path,
    environment: &BTreeMap<OsString, OsString>,
    own_executable: &Path,
) -> Result<Resolved, ResolveError> {
    Resolver::new(own_executable.to_owned()).resolve(program, directory, environment).await
}

/// The first program called `name` in the folders of `search_path` that `accept` takes; an empty
/// or relative folder counts from `directory`.
pub(super) fn find_in_path(
    name: &str,
    search_path: &str,
    directory: &Path,
    mut accept: impl FnMut(&Path) -> bool,
) -> Option<PathBuf> {
    let folders = search_path.split(':').map(|folder| directory.join(folder));
    folders.map(|folder| folder.join(name)).find(|path| is_program(path) && accept(path))
}

/// Whether somebody may execute the file that `path` leads to.
pub(super) fn is_program(path: &Path) -> bool {
    let found = std::fs::metadata(path);
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Names the file that `path` leads to, whatever it is called.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok()
}

fn stamp(path: &Path) -> Result<Stamp, ResolveError> {
    let io = |source| ResolveError::Io { path: path.to_owned(), source };
    Ok(Stamp::of(&std::fs::metadata(path).map_err(io)?))
}

fn canonical(path: &Path) -> Result<PathBuf, ResolveError> {
    let io = |source| ResolveError::Io { path: path.to_owned(), source };
    path.canonicalize().map_err(io)
}

/// The same file without `.` and `..`: then the folder's links are followed, the last is not.
fn clean(path: PathBuf) -> Result<PathBuf, ResolveError> {
    let text = path.to_string_lossy();
    let parts = path.components();
    let dirty = text.contains("//")
        || text.contains("/./")
        || parts.into_iter().any(|part| matches!(part, Component::ParentDir | Component::CurDir));
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if dirty => Ok(canonical(folder)?.join(name)),
        _ => Ok(path),
    }
}

async fn kind_of(executable: &Path, search_path: &str) -> Result<Kind, ResolveError> {
    let real = canonical(executable)?;
    let name = real.file_name().and_then(OsStr::to_str).unwrap_or_default();
    if let Some(tool) = RustTool::of_name(name) {
        return Ok(Kind::Rust(tool));
    }
    Ok(Kind::C(match family_by_name(name) {
        Some(family) => family,
        None => family_by_macros(executable, search_path).await?,
    }))
}

/// The family of `gcc`, `g++-12`, `aarch64-linux-gnu-gcc-12.1`, `clang++-14` and the like.
fn family_by_name(name: &str) -> Option<Family> {
    let is_version = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    let stem = match name.rsplit_once('-') {
        Some((stem, version)) if is_version(version) => stem,
        _ => name,
    };
    match stem.rsplit('-').next() {
        Some("gcc" | "g++") => Some(Family::Gcc),
        Some("clang" | "clang++") => Some(Family::Clang),
        _ => None,
    }
}

/// Asks for the predefined macros; in an empty folder, for who knows what the program does.
async fn family_by_macros(executable: &Path, search_path: &str) -> Result<Family, ResolveError> {
    let folder = tempfile::tempdir()
        .map_err(|source| ResolveError::Io { path: std::env::temp_dir(), source })?;
    let asked =
        Asked { directory: folder.path().to_owned(), ..Asked::plain(executable, search_path) };
    let done = asked.run(&["-dM", "-E", "-x", "c", "/dev/null"]).await?;
    let macros = text(&done.stdout);
    let defines = |name: &str| {
        macros.lines().any(|line| line.split(' ').nth(1).is_some_and(|found| found == name))
    };
    match done.status {
        Ended::Code(0) if defines("__clang__") => Ok(Family::Clang),
        // Others that define `__GNUC__` say who they are besides.
        Ended::Code(0) if defines("__GNUC__") && !defines("__INTEL_COMPILER") => Ok(Family::Gcc),
        _ => Err(ResolveError::NotACompiler(executable.to_owned())),
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
