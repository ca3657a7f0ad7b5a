//! Trees from paths: each path is walked part by part as the kernel does, and every link on the
//! way becomes an entry, so that the same path means the same file wherever the tree is laid out.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hash::digest_of;
use super::stamps::{FileIndex, Known, Stamp, now_ns};
use crate::job::tree::InvalidTree;
use crate::job::{Digest, Node, Tree, TreePath};

/// Most links followed for one path, as in Linux (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Why a path could not be added.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// Nothing is there.
    #[error("`{0}` does not exist")]
    NotFound(String),
    /// A file stands where the path needs a directory.
    #[error("`{0}` is not a directory")]
    NotADirectory(String),
    /// More than 40 links on the way.
    #[error("`{0}` passes through more than {LINKS_MAX} symbolic links")]
    Loop(String),
    /// A socket, device or pipe.
    #[error("`{0}` is neither file, directory nor symbolic link")]
    Special(String),
    /// A link leads to a path that is not text.
    #[error("`{0}` is a symbolic link whose target is not UTF-8")]
    NotUtf8(String),
    /// The path cannot be in a tree.
    #[error(transparent)]
    Invalid(#[from] InvalidTree),
    /// It could not be read.
    #[error("`{path}` cannot be read: {source}")]
    Read {
        /// Which path.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// What a path led to.
#[derive(Clone, Debug)]
pub enum Added<T> {
    /// A regular file.
    File(Known<T>),
    /// A directory; it will exist wherever the tree is laid out.
    Directory,
}

/// One fact about the file system that a tree relies on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Where.
    pub path: PathBuf,
    /// Stamp of what stood there, links not followed; `None`: nothing did.
    pub stamp: Option<Stamp>,
    /// Digest of the content or of the link's text when the stamp is too young to prove it.
    pub recheck: Option<Digest>,
}

/// What [`TreeBuilder::finish`] gives.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// The tree.
    pub tree: Tree,
    /// A file with the content of each digest: what to upload from.
    pub sources: BTreeMap<Digest, PathBuf>,
    /// All that the tree relies on, for [`changed`].
    pub seen: Vec<Seen>,
}

/// What stands at one physical path.
#[derive(Clone, Debug)]
enum Place<T> {
    File(Known<T>),
    Link(String),
    Directory,
}

/// Collects paths into a tree; asks the file system once about each physical path.
#[derive(Debug)]
pub struct TreeBuilder<'a, T> {
    index: &'a FileIndex<T>,
    built: Built,
    bytes: u64,
    places: HashMap<String, Place<T>>,
    /// Folder as spelled → its physical path; the root is empty.
    folders: HashMap<String, String>,
}

impl<'a, T: Clone> TreeBuilder<'a, T> {
    /// An empty tree whose digests come from `index`.
    pub fn new(index: &'a FileIndex<T>) -> Self {
        Self {
            index,
            built: Built::default(),
            bytes: 0,
            places: HashMap::new(),
            folders: HashMap::new(),
        }
    }

    /// Adds what `path` leads to, and the links on the way. The path is absolute and otherwise
    /// as somebody wrote it: `..` means the physical parent, as for the kernel.
    ///
    /// # Errors
    /// [`WalkError`]; what was passed on the way may be in the tree all the same.
    pub fn add(&mut self, path: &str) -> Result<Added<T>, WalkError> {
        let Some((folder, name)) = path.rsplit_once('/').filter(|_| path.starts_with('/')) else {
            return Err(InvalidTree::Path(path.to_owned()).into());
        };
        let start = self.folder(folder)?;
        match self.walk(start, name)? {
            (_, Place::File(known)) => Ok(Added::File(known)),
            (at, Place::Directory | Place::Link(_)) => {
                self.keep_directory(&at)?;
                Ok(Added::Directory)
            }
        }
    }

    /// As [`TreeBuilder::add`], for a caller who has just seen that the last part of `path` is a file
    /// and no link, and what is in it.
    ///
    /// # Errors
    /// As [`TreeBuilder::add`].
    pub fn add_known(&mut self, path: &str, known: &Known<T>) -> Result<Added<T>, WalkError> {
        let (folder, name) = match path.rsplit_once('/') {
            Some((folder, name)) if path.starts_with('/') && !matches!(name, "" | "." | "..") => {
                (folder, name)
            }
            _ => return self.add(path),
        };
        let mut at = self.folder(folder)?;
        at.extend(["/", name]);
        match self.places.get(&at) {
            Some(Place::File(known)) => Ok(Added::File(known.clone())),
            Some(Place::Link(_) | Place::Directory) => self.add(path),
            None => {
                self.note_file(&at, known)?;
                self.places.insert(at, Place::File(known.clone()));
                Ok(Added::File(known.clone()))
            }
        }
    }

