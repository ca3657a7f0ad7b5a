//! Trees: one tree has one encoding, and nothing lies below a file or a link.
#![no_main]

use jetcc::job::tree::{PATH_BYTES_MAX, TREE_ENTRIES_MAX};
use jetcc::job::{Digest, Node, Tree};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
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
