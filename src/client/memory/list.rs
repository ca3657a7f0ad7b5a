//! One list of inputs of a command, and what it rests on.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::folders::{Folders, Moment};
use super::super::inputs::{Edit, Inputs};
use crate::compiler::FileFacts;
use crate::job::{Digest, Node, Tree, TreePath};
use crate::store::stamps::{FileIndex, Known, Stamp, now_ns};
use crate::store::walk::{self, Again, Seen};

/// Inputs that are right as long as every file has its content and no name that matters appears.
#[derive(Debug)]
pub(super) struct List {
    pub(super) inputs: Arc<Inputs>,
    /// As in the inputs, but newer: who uses the inputs may hold older ones.
    pub(super) seen: Vec<Seen>,
    pub(super) folders: Vec<(PathBuf, Moment)>,
    pub(super) names: Arc<BTreeSet<OsString>>,
}

/// What a list is worth now.
#[derive(Debug)]
pub(super) enum Worth {
    /// A compile would read the same.
    Same,
    /// As the list, with new contents of some files, which say the same of what they include.
    Edited(Edited),
    /// Nothing.
    Nothing,
}

/// A list after an edit, which may be taken in the place of the old one.
#[derive(Debug)]
pub(super) struct Edited {
    inputs: Arc<Inputs>,
    seen: Vec<Seen>,
}

impl List {
    /// How much of the memory it takes.
    pub(super) fn facts(&self) -> usize {
        self.seen.len() + self.folders.len() + self.names.len()
    }

    /// Whether a compile would read the same now. A file with another stamp is looked into: a branch
    /// that is checked out and left again writes files that are what they were. With an edit the
    /// list itself stays as it is.
    pub(super) fn look(&mut self, folders: &Folders, index: &FileIndex<FileFacts>) -> Worth {
        let mut contents = Contents { inputs: &self.inputs, index, known: None, edits: Vec::new() };
        let again = walk::changed_again(&mut self.seen, |seen, found| contents.now(seen, found));
        let Contents { known, edits, .. } = contents;
        let Self { folders: watched, names, .. } = self;
        let holds = !matches!(again, Again::Changed(_))
            && watched
                .iter_mut()
                .all(|(folder, moment)| folder_holds(folders, folder, moment, names));
        if edits.is_empty() {
            if again == Again::Renewed {
                let inputs = Inputs { seen: self.seen.clone(), ..(*self.inputs).clone() };
                self.inputs = Arc::new(inputs);
            }
            return if holds { Worth::Same } else { Worth::Nothing };
        }
        let seen = holds.then(|| self.seen.clone());
        let (edits, before): (Vec<Edit>, Vec<Seen>) = edits.into_iter().unzip();
        self.see_again(before);
        match (seen, known.flatten()) {
            (Some(seen), Some((tree, _))) => {
                let inputs = Arc::new(self.inputs.edited(tree, edits, seen.clone()));
                Worth::Edited(Edited { inputs, seen })
            }
            _ => Worth::Nothing,
        }
    }

    /// Takes an edit.
    pub(super) fn take(&mut self, Edited { inputs, seen }: Edited) {
        (self.inputs, self.seen) = (inputs, seen);
    }

    /// Puts back what was seen of files before they were edited; `before` is in the list's order.
    fn see_again(&mut self, before: Vec<Seen>) {
        let mut places = self.seen.iter_mut();
        for seen in before {
            if let Some(place) = places.find(|place| place.path == seen.path) {
                *place = seen;
            }
        }
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
    /// With what was seen of the file before.
    edits: Vec<(Edit, Seen)>,
}

impl Contents<'_> {
    /// What is seen now, if it is as good as what was `seen`.
    fn now(&mut self, seen: &Seen, found: &Metadata) -> Option<Seen> {
        let path = &seen.path;
        let (tree, counts) = self.known.get_or_insert_with(|| counted(self.inputs)).as_mut()?;
        let name = TreePath::try_from(path.to_str()?).ok()?;
        let node = tree.get(&name)?;
        // The paths of a tree pass through no link: what has become one leads elsewhere.
        let folder = path.parent()?;
        if std::fs::canonicalize(folder).ok()? != folder {
            return None;
        }
        let again = |stamp, recheck| Seen { path: path.clone(), stamp: Some(stamp), recheck };
        match node {
            // Whether two files of one content are one file decides what a compiler reads once.
            Node::File { digest, .. } if counts.get(digest).is_some_and(|count| *count > 1) => None,
            Node::File { digest, executable, .. } if found.is_file() => {
                let known = self.index.digest_at(path, found).ok()?;
                if known.executable != *executable {
                    return None;
                }
                if known.digest != *digest {
                    let is_twin = counts.contains_key(&known.digest);
                    let may_be = self.inputs.rules.is_some() && !is_twin;
                    if !may_be || !says_same(self.index, seen, digest, &known) {
                        return None;
                    }
                    let before = *digest;
                    let Known { digest, size, executable, .. } = known;
                    counts.insert(digest, 1);
                    let now = Node::File { digest, size, executable };
                    self.edits.push((Edit { path: name, before, now }, seen.clone()));
                }
                Some(again(known.stamp, (!known.settled).then_some(known.digest)))
            }
            Node::Symlink { target } if found.is_symlink() => {
                let same =
                    std::fs::read_link(path).is_ok_and(|now| now.as_os_str() == target.as_str());
                let stamp = Stamp::of(found);
                let is_young = !stamp.is_settled(now_ns());
                let recheck = is_young.then(|| Digest::of(target.as_bytes()));
                same.then(|| again(stamp, recheck))
            }
            Node::File { .. } | Node::Symlink { .. } | Node::Directory => None,
        }
    }
}

/// Whether the file that was `seen` with the content `before` says the same of other files now.
fn says_same(
    index: &FileIndex<FileFacts>,
    seen: &Seen,
    before: &Digest,
    now: &Known<FileFacts>,
) -> bool {
    let then = seen.stamp.and_then(|stamp| index.read_last(&stamp));
    let then = then.filter(|known| known.digest == *before).and_then(|known| known.facts);
    then.is_some() && then == now.facts
}

/// The tree, and how often each content occurs in it.
fn counted(inputs: &Inputs) -> Option<(Tree, HashMap<Digest, usize>)> {
    let tree = Arc::unwrap_or_clone(inputs.tree.open()?);
    let mut counts = HashMap::with_capacity(tree.len());
    for (digest, _) in tree.files() {
        *counts.entry(digest).or_default() += 1;
    }
    Some((tree, counts))
}