    /// The physical path of `folder`; the links on the way are added.
    fn folder(&mut self, folder: &str) -> Result<String, WalkError> {
        if let Some(known) = self.folders.get(folder) {
            return Ok(known.clone());
        }
        match self.walk(String::new(), folder)? {
            (_, Place::File(_) | Place::Link(_)) => {
                Err(WalkError::NotADirectory(folder.to_owned()))
            }
            (at, Place::Directory) => {
                self.folders.insert(folder.to_owned(), at.clone());
                Ok(at)
            }
        }
    }

    /// Adds the directory that `path` leads to.
    ///
    /// # Errors
    /// [`WalkError`], also when a file stands there.
    pub fn add_directory(&mut self, path: &str) -> Result<(), WalkError> {
        match self.add(path)? {
            Added::Directory => Ok(()),
            Added::File(_) => Err(WalkError::NotADirectory(path.to_owned())),
        }
    }

    /// Puts nothing into the tree but remembers that `path` was as it is now: absent, or with
    /// this stamp. For a directory that means: no entry came or went.
    pub fn watch(&mut self, path: &Path) {
        let stamp = std::fs::symlink_metadata(path).ok().map(|found| Stamp::of(&found));
        self.built.seen.push(Seen { path: path.to_owned(), stamp, recheck: None });
    }

    /// Bytes of all different contents together, so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The tree and what belongs to it.
    pub fn finish(self) -> Built {
        self.built
    }

    /// Follows `path` from the physical directory `start`; never ends at a link.
    fn walk(&mut self, start: String, path: &str) -> Result<(String, Place<T>), WalkError> {
        let mut at = start;
        let mut links = 0;
        let mut pending: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        while let Some(part) = pending.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    // Whoever resolves the path again has to pass through here.
                    self.keep_directory(&at)?;
                    at.truncate(at.rfind('/').unwrap_or(0));
                    continue;
                }
                name => at.extend(["/", name]),
            }
            match self.place(&at)? {
                Place::Directory => {}
                file @ Place::File(_) if pending.is_empty() => return Ok((at, file)),
                Place::File(_) => return Err(WalkError::NotADirectory(at)),
                Place::Link(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(WalkError::Loop(path.to_owned()));
                    }
                    let parent = at.rfind('/').filter(|_| !target.starts_with('/'));
                    at.truncate(parent.unwrap_or(0));
                    pending.extend(target.rsplit('/').map(str::to_owned));
                }
            }
        }
        Ok((at, Place::Directory))
    }

    fn keep_directory(&mut self, at: &str) -> Result<(), WalkError> {
        if !at.is_empty() {
            self.built.tree.insert(TreePath::try_from(at)?, Node::Directory);
        }
        Ok(())
    }

    /// What stands at the physical path `at`; asked once.
    fn place(&mut self, at: &str) -> Result<Place<T>, WalkError> {
        if let Some(place) = self.places.get(at) {
            return Ok(place.clone());
        }
        let path = Path::new(at);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => WalkError::NotFound(at.to_owned()),
            io::ErrorKind::NotADirectory => WalkError::NotADirectory(at.to_owned()),
            _ => WalkError::Read { path: at.to_owned(), source },
        };
        let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
        let place = if metadata.is_dir() {
            Place::Directory
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(path).map_err(failed)?.into_os_string();
            let target = target.into_string().map_err(|_| WalkError::NotUtf8(at.to_owned()))?;
            self.note_link(at, &metadata, &target)?;
            Place::Link(target)
        } else if metadata.is_file() {
            let known = self.index.digest_at(path, &metadata).map_err(failed)?;
            self.note_file(at, &known)?;
            Place::File(known)
        } else {
            return Err(WalkError::Special(at.to_owned()));
        };
        self.places.insert(at.to_owned(), place.clone());
        Ok(place)
    }

    fn note_link(&mut self, at: &str, found: &Metadata, target: &str) -> Result<(), WalkError> {
        let node = Node::Symlink { target: target.to_owned() };
        self.built.tree.insert(TreePath::try_from(at)?, node);
        let stamp = Stamp::of(found);
        let recheck = (!stamp.is_settled(now_ns())).then(|| Digest::of(target.as_bytes()));
        self.built.seen.push(Seen { path: at.into(), stamp: Some(stamp), recheck });
        Ok(())
    }

    fn note_file(&mut self, at: &str, known: &Known<T>) -> Result<(), WalkError> {
        let Known { digest, size, executable, stamp, settled, .. } = *known;
        self.built.tree.insert(TreePath::try_from(at)?, Node::File { digest, size, executable });
        if let Entry::Vacant(source) = self.built.sources.entry(digest) {
            source.insert(at.into());
            self.bytes = self.bytes.saturating_add(size);
        }
        let recheck = (!settled).then_some(digest);
        self.built.seen.push(Seen { path: at.into(), stamp: Some(stamp), recheck });
        Ok(())
    }
}

