//! One list of inputs of a command, and what it rests on.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::folders::{Folders, Moment};
use super::super::inputs::Inputs;
use crate::compiler::FileFacts;
use crate::job::{Digest, Node, Tree, TreePath};
use crate::store::stamps::{FileIndex, Stamp, now_ns};
use crate::store::walk::{self, Again, Seen};

/// Inputs that are right as long as every file has its content and no name that matters appears.
#[derive(Debug)]
pub(super) struct List {
    pub(super) inputs: Arc<Inputs>,
    /// As in the inputs, but newer: who uses the inputs may hold older ones.
    pub(super) seen: Vec<Seen>,
    pub(super) folders: Vec<(PathBuf, Moment)>,
    pub(super) names: BTreeSet<OsString>,
}

impl List {
    /// How much of the memory it takes.
    pub(super) fn facts(&self) -> usize {
        self.seen.len() + self.folders.len() + self.names.len()
    }

    /// Whether a compile would read the same now. A file with another stamp is looked into: a
    /// branch that is checked out and left again writes files that are what they were.
    pub(super) fn holds(&mut self, folders: &Folders, index: &FileIndex<FileFacts>) -> bool {
        let mut contents = Contents { inputs: &self.inputs, index, known: None };
        match walk::changed_again(&mut self.seen, |path, found| contents.same(path, found)) {
            Again::Changed(_) => return false,
            Again::Same => {}
            Again::Renewed => {
                let inputs = Inputs { seen: self.seen.clone(), ..(*self.inputs).clone() };
                self.inputs = Arc::new(inputs);
            }
        }
        let Self { folders: watched, names, .. } = self;
        watched.iter_mut().all(|(folder, moment)| folder_holds(folders, folder, moment, names))
    }
}

/// Whether nothing appeared in `folder` that an include could find. Objects written beside sources
/// change the folder all the time; only names that matter count.
fn folder_holds(
    folders: &Folders,
    folder: &Path,
    moment: &mut Moment,
    names: &BTreeSet<OsString>,
) -> bool {
    if moment.holds(folder) {
        return true;
    }
    let Ok(now) = folders.look(folder, names) else { return false };
    // Where a link leads elsewhere now, `..` behind it does too.
    if !now.is_same_place(moment) || folders.came(folder, [moment, &now], names) {
        return false;
    }
    *moment = now;
    true
}

/// What the tree says of files whose stamp is another one now.
struct Contents<'a> {
    inputs: &'a Inputs,
    index: &'a FileIndex<FileFacts>,
    known: Option<Option<(Tree, HashMap<Digest, usize>)>>,
}

impl Contents<'_> {
    /// What is seen now, if it has the same content.
    fn same(&mut self, path: &Path, found: &Metadata) -> Option<Seen> {
        let (tree, counts) = self.known.get_or_insert_with(|| counted(self.inputs)).as_ref()?;
        let text = path.to_str()?;
        let node = tree.get(&TreePath::try_from(text).ok()?)?;
        // The paths of a tree pass through no link: what has become one leads elsewhere.
        let folder = path.parent()?;
        if std::fs::canonicalize(folder).ok()? != folder {
            return None;
        }
        let seen = |stamp, recheck| Some(Seen { path: path.into(), stamp: Some(stamp), recheck });
        match node {
            // Whether two files of one content are one file decides what a compiler reads once.
            Node::File { digest, .. } if counts.get(digest).is_some_and(|count| *count > 1) => None,
            Node::File { digest, executable, .. } if found.is_file() => {
                let known = self.index.digest_at(path, found).ok()?;
                let same = known.digest == *digest && known.executable == *executable;
                let recheck = (!known.settled).then_some(*digest);
                same.then(|| seen(known.stamp, recheck)).flatten()
            }
            Node::Symlink { target } if found.is_symlink() => {
                let same =
                    std::fs::read_link(path).is_ok_and(|now| now.as_os_str() == target.as_str());
                let stamp = Stamp::of(found);
                let is_young = !stamp.is_settled(now_ns());
                let recheck = is_young.then(|| Digest::of(target.as_bytes()));
                same.then(|| seen(stamp, recheck)).flatten()
            }
            Node::File { .. } | Node::Symlink { .. } | Node::Directory => None,
        }
    }
}

/// The tree, and how often each content occurs in it.
fn counted(inputs: &Inputs) -> Option<(Tree, HashMap<Digest, usize>)> {
    let tree = inputs.tree()?;
    let mut counts = HashMap::with_capacity(tree.len());
    for (digest, _) in tree.files() {
        *counts.entry(digest).or_default() += 1;
    }
    Some((tree, counts))
}
