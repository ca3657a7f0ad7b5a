//! A tree: a sorted list of absolute paths, each a file, a symbolic link or a directory.
//!
//! Inputs and toolchains are trees. A file is named by its digest, so a tree is small and can
//! travel inside a message while the bytes stay in the blob store.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Digest, bounded};

/// Longest path in a tree, in bytes (Linux `PATH_MAX` less the worker's own prefix).
pub const PATH_BYTES_MAX: usize = 3_800;
/// Most entries in one tree.
pub const TREE_ENTRIES_MAX: usize = 200_000;
/// Largest encoded tree, in bytes: [`TREE_ENTRIES_MAX`] paths of usual length.
pub const TREE_BYTES_MAX: usize = 64 << 20;
/// Most links on the way to a file, as in the kernel.
const LINKS_MAX: usize = 40;
/// Longest target of a link, in bytes: Linux' `PATH_MAX` less the zero byte.
const TARGET_BYTES_MAX: usize = 4_095;

/// An absolute path with no empty, `.` or `..` component; `/` itself is not one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(String);

/// Why a tree or one of its paths was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTree {
    /// Not absolute, not clean, or too long.
    #[error("`{0}` is not a tree path: wanted an absolute path without `.`, `..` or empty parts")]
    Path(String),
    /// A file or link stands where another entry needs a directory.
    #[error("`{0}` is a file or link and also the folder of another entry")]
    NotADirectory(TreePath),
    /// A link that no file system could hold.
    #[error("link `{0}` has a target that is empty, too long or has a zero byte")]
    Target(TreePath),
    /// More than [`TREE_ENTRIES_MAX`].
    #[error("tree has {0} entries, wanted at most {TREE_ENTRIES_MAX}")]
    TooLarge(usize),
    /// More than [`TREE_BYTES_MAX`].
    #[error("encoded tree has {0} bytes, wanted at most {TREE_BYTES_MAX}")]
    TooLong(usize),
    /// The same tree has other canonical bytes, and so another name.
    #[error("tree is not encoded canonically: wanted each path once, in order, in shortest form")]
    NotCanonical,
    /// The bytes are not an encoded tree.
    #[error("not an encoded tree: {0}")]
    Encoding(#[from] rmp_serde::decode::Error),
}

impl TreePath {
    /// The path as text, starting with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below the root, without the leading `/`: what to join to a folder.
    pub fn relative(&self) -> &str {
        &self.0[1..]
    }

    /// The folder that holds it; `None` when that is `/`.
    pub fn parent(&self) -> Option<Self> {
        let cut = self.0.rfind('/')?;
        (cut > 0).then(|| Self(self.0[..cut].to_owned()))
    }

