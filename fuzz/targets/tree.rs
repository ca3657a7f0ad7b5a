//! Trees: one tree has one encoding, and nothing lies below a file or a link. Differences between
//! trees: one has one encoding, and leads to the named tree or to none.
#![no_main]

use jetcc::job::difference::InvalidDifference;
use jetcc::job::tree::{PATH_BYTES_MAX, TREE_ENTRIES_MAX};
use jetcc::job::{Difference, Digest, Node, Tree, TreePath};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    difference(data);
    let Ok(tree) = Tree::decode(data) else { return };
    assert_eq!(tree.encode(), data);
    assert_eq!(tree.digest(), Digest::of(data));
    assert!(tree.len() <= TREE_ENTRIES_MAX);
    for (path, _) in tree.iter() {
        let text = path.as_str();
        assert!(text.starts_with('/') && text.len() <= PATH_BYTES_MAX && !text.contains('\0'));
        assert!(text[1..].split('/').all(|part| !matches!(part, "" | "." | "..")));
        let mut folder = path.parent();
        while let Some(parent) = folder {
            assert!(matches!(tree.get(&parent), None | Some(Node::Directory)));
            folder = parent.parent();
        }
    }
});

fn difference(data: &[u8]) {
    let Ok(difference) = Difference::decode(data) else { return };
    assert_eq!(difference.encode(), data);
    let mut base = Tree::default();
    for name in ["/w/a.c", "/w/b/c.h", "/w/gone.h"] {
        base.insert(TreePath::try_from(name).expect("a clean path"), Node::Directory);
    }
    let nothing = Digest::of(b"no tree's bytes");
    let found = match difference.clone().apply(&base, nothing) {
        Err(InvalidDifference::Other { found, .. }) => found,
        Err(_) => return,
        Ok(_) => panic!("another tree than the named one"),
    };
    let tree = difference.apply(&base, found).expect("the tree that it leads to");
    assert_eq!(tree.digest(), found);
    assert_eq!(Tree::decode(&tree.encode()).ok().as_ref(), Some(&tree));
    let again = Difference::between(&base, &tree).expect("no more changes than before");
    assert_eq!(again.apply(&base, found).ok(), Some(tree));
}
