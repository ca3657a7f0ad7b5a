//! What belongs to a rustc: the compiler with its libraries, the standard library of the platform
//! compiled for, cargo, and the linker where one is needed. Of a sysroot that other programs share, such as
//! `/usr`, only what is the compiler's.

use std::path::Path;

use super::ask::Asked;
use super::parts::Parts;
use super::resolve::is_program;
use super::{Resolved, ToolchainError, linker};

/// Programs and plugins beside the standard library of the compiler's own platform.
const HOST_FOLDERS: [&str; 2] = ["bin", "codegen-backends"];
/// Runtimes of sanitizers, which no released compiler links.
const SANITIZER: &str = "_rt.";
/// The sources of the standard library, if they are installed: messages then quote them.
const SOURCES: &str = "lib/rustlib/src/rust/library";
/// Folders of sources that no message quotes.
const NOT_QUOTED: [&str; 2] = ["benches", "tests"];

pub(super) async fn parts(compiler: &Resolved, asked: &Asked) -> Result<Parts, ToolchainError> {
    let sysroot = asked.answer(&["--print", "sysroot"]).await?.0.trim().to_owned();
    let folder_of = async |target: Option<&str>| {
        let mut question = vec!["--print", "target-libdir"];
        question.extend(target.iter().flat_map(|target| ["--target", target]));
        asked.answer(&question).await.map(|(answer, _)| answer.trim().to_owned())
    };
    let own = folder_of(None).await?;
    let wanted = match compiler.equipment.target.as_deref() {
        // A description in a file has no library of its own here.
        Some(target) if !target.ends_with(".json") => folder_of(Some(target)).await?,
        Some(_) | None => own.clone(),
    };
    let mut parts =
        Parts { programs: vec![compiler.executable.display().to_string()], ..Parts::default() };
    parts.directories = vec![format!("{sysroot}/lib"), own.clone(), wanted.clone()];
    list(Path::new(&wanted), &mut parts, &is_library);
    if let Some(platform) = Path::new(&own).parent() {
        for folder in HOST_FOLDERS {
            list(&platform.join(folder), &mut parts, &|_| true);
        }
    }
    list(&Path::new(&sysroot).join(SOURCES), &mut parts, &is_quoted);
    // Macros ask cargo where the workspace is and what a crate is called there.
    let cargo = format!("{sysroot}/bin/cargo");
    parts.programs.extend(is_program(Path::new(&cargo)).then_some(cargo));
    // Components that come or go show here; new files in known folders show as their change.
    parts.watched.extend([sysroot, own, wanted]);
    if let Some(linker) = &compiler.equipment.linker {
        linker::add(linker, &compiler.search_path, &mut parts).await?;
    }
    Ok(parts)
}

fn is_library(path: &Path) -> bool {
    !path.to_string_lossy().contains(SANITIZER)
}

fn is_quoted(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "rs")
        && !path.iter().any(|part| NOT_QUOTED.iter().any(|it| part == *it))
}

/// Adds the files below `folder` whose paths from there are `wanted`. Programs among them load
/// nothing that the compiler does not load too, and find it where the compiler tells them. Links that
/// lead nowhere are passed over.
fn list(folder: &Path, parts: &mut Parts, wanted: &dyn Fn(&Path) -> bool) {
    let mut pending = vec![folder.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in std::fs::read_dir(&at).into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(text) = path.to_str() else { continue };
            if path.is_dir() {
                pending.push(path);
            } else if path.is_file() && path.strip_prefix(folder).is_ok_and(wanted) {
                parts.files.push(text.to_owned());
            }
        }
    }
}

#[cfg(test)]
#[path = "rust_tests.rs"]
mod tests;