    /// This path or one below it.
    pub fn is_within(&self, folder: &Self) -> bool {
        self.0
            .strip_prefix(folder.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Borrow<str> for TreePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TreePath {
    type Error = InvalidTree;

    fn try_from(text: String) -> Result<Self, InvalidTree> {
        let clean = text.len() <= PATH_BYTES_MAX
            && !text.contains('\0')
            && text
                .strip_prefix('/')
                .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
        if clean {
            Ok(Self(text))
        } else {
            Err(InvalidTree::Path(text.chars().take(200).collect()))
        }
    }
}

impl TryFrom<&str> for TreePath {
    type Error = InvalidTree;

    fn try_from(text: &str) -> Result<Self, InvalidTree> {
        Self::try_from(text.to_owned())
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> Self {
        path.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// A regular file.
    File {
        /// Digest of its content.
        digest: Digest,
        /// Size in bytes.
        size: u64,
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A symbolic link with its target as written, absolute or relative.
    Symlink {
        /// The link's text.
        target: String,
    },
    /// A directory that must exist even if nothing below it is named.
    Directory,
}

/// Paths and what stands there; ancestors are directories without being listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<TreePath, Node>,
}

impl Tree {
    /// The tree of these entries.
    ///
    /// # Errors
    /// Those of [`Tree::check`].
    pub(super) fn of(entries: BTreeMap<TreePath, Node>) -> Result<Self, InvalidTree> {
        let tree = Self { entries };
        tree.check()?;
        Ok(tree)
    }

    /// Puts `node` at `path`. A plain directory never replaces what is already there.
    pub fn insert(&mut self, path: TreePath, node: Node) {
        if node == Node::Directory {
            self.entries.entry(path).or_insert(node);
        } else {
            self.entries.insert(path, node);
        }
    }

    /// What stands at `path`, if it is listed.
    pub fn get(&self, path: &TreePath) -> Option<&Node> {
        self.entries.get(path)
    }

    /// Whether a file is listed at `path`.
    pub fn is_file(&self, path: &str) -> bool {
        matches!(self.entries.get(path), Some(Node::File { .. }))
    }

    /// All entries in path order.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Node)> {
        self.entries.iter()
    }

    /// The tree without the files that are not in `kept`: links and listed directories stay, so
    /// that every path that leads to a kept file still does.
    #[must_use]
    pub fn restricted(&self, kept: &BTreeSet<TreePath>) -> Self {
        let stays = |(path, node): &(&TreePath, &Node)| match node {
            Node::File { .. } => kept.contains(*path),
            Node::Symlink { .. } | Node::Directory => true,
        };
        let entries = self.entries.iter().filter(stays);
        Self { entries: entries.map(|(path, node)| (path.clone(), node.clone())).collect() }
    }

    /// The listed file that `path`, absolute and otherwise as somebody wrote it, leads to.
    pub fn resolve_file(&self, path: &str) -> Option<&TreePath> {
        let mut at = String::with_capacity(path.len());
        let mut pending: Vec<&str> = path.strip_prefix('/')?.rsplit('/').collect();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            match part {
                "" | "." => continue,
                ".." => {
                    at.truncate(at.rfind('/').unwrap_or(0));
                    continue;
                }
                name => at.extend(["/", name]),
            }
            match self.entries.get_key_value(at.as_str()) {
                Some((file, Node::File { .. })) if pending.is_empty() => return Some(file),
                Some((_, Node::File { .. })) => return None,
                Some((_, Node::Symlink { target })) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return None;
                    }
                    let parent = at.rfind('/').filter(|_| !target.starts_with('/'));
                    at.truncate(parent.unwrap_or(0));
                    pending.extend(target.rsplit('/'));
                }
                Some((_, Node::Directory)) | None => {}
            }
        }
        None
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Digest and size of every file, in path order; the same digest may come twice.
    pub fn files(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        self.entries.values().filter_map(|node| match node {
            Node::File { digest, size, .. } => Some((*digest, *size)),
            Node::Symlink { .. } | Node::Directory => None,
        })
    }

    /// Canonical bytes: equal trees encode equally on every machine.
    #[expect(clippy::missing_panics_doc, reason = "encoding plain data into memory cannot fail")]
    #[expect(clippy::expect_used, reason = "encoding plain data into memory cannot fail")]
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec(&self.entries).expect("a tree is plain data")
    }

    /// Reads [`Tree::encode`]'s bytes and checks the tree's rules. No other bytes are read as the
    /// same tree: the digest of what is accepted is [`Tree::digest`].
    ///
    /// # Errors
    /// [`InvalidTree`] when the bytes are no tree or a rule is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidTree> {
        if bytes.len() > TREE_BYTES_MAX {
            return Err(InvalidTree::TooLong(bytes.len()));
        }
        let Entries(entries) = bounded::decode(bytes)?;
        let tree = Self::of(entries)?;
        if tree.encode() == bytes { Ok(tree) } else { Err(InvalidTree::NotCanonical) }
    }

    /// Digest of the canonical bytes: the tree's name.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }

    /// Checks size and that nothing lies below a file or a link.
    ///
    /// # Errors
    /// [`InvalidTree::TooLarge`] or [`InvalidTree::NotADirectory`].
    pub fn check(&self) -> Result<(), InvalidTree> {
        if self.entries.len() > TREE_ENTRIES_MAX {
            return Err(InvalidTree::TooLarge(self.entries.len()));
        }
        for (path, node) in &self.entries {
            if let Node::Symlink { target } = node
                && (target.is_empty() || target.len() > TARGET_BYTES_MAX || target.contains('\0'))
            {
                return Err(InvalidTree::Target(path.clone()));
            }
            if *node != Node::Directory && self.holds_more_than(path) {
                return Err(InvalidTree::NotADirectory(path.clone()));
            }
        }
        Ok(())
    }

    /// Whether anything is listed below `path`. One look-up: walking up from every entry instead
    /// would take a time that grows with the square of the paths' depth.
    fn holds_more_than(&self, path: &TreePath) -> bool {
        let first = TreePath(format!("{path}/"));
        self.entries
            .range::<TreePath, _>(&first..)
            .next()
            .is_some_and(|(next, _)| next.is_within(path))
    }
}

