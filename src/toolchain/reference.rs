//! Reference compiles: small sources whose objects every copy of a toolchain must reproduce.
//!
//! A worker compiles them at [`FOLDER`], a path that no client has. Here they are compiled in a
//! temporary folder: for gcc and clang with one more option, which makes that folder's name in the
//! debug information the same, and which both keep out of what they write; for rustc without debug
//! information, so that the folder is named nowhere.

use std::collections::BTreeMap;
use std::path::Path;

use super::ask::{Asked, beginning};
use super::{Equipment, Resolved, ToolchainError};
use crate::exec::Ended;
use crate::job::toolchain::Reference;
use crate::job::{Command, Digest, Kind};

/// Where a worker puts source and object.
const FOLDER: &str = "/jetcc-reference";
/// Optimiser, debug information and assembler all have a part in the object; gcc reads
/// `stdc-predef.h` unasked where it may look for headers.
const OPTIONS: [&str; 4] = ["-nostdinc", "-O2", "-g", "-c"];

/// One source and the command over it.
struct Small {
    name: &'static str,
    source: &'static str,
    object: &'static str,
    arguments: Vec<String>,
}

/// Floating point, strings, tables, loops and branches; no header.
const C: (&str, &str, &str) =
    ("reference.c", include_str!("reference/reference.c"), "reference.c.o");
/// Templates, exceptions, virtual calls, lambdas and local names; no header.
const CPLUSPLUS: (&str, &str, &str) =
    ("reference.cc", include_str!("reference/reference.cc"), "reference.cc.o");
/// Generics, closures, tables and formats of the core library, for platforms that have no other.
const CRATE: (&str, &str) = ("reference.rs", include_str!("reference/reference.rs"));
/// A program, if a linker belongs to the toolchain.
const PROGRAM: (&str, &str) = ("reference_main.rs", include_str!("reference/reference_main.rs"));

/// Compiles the references with the client's own compiler.
pub(super) async fn references(
    compiler: &Resolved,
    path: &str,
    cplusplus: bool,
) -> Result<Vec<Reference>, ToolchainError> {
    let sources = match compiler.kind {
        Kind::C(_) if cplusplus => vec![small_unit(C), small_unit(CPLUSPLUS)],
        Kind::C(_) => vec![small_unit(C)],
        Kind::Rust(_) => small_crates(&compiler.equipment),
    };
    let mut references = Vec::with_capacity(sources.len());
    for source in sources {
        references.push(reference(compiler, path, source).await?);
    }
    Ok(references)
}

fn small_unit((name, source, object): (&'static str, &'static str, &'static str)) -> Small {
    let arguments = [&OPTIONS[..], &[name, "-o", object]].concat();
    let arguments = arguments.into_iter().map(str::to_owned).collect();
    Small { name, source, object, arguments }
}

/// An object of the crate, and a program where one can be linked.
fn small_crates(equipment: &Equipment) -> Vec<Small> {
    let small = |(name, source), kind: &str, emit: &str, object| {
        let crate_type = format!("--crate-type={kind}");
        let emit = format!("--emit={emit}={object}");
        let words = [
            "--crate-name",
            "reference",
            "--edition=2021",
            "-Copt-level=2",
            name,
            &crate_type,
            &emit,
        ];
        let mut arguments = words.map(str::to_owned).to_vec();
        // A description in a file does not come with the toolchain.
        let target = equipment.target.iter().filter(|target| !target.ends_with(".json"));
        arguments.extend(target.flat_map(|target| ["--target".to_owned(), target.clone()]));
        Small { name, source, object, arguments }
    };
    let mut all = vec![small(CRATE, "rlib", "obj", "reference.rs.o")];
    if let (Some(linker), None) = (&equipment.linker, &equipment.target) {
        let mut program = small(PROGRAM, "bin", "link", "reference");
        // The one that rustc takes unless it is told another may not be there.
        program.arguments.push(format!("-Clinker={}", linker.display()));
        all.push(program);
    }
    all
}

async fn reference(
    compiler: &Resolved,
    path: &str,
    Small { name, source, object, arguments }: Small,
) -> Result<Reference, ToolchainError> {
    let temporary = tempfile::tempdir().map_err(ToolchainError::io(std::env::temp_dir()))?;
    let folder = temporary.path().canonicalize().map_err(ToolchainError::io(temporary.path()))?;
    std::fs::write(folder.join(name), source).map_err(ToolchainError::io(&folder))?;
    let same_folder = match compiler.kind {
        Kind::C(_) => vec![format!("-fdebug-prefix-map={}={FOLDER}", folder.display())],
        Kind::Rust(_) => Vec::new(),
    };
    let asked = Asked { directory: folder.clone(), ..Asked::plain(&compiler.executable, path) };
    let done = asked.run(&[&same_folder[..], &arguments[..]].concat()).await?;
    let executable = compiler.executable.display().to_string();
    if done.status != Ended::Code(0) {
        let answer = beginning(&done.stderr);
        return Err(ToolchainError::Reference { compiler: executable, answer });
    }
    let written = folder.join(object);
    let bytes = std::fs::read(&written).map_err(ToolchainError::io(&written))?;
    let all = std::iter::once(executable.clone()).chain(arguments).collect();
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
        object_path: in_folder(object),
        object: Digest::of(&bytes),
    })
}

fn in_folder(name: &str) -> String {
    Path::new(FOLDER).join(name).display().to_string()
}
