//! Toolchains that this worker knows: in each space fetched once, proved once, for all jobs that wait.
//!
//! The files lie in the disk cache, which evicts those that were not used for longest; a job that
//! runs has links of its own, so nothing in use is ever lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::job::wire::{BlobClass, Submit, Trouble};
use crate::job::{Digest, Space, Tree};

use super::fetch::Patience;
use super::prepare::Runner;
use super::proof::{self, Unproved};

/// Toolchains whose trees are kept in memory; about 100 KB each.
const KNOWN_MAX: usize = 64;
/// Failed proofs that are remembered for each toolchain.
const FAILURES_MAX: usize = 16;

/// What is known of one toolchain; locked while it is fetched or proved, so that others wait.
type Entry = Arc<tokio::sync::Mutex<State>>;

#[derive(Debug, Default)]
struct State {
    tree: Option<Arc<Tree>>,
    proved: Option<Proved>,
    /// What differed, by the digest of the references: a client's false references harm it alone.
    failures: HashMap<Digest, String>,
}

/// The proof holds as long as this process lives: the machine stays the same.
#[derive(Debug)]
struct Proved;

#[derive(Debug, Default)]
struct Known {
    entries: HashMap<(Space, Digest), (u64, Entry)>,
    clock: u64,
}

/// All toolchains of a worker.
#[derive(Debug)]
pub(super) struct Toolchains {
    known: Mutex<Known>,
    bytes_max: u64,
}

impl Toolchains {
    /// `bytes_max` is the size of the disk cache: a larger toolchain is refused.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { known: Mutex::default(), bytes_max }
    }

    /// The tree that `submit` names, proved on this machine.
    pub(super) async fn ready(
        &self,
        runner: &Runner,
        submit: &Submit,
        patience: &mut Patience<'_>,
    ) -> Result<Arc<Tree>, Trouble> {
        let digest = submit.action.toolchain;
        let entry = self.entry((runner.source.space().clone(), digest));
        let mut state = entry.lock().await;
        let tree = match &state.tree {
            Some(tree) => tree.clone(),
            None => {
                let tree = runner.source.tree((BlobClass::Toolchain, digest), patience).await?;
                let tree = Arc::new(self.small_enough(tree)?);
                state.tree = Some(tree.clone());
                tree
            }
        };
        if state.proved.is_some() {
            return Ok(tree);
        }
        if let Some(text) = state.failures.get(&submit.references) {
            return Err(Trouble::Toolchain(text.clone()));
        }
        match proof::prove(runner, submit.job, &tree, submit.references, patience).await {
            Ok(()) => {
                tracing::info!(toolchain = %digest.short(), files = tree.len(), "toolchain proved");
                state.proved = Some(Proved);
                Ok(tree)
            }
            Err(Unproved::Trouble(trouble)) => Err(trouble),
            Err(Unproved::Failed(text)) => {
                tracing::warn!(toolchain = %digest.short(), text, "toolchain is not usable here");
                if state.failures.len() < FAILURES_MAX {
                    state.failures.insert(submit.references, text.clone());
                }
                Err(Trouble::Toolchain(text))
            }
        }
    }

    fn small_enough(&self, tree: Tree) -> Result<Tree, Trouble> {
        let bytes = tree.files().map(|(_, size)| size).fold(0, u64::saturating_add);
        if bytes <= self.bytes_max {
            return Ok(tree);
        }
        let limit = self.bytes_max;
        Err(Trouble::Refused(format!("toolchain has {bytes} bytes, wanted at most {limit}")))
    }

    /// The entry of a space's toolchain; forgets the one that was not used for longest, unless in use.
    fn entry(&self, name: (Space, Digest)) -> Entry {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clock += 1;
        let now = known.clock;
        let (used, entry) = known.entries.entry(name).or_default();
        *used = now;
        let entry = entry.clone();
        if known.entries.len() > KNOWN_MAX {
            let idle = known.entries.iter().filter(|(_, (_, entry))| Arc::strong_count(entry) == 1);
            if let Some(oldest) =
                idle.min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone())
            {
                known.entries.remove(&oldest);
            }
        }
        entry
    }
}
