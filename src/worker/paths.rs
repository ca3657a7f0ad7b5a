//! Both trees laid over one another, and where a path leads in them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::wire::{BlobClass, Trouble};
use crate::job::{Command, Node, Tree};

/// Symbolic links followed on one path, as Linux does.
const LINKS_MAX: u32 = 40;
/// What `execvp` searches when there is no `PATH` (glibc).
const PATH_DEFAULT: &str = "/bin:/usr/bin";
/// Folders that the sandbox fills itself.
pub(super) const RESERVED: [&str; 3] = ["/proc", "/dev", "/sys"];

/// Why a job cannot be laid out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The client's files changed while it listed them, or the trees belong to two machines.
    #[error("`{0}` differs between the toolchain and the inputs")]
    Differs(String),
    /// A file or link where a folder is needed.
    #[error("`{0}` is no folder, wanted one")]
    NotAFolder(String),
    /// A folder where a file is to be written.
    #[error("output `{0}` is a folder")]
    IsFolder(String),
    /// More than [`LINKS_MAX`].
    #[error("`{0}` leads through more than {LINKS_MAX} symbolic links")]
    Links(String),
    /// Below one of [`RESERVED`], or directly in `/`.
    #[error("`{0}` belongs to the sandbox")]
    Reserved(String),
    /// Empty, or ends with `.` or `..`.
    #[error("output `{0}` has no file name")]
    NoName(String),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.to_string())
    }
}

/// Both trees as one; borrows from them.
pub(super) struct Merged<'a> {
    entries: BTreeMap<&'a str, (BlobClass, &'a Node)>,
    folders: BTreeSet<&'a str>,
}

impl<'a> Merged<'a> {
    /// Lays `inputs` over `toolchain`. Where both have an entry they have to agree.
    pub(super) fn of(toolchain: &'a Tree, inputs: &'a Tree) -> Result<Self, Refusal> {
        let mut merged = Self { entries: BTreeMap::new(), folders: BTreeSet::new() };
        for (class, tree) in [(BlobClass::Toolchain, toolchain), (BlobClass::Input, inputs)] {
            for (path, node) in tree.iter() {
                merged.add(path.as_str(), class, node)?;
            }
        }
        for folder in &merged.folders {
            if merged.entries.contains_key(folder) {
                return Err(Refusal::NotAFolder((*folder).to_owned()));
            }
        }
        Ok(merged)
    }

    fn add(&mut self, path: &'a str, class: BlobClass, node: &'a Node) -> Result<(), Refusal> {
        if is_reserved(path) {
            return Err(Refusal::Reserved(path.to_owned()));
        }
        let folder = match node {
            Node::Directory => Some(path),
            Node::File { .. } | Node::Symlink { .. } => {
                let (_, present) = *self.entries.entry(path).or_insert((class, node));
                if present != node {
                    return Err(Refusal::Differs(path.to_owned()));
                }
                parent(path)
            }
        };
        let mut next = folder;
        while let Some(folder) = next
            && self.folders.insert(folder)
        {
            next = parent(folder);
        }
        Ok(())
    }

    /// Files and links with the part of the store that holds them, in path order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, BlobClass, &'a Node)> {
        self.entries.iter().map(|(path, (class, node))| (*path, *class, *node))
    }

    /// Every folder but `/`, parents first.
    pub(super) fn folders(&self) -> impl Iterator<Item = &'a str> {
        self.folders.iter().copied()
    }

    pub(super) fn is_folder(&self, path: &str) -> bool {
        self.folders.contains(path)
    }

    /// Where `path`, seen from the folder `base`, leads: absolute, without links; `/` is empty.
    /// What is in neither tree is taken for a folder.
    pub(super) fn resolve(&self, base: &str, path: &str) -> Result<String, Refusal> {
        let mut done = String::new();
        let mut pending: Vec<&str> = path.rsplit('/').collect();
        if !path.starts_with('/') {
            pending.extend(base.rsplit('/'));
        }
        let mut links = 0;
        while let Some(part) = pending.pop() {
            match part {
                "" | "." => continue,
                ".." => {
                    done.truncate(done.rfind('/').unwrap_or(0));
                    continue;
                }
                name => {
                    done.push('/');
                    done.push_str(name);
                }
            }
            match self.entries.get(done.as_str()) {
                Some((_, Node::Symlink { target })) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Refusal::Links(path.to_owned()));
                    }
                    let above =
                        if target.starts_with('/') { 0 } else { done.rfind('/').unwrap_or(0) };
                    done.truncate(above);
                    pending.extend(target.rsplit('/'));
                }
                Some(_) if !pending.iter().all(|rest| matches!(*rest, "" | ".")) => {
                    return Err(Refusal::NotAFolder(done));
                }
                Some(_) | None => {}
            }
        }
        Ok(done)
    }

    /// The folder that `path` leads to, seen from `base`.
    pub(super) fn resolve_folder(&self, base: &str, path: &str) -> Result<String, Refusal> {
        let folder = self.resolve(base, path)?;
        if self.entries.contains_key(folder.as_str()) {
            return Err(Refusal::NotAFolder(folder));
        }
        if is_reserved(&folder) {
            return Err(Refusal::Reserved(folder));
        }
        Ok(folder)
    }

    /// Whether `execvp(argv[0])` in the command's directory and environment starts its executable.
    pub(super) fn starts_by_name(&self, command: &Command) -> bool {
        let wanted = self.program(command, &command.executable);
        let name = command.arguments.first().map_or("", String::as_str);
        let found = if name.contains('/') {
            self.program(command, name)
        } else {
            command
                .environment
                .get("PATH")
                .map_or(PATH_DEFAULT, String::as_str)
                .split(':')
                .find_map(|folder| self.program(command, &format!("{}/{name}", or_dot(folder))))
        };
        wanted.is_some() && wanted == found
    }

    /// The file that `path` leads to, if it is one that can be executed: none of the inputs can.
    fn program(&self, command: &Command, path: &str) -> Option<String> {
        let found = self.resolve(&command.directory, path).ok()?;
        match self.entries.get(found.as_str()) {
            Some((BlobClass::Toolchain, Node::File { executable: true, .. })) => Some(found),
            _ => None,
        }
    }
}

