//! Whether a compile here would read what a compile of the same command read elsewhere.
//!
//! Ours may read any file of our tree *T*, and no other; theirs read the list *R*. If these rules hold,
//! ours reads *R* too, and the precise key tells whether each file has the same content:
//!
//! 1. *R* is a part of *T*.
//! 2. Every file of *T* that counts as read whatever the compiler says is in *R*.
//! 3. No file of *T* outside *R* has the name of a file in *R*, or of a link.
//!
//! Proof. A compile is decided by its command and by what it finds in files. Suppose that ours sees
//! something else than theirs did, and look at the first such thing. It is not the content of a file
//! in *R*: the key says that it is equal. Then it is one of these:
//!
//! - *An include.* Theirs found *G* in *R*, ours another file *H* of *T*; both stand where the same
//!   search looks for the same name. *G* is there for us too (1), so *H* was found before it. If *H* is
//!   in *R*, it was there for them, and they would have found it first. So it is not, and is called as
//!   the include says: as *G* is, or a link that leads to *G* (links are the same for both, since the
//!   precise tree has all of them). That is against (3).
//! - *A test for a file.* What tests find for us is in *R* (2), so it was there for them; what they
//!   found for them counted as read, is in *R* and so is there for us (1). The answers are equal.
//! - *A file that a flag or a line mark names*, which counts as read for both: as with tests.
//!
//! What else decides (times, precompiled headers, embedded files) keeps a compile from travelling.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Inputs, base_name};
use crate::job::reads::{PathList, ReadLists};
use crate::job::{Node, Tree};

/// The inputs of `whole` that are in the first of the lists which a compile here would read; `None`
/// when there is no such list, or nothing would be left out. With their tree.
pub fn choose(whole: &Inputs, offered: &ReadLists) -> Option<(Inputs, Arc<Tree>)> {
    let tree = whole.tree.open()?;
    let fitting = offered.0.iter().find(|list| fits(&tree, &whole.always, list))?;
    whole.precise(fitting, None)
}

fn fits(tree: &Tree, always: &PathList, offered: &PathList) -> bool {
    let read = offered.paths();
    if !read.iter().all(|path| tree.is_file(path.as_str())) || !always.paths().is_subset(read) {
        return false;
    }
    let links = tree.iter().filter(|(_, node)| matches!(node, Node::Symlink { .. }));
    let names: HashSet<&str> = read
        .iter()
        .chain(links.map(|(path, _)| path))
        .map(|path| base_name(path.as_str()))
        .collect();
    tree.iter().all(|(path, node)| {
        !matches!(node, Node::File { .. })
            || read.contains(path)
            || !names.contains(base_name(path.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::inputs::{About, Extent};
    use crate::job::{Digest, TreePath};

    /// Inputs of these files (`name` or `name=content`) and links (`name->target`).
    fn inputs(entries: &[&str], always: &[&str]) -> Inputs {
        let mut tree = Tree::default();
        for entry in entries {
            let (name, node) = match entry.split_once("->") {
                Some((name, target)) => (name, Node::Symlink { target: target.into() }),
                None => {
                    let (name, text) = entry.split_once('=').unwrap_or((entry, ""));
                    let digest = Digest::of(text.as_bytes());
                    (name, Node::File { digest, size: text.len() as u64, executable: false })
                }
            };
            tree.insert(TreePath::try_from(name).unwrap(), node);
        }
        let (command, main) = (Digest::of(b"command"), None);
        let (extent, always) = (Extent::Larger, list(always));
        let about = About { command, main, always, extent, rules: None };
        Inputs::of_tree(about, &Arc::new(tree), Vec::new())
    }

    fn list(names: &[&str]) -> PathList {
        let paths = names.iter().map(|name| TreePath::try_from(*name).unwrap());
        PathList::new(paths.collect()).unwrap()
    }

    const THEIRS: [&str; 4] = ["/p/a.c", "/i/x.h", "/i/unused.h", "/l->i"];

    /// Whether ours is found under what theirs read: `/p/a.c`, `/i/x.h`.
    fn is_same(ours: &[&str], always: &[&str]) -> bool {
        let read = list(&["/p/a.c", "/i/x.h"]);
        let (theirs, _) = inputs(&THEIRS, &["/p/a.c"]).precise(&read, None).unwrap();
        let offered = ReadLists(vec![list(&["/p/gone.c"]), read]);
        let chosen = choose(&inputs(ours, always), &offered);
        chosen.is_some_and(|(chosen, _)| chosen.digest == theirs.digest)
    }

    #[test]
    fn files_that_are_not_read_do_not_matter() {
        for entry in ["/i/unused.h=changed", "/i/new.h", "/q/unused.h"] {
            assert!(is_same(&["/p/a.c", "/i/x.h", "/l->i", entry], &["/p/a.c"]), "{entry}");
        }
    }

    #[test]
    fn files_that_are_read_do() {
        for (source, header) in [("/p/a.c=changed", "/i/x.h"), ("/p/a.c", "/i/x.h=changed")] {
            assert!(!is_same(&[source, header, "/l->i", "/i/unused.h"], &["/p/a.c"]));
        }
        assert!(!is_same(&["/p/a.c", "/l->i", "/i/unused.h"], &["/p/a.c"]), "it is gone");
    }

    #[test]
    fn a_file_that_may_be_found_instead_is_noticed() {
        for shadow in ["/p/x.h", "/first/x.h", "/first/deep/x.h", "/q/l"] {
            assert!(!is_same(&["/p/a.c", "/i/x.h", "/l->i", shadow], &["/p/a.c"]), "{shadow}");
        }
        // A link in front of what was found leads elsewhere.
        let shadowed = ["/p/a.c", "/i/x.h", "/l->i", "/p/x.h->../q/y.h", "/q/y.h"];
        assert!(!is_same(&shadowed, &["/p/a.c"]));
    }

    #[test]
    fn a_test_that_finds_more_is_noticed() {
        let ours = ["/p/a.c", "/i/x.h", "/l->i", "/i/tested.h"];
        assert!(is_same(&ours, &["/p/a.c"]));
        assert!(!is_same(&ours, &["/p/a.c", "/i/tested.h"]));
    }
}
