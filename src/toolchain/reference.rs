//! Reference compiles: small sources whose objects every copy of a toolchain must reproduce.
//!
//! A worker compiles them at [`FOLDER`], a path that no client has. Here they are compiled in a
//! temporary folder with one more option, which makes that folder's name in the debug
//! information the same; gcc and clang keep the option itself out of what they write.

use std::collections::BTreeMap;
use std::path::Path;

use super::ask::{Asked, beginning};
use super::{Resolved, ToolchainError};
use crate::exec::Ended;
use crate::job::toolchain::Reference;
use crate::job::{Command, Digest};

/// Where a worker puts source and object.
const FOLDER: &str = "/jetcc-reference";
/// Optimiser, debug information and assembler all have a part in the object; gcc reads
/// `stdc-predef.h` unasked where it may look for headers.
const OPTIONS: [&str; 4] = ["-nostdinc", "-O2", "-g", "-c"];

/// Floating point, strings, tables, loops and branches; no header.
const C: (&str, &str) = ("reference.c", include_str!("reference/reference.c"));
/// Templates, exceptions, virtual calls, lambdas and local names; no header.
const CPLUSPLUS: (&str, &str) = ("reference.cc", include_str!("reference/reference.cc"));

/// Compiles the references with the client's own compiler.
pub(super) async fn references(
    compiler: &Resolved,
    path: &str,
    cplusplus: bool,
) -> Result<Vec<Reference>, ToolchainError> {
    let mut references = vec![reference(compiler, path, C).await?];
    if cplusplus {
        references.push(reference(compiler, path, CPLUSPLUS).await?);
    }
    Ok(references)
}

async fn reference(
    compiler: &Resolved,
    path: &str,
    (name, source): (&str, &str),
) -> Result<Reference, ToolchainError> {
    let temporary = tempfile::tempdir().map_err(ToolchainError::io(std::env::temp_dir()))?;
    let folder = temporary.path().canonicalize().map_err(ToolchainError::io(temporary.path()))?;
    std::fs::write(folder.join(name), source).map_err(ToolchainError::io(&folder))?;
    let object = format!("{name}.o");
    let arguments = [&OPTIONS[..], &[name, "-o", &object]].concat();
    let same_folder = format!("-fdebug-prefix-map={}={FOLDER}", folder.display());

    let asked = Asked { directory: folder.clone(), ..Asked::plain(&compiler.executable, path) };
    let done = asked.run(&[&[same_folder.as_str()], &arguments[..]].concat()).await?;
    let executable = compiler.executable.display().to_string();
    if done.status != Ended::Code(0) {
        let answer = beginning(&done.stderr);
        return Err(ToolchainError::Reference { compiler: executable, answer });
    }
    let written = folder.join(&object);
    let bytes = std::fs::read(&written).map_err(ToolchainError::io(&written))?;
    let all = std::iter::once(executable.as_str()).chain(arguments).map(str::to_owned).collect();
    Ok(Reference {
        command: Command {
            executable: executable.clone(),
            arguments: all,
            environment: BTreeMap::from([
                ("LC_ALL".to_owned(), "C".to_owned()),
                ("PATH".to_owned(), path.to_owned()),
            ]),
            directory: FOLDER.to_owned(),
        },
        source_path: in_folder(name),
        source: source.to_owned(),
        object_path: in_folder(&object),
        object: Digest::of(&bytes),
    })
}

fn in_folder(name: &str) -> String {
    Path::new(FOLDER).join(name).display().to_string()
}
