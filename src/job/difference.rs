//! A tree as what differs from another one, its base: of some hundred headers an edit changes one, and
//! digests do not compress.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tree::{InvalidTree, Node, Tree, TreePath};
use super::{Digest, bounded};

/// Largest encoded difference, in bytes; what differs more travels as a whole tree.
pub const DIFFERENCE_BYTES_MAX: usize = 1 << 20;
/// Most entries that come, and most that go.
const CHANGES_MAX: usize = 20_000;

/// What makes a tree of its base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// For each entry of the base that goes, in path order: how many stay between it and the one that
    /// went before.
    #[serde(deserialize_with = "bounded::list::<_, _, CHANGES_MAX>")]
    removed: Vec<u32>,
    /// What comes, or takes the place of what stood there.
    #[serde(deserialize_with = "bounded::table::<_, _, _, CHANGES_MAX>")]
    put: BTreeMap<TreePath, Node>,
}

/// Why a difference was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDifference {
    /// More than [`DIFFERENCE_BYTES_MAX`].
    #[error("difference has {0} bytes, wanted at most {DIFFERENCE_BYTES_MAX}")]
    TooLong(usize),
    /// The same difference has other canonical bytes.
    #[error("difference is not encoded canonically: wanted each path once, in order")]
    NotCanonical,
    /// The bytes are not an encoded difference.
    #[error("not an encoded difference: {0}")]
    Encoding(#[from] rmp_serde::decode::Error),
    /// It takes away what the base does not have.
    #[error("difference takes away more than the {0} entries of its base")]
    Base(usize),
    /// What it makes of its base is no tree.
    #[error("difference to a tree: {0}")]
    Tree(#[from] InvalidTree),
    /// What it makes of its base is another tree.
    #[error("difference leads to the tree `{found}`, wanted `{wanted}`")]
    Other {
        /// The tree that it leads to.
        found: Digest,
        /// The tree that it was said to lead to.
        wanted: Digest,
    },
}

impl Difference {
    /// What makes `tree` of `base`; `None` when that is too much to travel.
    pub fn between(base: &Tree, tree: &Tree) -> Option<Self> {
        let (mut removed, mut stay) = (Vec::new(), 0);
        for (path, _) in base.iter() {
            if tree.get(path).is_some() {
                stay += 1;
            } else {
                removed.push(std::mem::take(&mut stay));
            }
        }
        let is_new = |(path, node): &(&TreePath, &Node)| base.get(path) != Some(*node);
        let put: BTreeMap<_, _> =
            tree.iter().filter(is_new).map(|(path, node)| (path.clone(), node.clone())).collect();
        (removed.len() <= CHANGES_MAX && put.len() <= CHANGES_MAX).then_some(Self { removed, put })
    }

    /// The tree with the digest `wanted`, made of `base`.
    ///
    /// # Errors
    /// [`InvalidDifference::Base`], [`InvalidDifference::Tree`], [`InvalidDifference::Other`].
    pub fn apply(self, base: &Tree, wanted: Digest) -> Result<Tree, InvalidDifference> {
        let mut entries = BTreeMap::new();
        let mut removed = self.removed.into_iter();
        let mut stay = removed.next();
        for (path, node) in base.iter() {
            if stay == Some(0) {
                stay = removed.next();
            } else {
                stay = stay.map(|stay| stay - 1);
                entries.insert(path.clone(), node.clone());
            }
        }
        if stay.is_some() {
            return Err(InvalidDifference::Base(base.len()));
        }
        entries.extend(self.put);
        let tree = Tree::of(entries)?;
        let found = tree.digest();
        if found == wanted { Ok(tree) } else { Err(InvalidDifference::Other { found, wanted }) }
    }

    /// Canonical bytes.
    #[expect(clippy::missing_panics_doc, reason = "encoding plain data into memory cannot fail")]
    #[expect(clippy::expect_used, reason = "encoding plain data into memory cannot fail")]
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec(self).expect("a difference is plain data")
    }

    /// Reads [`Difference::encode`]'s bytes, and no other bytes.
    ///
    /// # Errors
    /// [`InvalidDifference`] when the bytes are no difference.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidDifference> {
        if bytes.len() > DIFFERENCE_BYTES_MAX {
            return Err(InvalidDifference::TooLong(bytes.len()));
        }
        let difference: Self = bounded::decode(bytes)?;
        let canonical = difference.encode() == bytes;
        if canonical { Ok(difference) } else { Err(InvalidDifference::NotCanonical) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tree of these files (`name=content`), links (`name->target`) and folders (`name/`).
    fn tree(entries: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for entry in entries {
            let (name, node) = if let Some((name, target)) = entry.split_once("->") {
                (name, Node::Symlink { target: target.into() })
            } else if let Some(name) = entry.strip_suffix('/') {
                (name, Node::Directory)
            } else {
                let (name, text) = entry.split_once('=').unwrap();
                let digest = Digest::of(text.as_bytes());
                (name, Node::File { digest, size: text.len() as u64, executable: false })
            };
            tree.insert(TreePath::try_from(name).unwrap(), node);
        }
        tree
    }

    /// What is read of the difference from `base` to `tree` makes `tree` of `base` again.
    fn returns(base: &Tree, tree: &Tree) {
        let bytes = Difference::between(base, tree).unwrap().encode();
        let made = Difference::decode(&bytes).unwrap().apply(base, tree.digest());
        assert_eq!(made.unwrap(), *tree);
    }

    #[test]
    fn a_difference_leads_to_its_tree() {
        let base = tree(&["/p/a.c=1", "/p/b.h=2", "/p/l->b.h", "/p/out/", "/q/c.h=3"]);
        for entries in [
            &["/p/a.c=edited", "/p/b.h=2", "/p/l->b.h", "/p/out/", "/q/c.h=3"][..],
            &["/p/a.c=1", "/p/new.h=4", "/p/l->new.h", "/q/c.h=3"],
            &["/p/a.c/", "/p/l/x=5", "/p/out=a file", "/q/"],
            &["/q/c.h=3"],
            &[],
        ] {
            returns(&base, &tree(entries));
            returns(&tree(entries), &base);
        }
        returns(&base, &base);
    }

    #[test]
    fn one_edit_among_many_files_is_small() {
        let files = |edited: &str| {
            let mut files: Vec<String> =
                (0..4_000).map(|number| format!("/usr/include/h{number}.h={number}")).collect();
            files[17] = format!("/usr/include/h17.h={edited}");
            tree(&files.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let (base, edited) = (files("17"), files("edited"));
        assert!(Difference::between(&base, &edited).unwrap().encode().len() < 100);
        let every_other = base.iter().map(|(path, _)| path.clone()).step_by(2).collect();
        let some = base.restricted(&every_other);
        assert!(Difference::between(&base, &some).unwrap().encode().len() < 2_100);
    }

    #[test]
    fn a_difference_that_leads_elsewhere_is_refused() {
        let (base, other) = (tree(&["/a=1", "/b=2"]), tree(&["/a=1", "/c=2"]));
        let wanted = tree(&["/a=2", "/b=2"]);
        let difference = || Difference::between(&base, &wanted).unwrap();
        let elsewhere = difference().apply(&other, wanted.digest());
        assert!(matches!(elsewhere, Err(InvalidDifference::Other { .. })), "{elsewhere:?}");
        let lied = difference().apply(&base, other.digest());
        assert!(matches!(lied, Err(InvalidDifference::Other { .. })), "{lied:?}");
        for removed in [vec![2], vec![0, 0, 0], vec![u32::MAX], vec![1, u32::MAX]] {
            let missing = Difference { removed, ..Difference::default() };
            let refused = missing.apply(&base, base.digest());
            assert!(matches!(refused, Err(InvalidDifference::Base(2))), "{refused:?}");
        }
        let below =
            Difference { put: tree(&["/a/x=1"]).iter().map(owned).collect(), removed: vec![] };
        let refused = below.apply(&base, base.digest());
        assert!(matches!(refused, Err(InvalidDifference::Tree(_))), "{refused:?}");
    }

    fn owned((path, node): (&TreePath, &Node)) -> (TreePath, Node) {
        (path.clone(), node.clone())
    }

    #[test]
    fn hostile_differences_are_refused() {
        let entry = |name: &str| {
            [&[0xa0 | u8::try_from(name.len()).unwrap()], name.as_bytes(), &[0xa9], b"Directory"]
                .concat()
        };
        let with = |puts: &[&str]| {
            let head = vec![0x92, 0x90, 0x80 | u8::try_from(puts.len()).unwrap()];
            [vec![head], puts.iter().map(|name| entry(name)).collect()].concat().concat()
        };
        assert!(Difference::decode(&with(&["/a", "/b"])).is_ok());
        for puts in [&["/b", "/a"][..], &["/a", "/a"], &["/a/../b"], &["a"], &["/"], &["/a\0"]] {
            assert!(Difference::decode(&with(puts)).is_err(), "{puts:?}");
        }
        assert!(Difference::decode(&[with(&["/a"]), vec![0]].concat()).is_err(), "bytes follow");
        let long = vec![0; DIFFERENCE_BYTES_MAX + 1];
        assert!(matches!(Difference::decode(&long), Err(InvalidDifference::TooLong(_))));
        let many = Difference { removed: vec![0; CHANGES_MAX + 1], ..Difference::default() };
        assert!(matches!(Difference::decode(&many.encode()), Err(InvalidDifference::Encoding(_))));
        let most: Vec<String> = (0..=CHANGES_MAX).map(|number| format!("/f{number}/")).collect();
        let most = tree(&most.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(Difference::between(&Tree::default(), &most).is_none());
        assert!(Difference::between(&most, &Tree::default()).is_none());
    }

    proptest! {
        #[test]
        fn any_two_trees_have_a_difference(
            one in prop::collection::btree_map("/[ab]{1,3}", "[xy]", 0..12),
            two in prop::collection::btree_map("/[ab]{1,3}", "[xy]", 0..12),
        ) {
            let of = |files: std::collections::BTreeMap<String, String>| {
                let entries: Vec<String> =
                    files.iter().map(|(name, text)| format!("{name}={text}")).collect();
                tree(&entries.iter().map(String::as_str).collect::<Vec<_>>())
            };
            returns(&of(one), &of(two));
        }
    }
}