/// Looks at everything again; the first path that is not as it was.
pub fn changed(seen: &[Seen]) -> Option<&Path> {
    seen.iter().find(|seen| !still_holds(seen)).map(|seen| seen.path.as_path())
}

/// What became of facts that are checked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// All are as they were.
    Same,
    /// All hold, some of them by other stamps than before.
    Renewed,
    /// The first path that is not as it was.
    Changed(PathBuf),
}

/// As [`changed`], for facts that are checked again and again: what was too young to be proved
/// by its stamp is read until the stamp has aged, and then no more. Where another stamp is found,
/// `same` says what is seen there now if that is as good.
pub fn changed_again(
    seen: &mut [Seen],
    mut same: impl FnMut(&Seen, &Metadata) -> Option<Seen>,
) -> Again {
    let now = now_ns();
    let mut again = Again::Same;
    for seen in seen {
        let found = std::fs::symlink_metadata(&seen.path).ok();
        if found.as_ref().map(Stamp::of) == seen.stamp {
            if seen.recheck.is_none() {
                continue;
            }
            if !has_content(seen, found.as_ref()) {
                return Again::Changed(seen.path.clone());
            }
            if seen.stamp.is_some_and(|stamp| stamp.is_settled(now)) {
                seen.recheck = None;
                again = Again::Renewed;
            }
            continue;
        }
        let newer = found.filter(|_| seen.stamp.is_some());
        match newer.and_then(|found| same(seen, &found)) {
            Some(now) => *seen = now,
            None => return Again::Changed(seen.path.clone()),
        }
        again = Again::Renewed;
    }
    again
}

fn still_holds(seen: &Seen) -> bool {
    let found = std::fs::symlink_metadata(&seen.path).ok();
    found.as_ref().map(Stamp::of) == seen.stamp && has_content(seen, found.as_ref())
}