/// The entries as they are encoded, no more than [`TREE_ENTRIES_MAX`].
#[derive(Deserialize)]
#[serde(transparent)]
struct Entries(
    #[serde(deserialize_with = "bounded::table::<_, _, _, TREE_ENTRIES_MAX>")]
    BTreeMap<TreePath, Node>,
);

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::try_from(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn file(content: &[u8]) -> Node {
        Node::File { digest: Digest::of(content), size: content.len() as u64, executable: false }
    }

    #[test]
    fn paths_are_clean() {
        for bad in ["", "/", "a", "/a/", "/a//b", "/a/./b", "/a/../b", "/a\0"] {
            assert!(TreePath::try_from(bad).is_err(), "{bad:?}");
        }
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a").parent(), None);
        assert!(path("/a/b").is_within(&path("/a")) && !path("/ab").is_within(&path("/a")));
    }

    #[test]
    fn encoding_does_not_depend_on_insertion_order() {
        let mut one = Tree::default();
        one.insert(path("/b"), file(b"2"));
        one.insert(path("/a"), file(b"1"));
        let mut two = Tree::default();
        two.insert(path("/a"), file(b"1"));
        two.insert(path("/b"), file(b"2"));
        assert_eq!(one.digest(), two.digest());
        assert_eq!(Tree::decode(&one.encode()).ok(), Some(one));
    }

    #[test]
    fn nothing_lies_below_a_link() {
        let mut tree = Tree::default();
        tree.insert(path("/a"), Node::Symlink { target: "/etc".into() });
        tree.insert(path("/a/passwd"), file(b"x"));
        assert!(matches!(Tree::decode(&tree.encode()), Err(InvalidTree::NotADirectory(_))));
    }

    #[test]
    fn a_restricted_tree_leads_to_what_is_kept() {
        let mut tree = Tree::default();
        for name in ["/p/a.h", "/p/b.h", "/q/c.h"] {
            tree.insert(path(name), file(name.as_bytes()));
        }
        tree.insert(path("/l"), Node::Symlink { target: "p/../q".into() });
        tree.insert(path("/q/loop"), Node::Symlink { target: "loop".into() });
        tree.insert(path("/empty"), Node::Directory);
        for (spelled, wanted) in [
            ("/l/./c.h", Some("/q/c.h")),
            ("/l/../p//a.h", Some("/p/a.h")),
            ("/empty/../l/c.h", Some("/q/c.h")),
            ("/p", None),
            ("/p/a.h/x", None),
            ("/q/loop/x", None),
            ("p/a.h", None),
        ] {
            assert_eq!(tree.resolve_file(spelled).map(TreePath::as_str), wanted, "{spelled}");
        }
        let restricted = tree.restricted(&BTreeSet::from([path("/q/c.h"), path("/x")]));
        let left: Vec<&str> = restricted.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(left, ["/empty", "/l", "/q/c.h", "/q/loop"]);
    }

    #[test]
    fn neighbours_of_a_link_do_not_lie_below_it() {
        let mut tree = Tree::default();
        tree.insert(path("/a"), Node::Symlink { target: "b".into() });
        for neighbour in ["/a-b/c", "/a.c", "/a0", "/b/a"] {
            tree.insert(path(neighbour), file(b"x"));
        }
        assert_eq!(Tree::decode(&tree.encode()).ok(), Some(tree));
    }

    #[test]
    fn other_bytes_are_not_the_same_tree() {
        let mut tree = Tree::default();
        tree.insert(path("/a"), Node::Directory);
        tree.insert(path("/b"), Node::Directory);
        let bytes = tree.encode();
        assert!(Tree::decode(&bytes).is_ok());
        let entry = |name: &str| [&[0xa2], name.as_bytes(), &[0xa9], b"Directory"].concat();
        assert_eq!(bytes, [vec![0x82], entry("/a"), entry("/b")].concat());
        let others = [
            [vec![0x82], entry("/b"), entry("/a")].concat(),
            [vec![0xde, 0, 2], entry("/a"), entry("/b")].concat(),
            [vec![0x83], entry("/a"), entry("/a"), entry("/b")].concat(),
            [bytes.clone(), vec![0]].concat(),
        ];
        for other in others {
            assert!(Tree::decode(&other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn a_link_has_a_target_that_can_be() {
        for target in [String::new(), "a\0b".into(), "x".repeat(TARGET_BYTES_MAX + 1)] {
            let mut tree = Tree::default();
            tree.insert(path("/a"), Node::Symlink { target });
            assert!(matches!(Tree::decode(&tree.encode()), Err(InvalidTree::Target(_))));
        }
    }

    #[test]
    fn deep_paths_are_checked_in_little_time() {
        // 3,000 paths, each 1,900 folders deep: six million look-ups if each were walked up.
        let deep = "/a".repeat(1_890);
        let mut tree = Tree::default();
        for number in 0..3_000 {
            tree.insert(path(&format!("{deep}/{number}")), file(b"x"));
        }
        assert!(tree.check().is_ok());
    }
}
