//! How an input tree travels: whole, or as what differs from a tree that the store holds. After an edit
//! that is some hundred bytes instead of all digests.
//!
//! Which trees the store holds is remembered under names of what they may be near to: the command,
//! the source, the folder of the source.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::inputs::{Inputs, PackedTree, folder_of};
use crate::job::difference::DIFFERENCE_BYTES_MAX;
use crate::job::wire::TreeDifference;
use crate::job::{Difference, Digest, Tree};
use crate::store::Compressed;

/// What travels of a tree is little up to this size, in bytes of zstd: no other base would be worth it.
const NEAR_BYTES_MAX: usize = 1 << 10;
/// What travels of a tree inside a request, at most, in bytes of zstd; larger trees are uploaded.
const INSIDE_BYTES_MAX: usize = 64 << 10;
/// Most trees under one name.
const BASES_MAX: usize = 2;
/// Most bytes of all trees, in zstd; then the table starts anew.
const TABLE_BYTES_MAX: usize = 32 << 20;
/// Most trees that stay decoded, and most entries of one.
const OPEN_MAX: usize = 8;
const OPEN_ENTRIES_MAX: usize = 4_000;

/// Names of what a tree may be near to, nearest first.
pub type Kin = [Digest; 3];

/// The kin of the tree of `command`, which compiles the file `source`.
pub fn kin(command: Digest, source: &str) -> Kin {
    let folder = format!("{}/", folder_of(source));
    [command, Digest::of(source.as_bytes()), Digest::of(folder.as_bytes())]
}

/// How a tree travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// All of it, inside the request.
    Whole(Bytes),
    /// Inside the request, as what differs from a tree in the store.
    Difference(TreeDifference),
    /// Through the store.
    Stored,
}

impl Form {
    /// Whether so much travels that the next tree shall find a better base.
    pub fn wants_base(&self) -> bool {
        match self {
            Self::Whole(zstd) | Self::Difference(TreeDifference { zstd, .. }) => {
                zstd.len() > NEAR_BYTES_MAX
            }
            Self::Stored => true,
        }
    }

    /// All of it, if it travels so.
    pub fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(zstd) => Some(zstd),
            Self::Difference(_) | Self::Stored => None,
        }
    }

    /// What differs, if it travels so.
    pub fn difference(&self) -> Option<&TreeDifference> {
        match self {
            Self::Difference(difference) => Some(difference),
            Self::Whole(_) | Self::Stored => None,
        }
    }
}

/// A tree that the store was given.
#[derive(Clone, Debug)]
struct Base {
    digest: Digest,
    tree: PackedTree,
}

/// The trees that the store was given, last first under each name.
#[derive(Debug, Default)]
pub struct Bases(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    bases: HashMap<Digest, Vec<Base>>,
    bytes: usize,
    /// Bases that were compared last, decoded: the sources of a folder are compiled one after another.
    open: VecDeque<Arc<Tree>>,
}

impl Bases {
    /// How the tree of `inputs` travels; `holds` tells whether the store still holds a tree.
    pub fn form(&self, inputs: &Inputs, kin: &Kin, holds: impl Fn(Digest) -> bool) -> Form {
        let whole = inputs.tree.zstd();
        let is_far = whole.len() > NEAR_BYTES_MAX;
        let nearest = if is_far { self.nearest(inputs, kin, holds) } else { None };
        match nearest {
            Some(difference) if difference.zstd.len() < whole.len() => Form::Difference(difference),
            _ if whole.len() <= INSIDE_BYTES_MAX => Form::Whole(whole.clone()),
            _ => Form::Stored,
        }
    }

    /// Remembers that the store was given the tree of `inputs`.
    pub fn remember(&self, inputs: &Inputs, kin: &Kin) {
        let base = Base { digest: inputs.digest, tree: inputs.tree.clone() };
        let bytes = base.tree.zstd().len();
        let mut table = self.lock();
        table.bytes += bytes;
        if table.bytes > TABLE_BYTES_MAX {
            *table = Table { bytes, ..Table::default() };
        }
        for name in kin {
            let bases = table.bases.entry(*name).or_default();
            bases.retain(|other| other.digest != base.digest);
            bases.insert(0, base.clone());
            bases.truncate(BASES_MAX);
        }
    }

    /// The first small difference to a base of `kin`, or the smallest of all.
    fn nearest(
        &self,
        inputs: &Inputs,
        kin: &Kin,
        holds: impl Fn(Digest) -> bool,
    ) -> Option<TreeDifference> {
        let bases = self.of(kin, holds);
        let tree = if bases.is_empty() { None } else { inputs.tree.open() }?;
        let (mut nearest, mut least) = (None, DIFFERENCE_BYTES_MAX + 1);
        for base in bases {
            let known = self.open(&base);
            let difference = known.and_then(|known| Difference::between(&known, &tree));
            // What is longer stays longer: most of it are digests, which do not compress.
            let bytes = difference.map(|difference| difference.encode());
            let Some(bytes) = bytes.filter(|bytes| bytes.len() < least) else { continue };
            let zstd = Compressed::new(&bytes).zstd;
            if zstd.len() > INSIDE_BYTES_MAX {
                continue;
            }
            let is_near = zstd.len() <= NEAR_BYTES_MAX;
            (nearest, least) = (Some(TreeDifference { base: base.digest, zstd }), bytes.len());
            if is_near {
                break;
            }
        }
        nearest
    }

