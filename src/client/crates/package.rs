//! The files of a package, as git and cargo see it.

use std::path::{Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};

use super::{CrateReader, Mentions, unreadable, words};
use crate::job::LocalReason;
use crate::store::walk::{TreeBuilder, WalkError};

/// Most files of one package and of what its build script made.
const FILES_MAX: usize = 20_000;
/// Most bytes of them.
const BYTES_MAX: u64 = 256 << 20;
/// What version control keeps for itself.
const VERSION_CONTROL: [&str; 6] = [".git", ".hg", ".svn", ".jj", ".pijul", "CVS"];
/// Marks a folder that can be made again, such as cargo's `target`.
const CACHE_TAG: &str = "CACHEDIR.TAG";
/// Marks a package that cargo has unpacked: what it ignores says nothing about it.
pub(super) const UNPACKED: &str = ".cargo-ok";
/// Where clippy finds its settings, in the package's folder and above.
const CLIPPYS: [&str; 2] = [".clippy.toml", "clippy.toml"];

type Builder<'a> = TreeBuilder<'a, Mentions>;

/// Adds the package of the crate whose root is `source`, and what its build script made.
pub(super) fn add(
    reader: &CrateReader,
    source: &str,
    builder: &mut Builder<'_>,
) -> Result<(), LocalReason> {
    let package = reader.package();
    add_all(&package, Scope::Package, builder)?;
    add_manifests(reader, &package, builder)?;
    let is_outside = !Path::new(source).starts_with(&package);
    if let Some(folder) = Path::new(source).parent().and_then(Path::to_str).filter(|_| is_outside) {
        add_all(folder, Scope::Package, builder)?;
    }
    match reader.folder("OUT_DIR") {
        Some(made) => add_all(made, Scope::Everything, builder),
        None => Ok(()),
    }
}

/// Adds the manifests above the package, of workspaces that it may be a member of: macros look there.
fn add_manifests(
    reader: &CrateReader,
    package: &str,
    builder: &mut Builder<'_>,
) -> Result<(), LocalReason> {
    let project = words::project(package, reader.environment.get("HOME"));
    let above = Path::new(package).ancestors().skip(1).take_while(|at| at.starts_with(&project));
    for manifest in above.map(|folder| folder.join("Cargo.toml")) {
        match manifest.to_str().map(|path| builder.add(path)) {
            Some(Err(WalkError::NotFound(_))) | None => {}
            Some(added) => drop(added.map_err(unreadable)?),
        }
    }
    Ok(())
}

/// Adds the settings of clippy that are in the package's folder or above, and the manifest in the
/// working directory, of which clippy takes note; and notes where there are none.
pub(super) fn add_clippys(
    reader: &CrateReader,
    builder: &mut Builder<'_>,
) -> Result<(), LocalReason> {
    let package = reader.folder("CLIPPY_CONF_DIR").map_or_else(|| reader.package(), str::to_owned);
    let folders = Path::new(&package).ancestors();
    let settings = folders.flat_map(|folder| CLIPPYS.iter().map(|name| folder.join(name)));
    for path in settings.chain([Path::new(&reader.directory).join("Cargo.toml")]) {
        match path.to_str().map(|path| builder.add(path)) {
            Some(Ok(_)) => {}
            Some(Err(WalkError::NotFound(_))) => builder.watch(&path),
            Some(Err(error)) => return Err(unreadable(error)),
            None => return Err(LocalReason::NotUtf8),
        }
    }
    Ok(())
}

/// Which files of a folder are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Those of the one package in it that nobody ignores.
    Package,
    /// All.
    Everything,
}