/// Whether what was too young to be proved by its stamp has its content.
fn has_content(seen: &Seen, found: Option<&Metadata>) -> bool {
    let Some(digest) = seen.recheck else { return true };
    let now = if found.is_some_and(Metadata::is_symlink) {
        std::fs::read_link(&seen.path)
            .map(|target| Digest::of(target.as_os_str().as_encoded_bytes()))
    } else {
        File::open(&seen.path).and_then(|mut file| digest_of(&mut file))
    };
    now.is_ok_and(|now| now == digest)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder without links above it, as text.
    struct Folder(tempfile::TempDir, String);

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let text = folder.path().canonicalize().unwrap().to_str().unwrap().to_owned();
            for name in ["real/deep", "empty"] {
                std::fs::create_dir_all(folder.path().join(name)).unwrap();
            }
            std::fs::write(folder.path().join("real/a.h"), "a").unwrap();
            Self(folder, text)
        }

        fn link(&self, target: &str, name: &str) {
            symlink(target, self.0.path().join(name)).unwrap();
        }

        fn path(&self, name: &str) -> String {
            format!("{}/{name}", self.1)
        }
    }

    fn index() -> FileIndex<()> {
        FileIndex::new(100, |_| ())
    }

    /// Entries below the folder, one a line.
    fn listing(folder: &Folder, built: &Built) -> Vec<String> {
        let line = |(path, node): (&TreePath, &Node)| {
            let path = path.as_str().strip_prefix(&folder.1)?.trim_start_matches('/').to_owned();
            Some(match node {
                Node::File { .. } => path,
                Node::Symlink { target } => format!("{path} -> {target}"),
                Node::Directory => format!("{path}/"),
            })
        };
        built.tree.iter().filter_map(line).collect()
    }

    #[test]
    fn links_and_parents_resolve_as_in_the_kernel() {
        let folder = Folder::new();
        folder.link("real/deep", "link");
        folder.link(&folder.path("link"), "again");
        let index = index();
        let mut builder = TreeBuilder::new(&index);
        // Lexically that would be `a.h` beside the link.
        let path = folder.path("again/.././a.h");
        let Added::File(known) = builder.add(&path).unwrap() else { panic!("not a file") };
        assert_eq!(known.digest, Digest::of(b"a"));
        builder.add_directory(&folder.path("empty/")).unwrap();
        let built = builder.finish();
        let again = format!("again -> {}", folder.path("link"));
        let wanted = [&again, "empty/", "link -> real/deep", "real/a.h", "real/deep/"];
        assert_eq!(listing(&folder, &built), wanted);
        built.tree.check().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"a");
        assert_eq!(built.sources[&known.digest], Path::new(&folder.path("real/a.h")));
    }

    #[test]
    fn each_physical_path_is_asked_once() {
        let folder = Folder::new();
        folder.link("real", "link");
        let index = index();
        let mut builder = TreeBuilder::new(&index);
        for _ in 0..3 {
            builder.add(&folder.path("link/a.h")).unwrap();
            builder.add(&folder.path("real/a.h")).unwrap();
        }
        let within: Vec<_> =
            builder.finish().seen.into_iter().filter(|s| s.path.starts_with(&folder.1)).collect();
        assert_eq!(within.len(), 2);
    }

    #[test]
    fn troubles_are_named() {
        let folder = Folder::new();
        folder.link("loop", "loop");
        folder.link("absent", "dangling");
        let index = index();
        let mut builder = TreeBuilder::new(&index);
        let mut add = |name: &str| builder.add(&folder.path(name));
        assert!(matches!(add("loop/x"), Err(WalkError::Loop(_))));
        assert!(matches!(add("dangling"), Err(WalkError::NotFound(p)) if p.ends_with("absent")));
        assert!(matches!(add("real/a.h/x"), Err(WalkError::NotADirectory(_))));
        assert!(matches!(add("real/a.h/"), Err(WalkError::NotADirectory(_))));
        assert!(matches!(add("real/a.h/.."), Err(WalkError::NotADirectory(_))));
        assert!(matches!(builder.add("/dev/null"), Err(WalkError::Special(_))));
        assert!(matches!(builder.add("real/a.h"), Err(WalkError::Invalid(_))));
        assert!(matches!(builder.add("/"), Ok(Added::Directory)));
        let path = Path::new(&folder.1).join("bad");
        symlink(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff"), &path)
            .unwrap();
        assert!(matches!(builder.add(&folder.path("bad")), Err(WalkError::NotUtf8(_))));
    }

    #[test]
    fn every_change_is_noticed() {
        let changes: [fn(&Folder); 5] = [
            |f| std::fs::write(f.path("real/a.h"), "b").unwrap(),
            |f| std::fs::remove_file(f.path("real/a.h")).unwrap(),
            |f| {
                std::fs::remove_file(f.path("link")).unwrap();
                f.link("deep", "link");
            },
            |f| std::fs::write(f.path("empty/new"), "").unwrap(),
            |f| std::fs::write(f.path("real/nearer.h"), "").unwrap(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let folder = Folder::new();
            folder.link("real", "link");
            let index = index();
            let mut builder = TreeBuilder::new(&index);
            builder.add(&folder.path("link/a.h")).unwrap();
            builder.watch(Path::new(&folder.path("real/nearer.h")));
            builder.watch(Path::new(&folder.path("empty")));
            let built = builder.finish();
            assert_eq!(changed(&built.seen), None);
            let mut aging = built.seen.clone();
            while aging.iter().any(|seen| seen.recheck.is_some()) {
                assert!(!matches!(changed_again(&mut aging, |_, _| None), Again::Changed(_)));
            }
            assert_eq!(changed_again(&mut aging, |_, _| None), Again::Same);
            change(&folder);
            let again = changed_again(&mut aging, |_, _| None);
            assert!(matches!(again, Again::Changed(_)), "change {number}");
            assert!(changed(&built.seen).is_some(), "change {number}");
        }
    }
}