    /// The bases of `kin`, each once.
    fn of(&self, kin: &Kin, holds: impl Fn(Digest) -> bool) -> Vec<Base> {
        let table = self.lock();
        let mut found: Vec<Base> = Vec::new();
        for base in kin.iter().filter_map(|name| table.bases.get(name)).flatten() {
            if holds(base.digest) && found.iter().all(|other| other.digest != base.digest) {
                found.push(base.clone());
            }
        }
        found
    }

    /// The tree of `base`, which stays decoded for the next one to compare.
    fn open(&self, base: &Base) -> Option<Arc<Tree>> {
        let tree = base.tree.open()?;
        let mut table = self.lock();
        table.open.retain(|other| !Arc::ptr_eq(other, &tree));
        if tree.len() <= OPEN_ENTRIES_MAX {
            table.open.truncate(OPEN_MAX - 1);
            table.open.push_front(tree.clone());
        }
        Some(tree)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::inputs::{About, Extent};
    use crate::job::reads::PathList;
    use crate::job::{Node, TreePath};

    /// Inputs of so many headers, of which the first has this content.
    fn inputs(headers: usize, first: &str) -> Inputs {
        let mut tree = Tree::default();
        for number in 0..headers {
            let text = if number == 0 { first.to_owned() } else { number.to_string() };
            let digest = Digest::of(text.as_bytes());
            let node = Node::File { digest, size: text.len() as u64, executable: false };
            tree.insert(TreePath::try_from(format!("/inc/h{number}.h")).unwrap(), node);
        }
        let (command, always) = (Digest::of(b"command"), PathList::default());
        let about = About { command, main: None, always, extent: Extent::Larger, rules: None };
        Inputs::of_tree(about, &Arc::new(tree), Vec::new())
    }

    fn names(command: &str, source: &str) -> Kin {
        kin(Digest::of(command.as_bytes()), source)
    }

    #[test]
    fn a_tree_travels_as_what_differs_from_one_that_the_store_holds() {
        let (bases, kin) = (Bases::default(), names("gcc -c a.c", "/p/a.c"));
        let (first, edited) = (inputs(400, "1"), inputs(400, "2"));
        let form = bases.form(&first, &kin, |_| true);
        assert_eq!(form.whole(), Some(first.tree.zstd()), "nothing is known");
        assert!(form.wants_base());

        bases.remember(&first, &kin);
        for near in [kin, names("gcc -g -c a.c", "/p/a.c"), names("gcc -c b.c", "/p/b.c")] {
            let form = bases.form(&edited, &near, |_| true);
            let difference = form.difference().unwrap();
            assert!(difference.base == first.digest && difference.zstd.len() < 200);
            assert!(!form.wants_base());
        }
        let elsewhere = names("gcc -c a.c", "/q/a.c");
        assert!(bases.form(&edited, &elsewhere, |_| true).difference().is_some(), "same command");
        let stranger = names("gcc -c b.c", "/q/b.c");
        assert!(bases.form(&edited, &stranger, |_| true).whole().is_some());
        assert!(bases.form(&edited, &kin, |_| false).whole().is_some(), "the store forgot it");
    }

    #[test]
    fn a_small_tree_needs_no_base_and_a_large_one_is_uploaded() {
        let (bases, kin) = (Bases::default(), names("gcc -c a.c", "/p/a.c"));
        let small = inputs(10, "1");
        bases.remember(&small, &kin);
        let form = bases.form(&small, &kin, |_| true);
        assert!(form.whole().is_some() && !form.wants_base());

        let large = inputs(4_000, "1");
        assert_eq!(bases.form(&large, &kin, |_| true), Form::Stored, "nothing like it");
        bases.remember(&large, &kin);
        assert!(bases.form(&inputs(4_000, "2"), &kin, |_| true).difference().is_some());
    }

    #[test]
    fn the_smallest_difference_is_taken_and_the_table_is_bounded() {
        let (bases, kin) = (Bases::default(), names("gcc -c a.c", "/p/a.c"));
        let (far, near) = (inputs(100, "1"), inputs(300, "1"));
        bases.remember(&near, &kin);
        bases.remember(&far, &kin);
        let form = bases.form(&inputs(330, "2"), &kin, |_| true);
        assert_eq!(form.difference().map(|difference| difference.base), Some(near.digest));
        for number in 0..3_000 {
            bases.remember(&far, &names(&number.to_string(), &format!("/{number}/a.c")));
            assert!(bases.lock().bytes <= TABLE_BYTES_MAX);
        }
        let large = inputs(4_000, "1");
        for _ in 0..TABLE_BYTES_MAX / large.tree.zstd().len() {
            bases.remember(&large, &kin);
        }
        assert!(bases.lock().bytes <= TABLE_BYTES_MAX && bases.lock().bases.len() < 100);
    }
}