fn add_all(folder: &str, scope: Scope, builder: &mut Builder<'_>) -> Result<(), LocalReason> {
    let root = PathBuf::from(folder);
    let ignores = scope == Scope::Package && !root.join(UNPACKED).exists();
    let mut walk = WalkBuilder::new(&root);
    walk.hidden(false)
        .ignore(false)
        .git_global(false)
        .git_ignore(ignores)
        .git_exclude(ignores)
        .parents(ignores)
        .sort_by_file_name(Ord::cmp);
    let own = root.clone();
    walk.filter_entry(move |entry| scope == Scope::Everything || is_of_package(&own, entry));
    let (mut files, before) = (0, builder.bytes());
    for entry in walk.build() {
        let entry = entry.map_err(|error| LocalReason::UnreadableInput(error.to_string()))?;
        let path = entry.path().to_str().ok_or(LocalReason::NotUtf8)?;
        let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
        // Looked at before it is read, which takes long if it is too large.
        let size = entry.metadata().map_or(0, |found| if is_folder { 0 } else { found.len() });
        if builder.bytes() - before + size > BYTES_MAX {
            return Err(too_large(folder));
        }
        match builder.add(path) {
            Ok(_) => {}
            // Files come and go while tools are at work, and links may lead nowhere.
            Err(WalkError::NotFound(_) | WalkError::Special(_) | WalkError::Loop(_)) => {}
            Err(error) => return Err(unreadable(error)),
        }
        files += usize::from(!is_folder);
        let bytes = builder.bytes() - before;
        if files > FILES_MAX || bytes > BYTES_MAX {
            return Err(too_large(folder));
        }
    }
    Ok(())
}

fn too_large(folder: &str) -> LocalReason {
    let words = format!("`{folder}` has more than {FILES_MAX} files or {BYTES_MAX} bytes");
    LocalReason::TooLarge(words)
}

/// Whether a folder or file belongs to the package in `root`: not what version control and cargo keep
/// for themselves, and no other package.
fn is_of_package(root: &Path, entry: &DirEntry) -> bool {
    let (path, name) = (entry.path(), entry.file_name().to_str().unwrap_or_default());
    if path == root || !entry.file_type().is_some_and(|kind| kind.is_dir()) {
        return true;
    }
    !(VERSION_CONTROL.contains(&name)
        || path.join(CACHE_TAG).exists()
        || path.join("Cargo.toml").exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn listed(make: impl FnOnce(&Path)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        make(&root);
        let index = crate::client::crates::index();
        let mut builder = TreeBuilder::new(&index);
        add_all(root.to_str().unwrap(), Scope::Package, &mut builder).unwrap();
        let tree = builder.finish().tree;
        let below = |path: &crate::job::TreePath| {
            path.as_str().strip_prefix(root.to_str().unwrap()).unwrap_or_default().to_owned()
        };
        tree.iter().map(|(path, _)| below(path)).filter(|path| path.contains('.')).collect()
    }

    fn write(root: &Path, names: &[&str]) {
        for name in names {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "x").unwrap();
        }
    }

    #[test]
    fn a_package_is_what_cargo_would_see() {
        let files = listed(|root| {
            write(
                root,
                &[
                    "Cargo.toml",
                    "src/lib.rs",
                    ".git/config.x",
                    ".sqlx/query.json",
                    "target/CACHEDIR.TAG",
                    "target/debug/x.o",
                    "member/Cargo.toml",
                    "member/src/lib.rs",
                    "notes.txt",
                ],
            );
            fs::write(root.join(".gitignore"), "*.txt\n").unwrap();
            std::os::unix::fs::symlink("nowhere.rs", root.join("dangling")).unwrap();
        });
        let wanted = ["/.gitignore", "/.sqlx", "/.sqlx/query.json", "/Cargo.toml", "/src/lib.rs"];
        assert_eq!(files, wanted);
    }

    #[test]
    fn what_cargo_has_unpacked_is_whole() {
        let files = listed(|root| {
            write(root, &["Cargo.toml", ".cargo-ok", ".git/x", "src/made.rs"]);
            fs::write(root.join(".gitignore"), "made.rs\n").unwrap();
        });
        assert!(files.contains(&"/src/made.rs".to_owned()));
    }
}