/// An empty part of `PATH` means the working directory.
fn or_dot(folder: &str) -> &str {
    if folder.is_empty() { "." } else { folder }
}

/// The folder that holds an absolute path; `None` for those directly in `/`.
pub(super) fn parent(path: &str) -> Option<&str> {
    path.rfind('/').filter(|cut| *cut > 0).map(|cut| &path[..cut])
}

/// Whether the sandbox fills this path itself.
fn is_reserved(path: &str) -> bool {
    RESERVED.iter().any(|folder| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::job::Digest;

    fn tree(entries: &[(&str, Option<&str>)]) -> Tree {
        let mut tree = Tree::default();
        for (path, target) in entries {
            let node = match target {
                Some("dir") => Node::Directory,
                Some(target) => Node::Symlink { target: (*target).to_owned() },
                None => Node::File { digest: Digest::of(b""), size: 0, executable: true },
            };
            tree.insert((*path).try_into().unwrap(), node);
        }
        tree
    }

    fn command(executable: &str, argv0: &str, path: Option<&str>) -> Command {
        let path = path.map(|path| ("PATH".to_owned(), path.to_owned()));
        Command {
            executable: executable.into(),
            arguments: vec![argv0.into()],
            environment: BTreeMap::from_iter(path),
            directory: "/w/b".into(),
        }
    }

    #[test]
    fn paths_lead_through_links() {
        let toolchain = tree(&[("/lib", Some("usr/lib")), ("/usr/lib/a", None)]);
        let inputs =
            tree(&[("/w/b", Some("dir")), ("/w/up", Some("../x/y")), ("/w/me", Some("me"))]);
        let merged = Merged::of(&toolchain, &inputs).unwrap();
        for (path, wanted) in [
            ("a.o", "/w/b/a.o"),
            ("../c/./d//e", "/w/c/d/e"),
            ("/lib/a", "/usr/lib/a"),
            ("../up/z", "/x/y/z"),
            ("../up/..", "/x"),
            ("/..", ""),
        ] {
            assert_eq!(merged.resolve("/w/b", path), Ok(wanted.to_owned()), "{path}");
        }
        assert!(matches!(merged.resolve("/", "/w/me/x"), Err(Refusal::Links(_))));
        assert!(matches!(merged.resolve("/", "/lib/a/x"), Err(Refusal::NotAFolder(_))));
        assert!(matches!(merged.resolve_folder("/", "/lib/a"), Err(Refusal::NotAFolder(_))));
        assert!(matches!(merged.resolve_folder("/", "/dev/shm"), Err(Refusal::Reserved(_))));
    }

    #[test]
    fn trees_have_to_agree() {
        let toolchain = tree(&[("/lib", Some("usr/lib"))]);
        for (inputs, wanted) in [
            (tree(&[("/lib", Some("lib64"))]), Refusal::Differs("/lib".into())),
            (tree(&[("/lib/a.h", None)]), Refusal::NotAFolder("/lib".into())),
            (tree(&[("/proc/x", None)]), Refusal::Reserved("/proc/x".into())),
        ] {
            assert_eq!(Merged::of(&toolchain, &inputs).err(), Some(wanted));
        }
        assert!(Merged::of(&toolchain, &tree(&[("/lib", Some("usr/lib"))])).is_ok());
    }

    #[test]
    fn a_name_starts_what_the_search_path_finds_first() {
        let toolchain = tree(&[("/usr/bin/gcc", Some("gcc-12")), ("/usr/bin/gcc-12", None)]);
        let inputs = tree(&[("/w/b/gcc", None)]);
        let merged = Merged::of(&toolchain, &inputs).unwrap();
        for (argv0, path, starts) in [
            ("gcc", Some("/nowhere:/usr/bin"), true),
            ("gcc", None, true),
            ("gcc", Some("/nowhere"), false),
            ("gcc", Some(":/usr/bin"), true),
            ("/usr/bin/gcc", Some(""), true),
            ("../../usr/bin/gcc", Some(""), true),
            ("cc", Some("/usr/bin"), false),
            ("", Some("/usr/bin"), false),
        ] {
            let command = command("/usr/bin/gcc", argv0, path);
            assert_eq!(merged.starts_by_name(&command), starts, "{argv0} {path:?}");
        }
        assert!(!merged.starts_by_name(&command("/absent", "/absent", None)));
    }
}
