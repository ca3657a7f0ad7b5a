//! Seeing through a compiler script: it is asked what it would do, and the compiler it calls is
//! accepted in its place only if that, asked the same directly, says the same to the letter.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::ask::{Asked, text};
use super::elf;
use super::parts::labelled;
use super::resolve::{ResolveError, find_in_path};
use crate::exec::{ExecError, Finished};

/// Empty sources, so that the language a driver assumes shows too.
const SOURCES: [&str; 2] = ["empty.c", "empty.cc"];
/// The first shows search paths (also those from variables that the script sets), the second
/// every option down to the assembler's; a pipe keeps random temporary names out.
const QUESTIONS: [&[&str]; 2] =
    [&["-v", "-E"], &["-###", "-pipe", "-O1", "-g", "-o", "/dev/null", "-c"]];

/// The compiler behind `script` and the `argv[0]` that the script gives it.
pub(super) async fn behind(
    script: &Path,
    search_path: &str,
    environment: &BTreeMap<OsString, OsString>,
    accept: impl Fn(&Path) -> bool,
) -> Result<(PathBuf, String), ResolveError> {
    let io = |source| ResolveError::Io { path: script.to_owned(), source };
    let folder = tempfile::tempdir().map_err(io)?;
    for source in SOURCES {
        std::fs::write(folder.path().join(source), "").map_err(io)?;
    }
    let mut environment = environment.clone();
    environment.insert("LC_ALL".into(), "C".into());
    let asked = Asked {
        program: script.to_owned(),
        argv0: script.as_os_str().to_owned(),
        environment,
        directory: folder.path().to_owned(),
    };
    let answers = interview(&asked).await?;
    let Some(first) = answers.first() else {
        return Err(ResolveError::CompilerScript(script.to_owned()));
    };
    for (executable, argv0) in candidates(script, &text(&first.stderr), search_path, &accept) {
        let direct =
            Asked { program: executable.clone(), argv0: argv0.clone().into(), ..asked.clone() };
        if same(&interview(&direct).await?, &answers) {
            return Ok((executable, argv0));
        }
    }
    Err(ResolveError::CompilerScript(script.to_owned()))
}

async fn interview(asked: &Asked) -> Result<Vec<Finished>, ExecError> {
    let mut answers = Vec::new();
    for question in QUESTIONS {
        for source in SOURCES {
            answers.push(asked.run(&[question, &[source]].concat()).await?);
        }
    }
    Ok(answers)
}

fn same(one: &[Finished], two: &[Finished]) -> bool {
    let parts = |done: &Finished| (done.status, done.stdout.clone(), done.stderr.clone());
    one.iter().map(parts).eq(two.iter().map(parts))
}

/// Compilers that the answer speaks of: gcc names itself, clang only its folder.
fn candidates(
    script: &Path,
    answer: &str,
    search_path: &str,
    accept: &impl Fn(&Path) -> bool,
) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for name in labelled(answer, "COLLECT_GCC=") {
        let path = if name.contains('/') {
            Some(PathBuf::from(name))
        } else {
            let others = |path: &Path| path != script && accept(path);
            find_in_path(name, search_path, Path::new("/"), others)
        };
        found.extend(path.map(|path| (path, name.to_owned())));
    }
    let own_name = script.file_name().and_then(OsStr::to_str).unwrap_or_default();
    for folder in labelled(answer, "InstalledDir:") {
        for name in [own_name, "clang", "clang++"] {
            let path = Path::new(folder).join(name);
            found.extend(path.to_str().map(|text| (path.clone(), text.to_owned())));
        }
    }
    let is_elf = |path: &Path| elf::first_bytes(path).is_ok_and(|bytes| bytes == elf::MAGIC);
    found.retain(|(path, _)| path.is_absolute() && is_elf(path) && accept(path));
    found
}
