//! Inputs as a tree names them, and the inputs that are left of them when it is known what a compile
//! read.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Extent, Inputs, PackedTree, Rules};
use crate::client::upload::{Name, Source, Sources};
use crate::compiler::FileFacts;
use crate::job::reads::PathList;
use crate::job::tree::TREE_BYTES_MAX;
use crate::job::wire::BlobClass;
use crate::job::{Digest, LocalReason, Node, Tree, TreePath};
use crate::store::Compressed;
use crate::store::stamps::FileIndex;
use crate::store::walk::Seen;

/// What a tree does not tell of inputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// [`Inputs::command`].
    pub command: Digest,
    /// [`Inputs::main`].
    pub main: Option<Digest>,
    /// [`Inputs::always`].
    pub always: PathList,
    /// [`Inputs::extent`].
    pub extent: Extent,
    /// [`Inputs::rules`].
    pub rules: Option<Rules>,
}

impl Inputs {
    /// What their tree does not tell.
    pub fn about(&self) -> About {
        let Self { command, main, extent, .. } = *self;
        About { command, main, always: self.always.clone(), extent, rules: self.rules.clone() }
    }

    /// The inputs that `tree` names; every file lies where the tree has it.
    pub fn of_tree(about: About, tree: &Arc<Tree>, seen: Vec<Seen>) -> Self {
        let file = |(path, node): (&TreePath, &Node)| match node {
            Node::File { digest, .. } => {
                Some(((BlobClass::Input, *digest), Source::File(path.as_str().into())))
            }
            Node::Symlink { .. } | Node::Directory => None,
        };
        let sources: Sources = tree.iter().filter_map(file).collect();
        let Compressed { digest, size: tree_size, zstd } = Compressed::new(&tree.encode());
        let tree = PackedTree::new(zstd, tree);
        let About { command, main, always, extent, rules } = about;
        Self { command, digest, tree, tree_size, main, extent, rules, sources, always, seen }
    }

    /// The tree as a blob.
    pub fn tree_name(&self) -> Name {
        (BlobClass::Input, self.digest)
    }

    /// That blob.
    ///
    /// # Errors
    /// [`LocalReason::Store`] when nobody would read so large a tree.
    pub fn tree_blob(&self) -> Result<Compressed, LocalReason> {
        let (digest, size, zstd) = (self.digest, self.tree_size, self.tree.zstd().clone());
        if size > TREE_BYTES_MAX as u64 {
            let words = format!("input tree has {size} bytes, wanted at most {TREE_BYTES_MAX}");
            return Err(LocalReason::Store(words));
        }
        Ok(Compressed { digest, size, zstd })
    }

    /// The inputs without the files that a compile did not read; `None` when it is known that it reads
    /// all of them, or when it is said to have read more than there are; with their tree. What files say is asked of
    /// `index`, to know what an edit means; without it every edit means a new search.
    pub fn precise(
        &self,
        reads: &PathList,
        index: Option<&FileIndex<FileFacts>>,
    ) -> Option<(Self, Arc<Tree>)> {
        if self.extent == Extent::Exact {
            return None;
        }
        let tree = self.tree.open()?;
        if !reads.paths().iter().all(|path| tree.is_file(path.as_str())) {
            tracing::warn!("a worker read files that were not sent: not believed");
            return None;
        }
        let kept = reads.paths() | self.always.paths();
        let precise = tree.restricted(&kept);
        if precise.len() == tree.len() {
            return None;
        }
        let stays = |seen: &&Seen| {
            let path = seen.path.to_str();
            path.is_none_or(|path| kept.contains(path) || !tree.is_file(path))
        };
        let seen: Vec<Seen> = self.seen.iter().filter(stays).cloned().collect();
        let rules = index.and_then(|index| self.rules_for(&tree, &precise, &seen, index));
        let about = About { extent: Extent::Exact, rules, ..self.about() };
        let precise = Arc::new(precise);
        Some((Self::of_tree(about, &precise, seen), precise))
    }
}
