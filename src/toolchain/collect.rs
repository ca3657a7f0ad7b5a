//! The story of packing a compiler: its parts, their libraries, the tree, the references.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;

use super::ask::Asked;
use super::parts::Parts;
use super::{Resolved, Settings, ToolchainError, clang, elf, gcc, reference, runtime, rust};
use crate::job::{Digest, Family, Kind, Toolchain};
use crate::store::stamps::FileIndex;
use crate::store::walk::{self, Built, Seen, TreeBuilder, WalkError};

/// Needed only where libraries lie outside the loader's built-in folders: it differs between
/// machines that are otherwise the same.
const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// A toolchain that can be uploaded and used.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Tree and references.
    pub toolchain: Toolchain,
    /// Digest of the tree: the toolchain's identity.
    pub tree_digest: Digest,
    /// The `PATH` with which the compiler finds itself and its tools inside the tree.
    pub path: String,
    /// A file with the content of each digest.
    pub sources: BTreeMap<Digest, PathBuf>,
    /// All that the identity rests on, for [`walk::changed`].
    pub seen: Vec<Seen>,
}

/// Packs `compiler` with everything it needs to run.
///
/// # Errors
/// [`ToolchainError`] when a part is missing, strange or too large, or the compiler does not work.
pub async fn collect<T: Clone + Send + 'static>(
    compiler: &Resolved,
    index: &FileIndex<T>,
    settings: &Settings,
) -> Result<Packed, ToolchainError> {
    // 1. What belongs to it, as the compiler itself says.
    let asked = Asked::plain(&compiler.executable, &compiler.search_path);
    let mut parts = match compiler.kind {
        Kind::C(Family::Gcc) => gcc::parts(compiler, &asked).await?,
        Kind::C(Family::Clang) => clang::parts(compiler, &asked).await?,
        Kind::Rust(_) => rust::parts(compiler, &asked).await?,
    };
    let path = tool_path(compiler, &parts);

    // 2. What its programs load, as their loaders say.
    let loads = parts.programs.iter().map(|program| elf::loaded(Path::new(program)));
    for loaded in try_join_all(loads).await? {
        parts.files.extend(loaded.paths);
        if loaded.needs_cache {
            parts.files.push(LOADER_CACHE.to_owned());
        }
    }
    let libc = parts.files.iter().find(|path| path.rsplit('/').next() == Some("libc.so.6"));
    if let (Kind::C(Family::Gcc), Some(libc)) = (compiler.kind, libc) {
        parts.files.extend(runtime::files(libc));
    }

    // 3. The tree: every file hashed, every link kept.
    let (cplusplus, settings, index) = (parts.cplusplus, settings.clone(), index.clone());
    let building = tokio::task::spawn_blocking(move || build(&parts, &index, &settings));
    let built = building.await.map_err(std::io::Error::other);
    let Built { tree, sources, seen } = built.map_err(ToolchainError::io("/"))??;

    // 4. The proof, and that nothing moved while we looked.
    let references = reference::references(compiler, &path, cplusplus).await?;
    if let Some(path) = walk::changed(&seen) {
        return Err(ToolchainError::Changed(path.to_owned()));
    }
    let tree_digest = tree.digest();
    Ok(Packed { toolchain: Toolchain { tree, references }, tree_digest, path, sources, seen })
}

/// The folders of the user's `PATH` that hold the compiler or one of its tools.
fn tool_path(compiler: &Resolved, parts: &Parts) -> String {
    let holds = |folder: &&str| {
        parts.programs.iter().any(|program| Path::new(program).parent() == Some(Path::new(folder)))
    };
    let mut folders: Vec<&str> = compiler.search_path.split(':').filter(holds).collect();
    let own = compiler.executable.parent().and_then(Path::to_str).unwrap_or("/");
    // A compiler without a folder in its name searches for itself; and an empty PATH would mean
    // the working directory.
    let searches = folders.is_empty() || !compiler.argv0.contains('/');
    if searches && !folders.contains(&own) {
        folders.insert(0, own);
    }
    folders.join(":")
}

fn build<T: Clone>(
    parts: &Parts,
    index: &FileIndex<T>,
    settings: &Settings,
) -> Result<Built, ToolchainError> {
    let mut builder = TreeBuilder::new(index);
    for path in parts.programs.iter().chain(&parts.files) {
        builder.add(path)?;
        check_limit("bytes", builder.bytes(), settings.toolchain_bytes_max)?;
    }
    for path in &parts.directories {
        match builder.add_directory(path) {
            Ok(()) | Err(WalkError::NotFound(_) | WalkError::NotADirectory(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for path in &parts.watched {
        builder.watch(Path::new(path));
    }
    let built = builder.finish();
    let limit = settings.toolchain_entries_max as u64;
    check_limit("entries", built.tree.len() as u64, limit)?;
    built.tree.check()?;
    Ok(built)
}

/// Refuses what is larger than a setting allows.
pub(super) fn check_limit(
    what: &'static str,
    found: u64,
    limit: u64,
) -> Result<(), ToolchainError> {
    if found > limit {
        return Err(ToolchainError::TooLarge { what, found, limit });
    }
    Ok(())
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
