//! Inputs of commands that were seen before: used again, without starting a process, when every
//! file still has its content and no file appeared that would now be found instead of one of them.
//!
//! Several lists are kept of each command, one for each branch that was checked out; on disk too,
//! so that they survive the daemon.

mod kept;
mod list;
mod lookout;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::folders::Folders;
use super::inputs::Inputs;
use crate::compiler::FileFacts;
use crate::job::Digest;
use crate::job::reads::PathList;
use crate::store::stamps::FileIndex;
use kept::Shelf;
use list::{List, Worth};
pub(super) use lookout::Lookout;

/// Most facts (files, folders, names) in memory; what was not used for longest is on disk alone.
const FACTS_MAX: usize = 2_000_000;
/// Most lists of one command.
const LISTS_MAX: usize = 6;

/// All remembered commands.
#[derive(Debug)]
pub struct Memory {
    folders: Folders,
    index: FileIndex<FileFacts>,
    shelf: Shelf,
    table: Mutex<Table>,
}

/// The lists of one command, used last first.
type Lists = Arc<Mutex<Vec<List>>>;

/// Two generations: when the young one is full the old one is forgotten and they change places.
#[derive(Debug, Default)]
struct Table {
    young: HashMap<Digest, Lists>,
    old: HashMap<Digest, Lists>,
    /// Of the young ones.
    facts: usize,
    /// Not written yet.
    unwritten: HashMap<Digest, Lists>,
}

impl Memory {
    /// What is kept in `folder`, whose files are read when they are asked for; `index` tells the
    /// content of files.
    pub fn new(folder: PathBuf, index: FileIndex<FileFacts>) -> Self {
        let (folders, table) = (Folders::default(), Mutex::default());
        Self { folders, index, shelf: Shelf::new(folder), table }
    }

    /// The inputs of the command `key`, if they are those of some time before.
    pub fn recall(&self, key: &Digest) -> Option<Arc<Inputs>> {
        let lists = self.lists(key);
        let mut lists = lists.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut same, mut edited) = (None, None);
        for (at, list) in lists.iter_mut().enumerate() {
            match list.look(&self.folders, &self.index) {
                Worth::Nothing => {}
                Worth::Edited(edit) => edited = edited.or(Some((at, edit))),
                // Before any edit: it may be another branch's.
                Worth::Same => {
                    same = Some(at);
                    break;
                }
            }
        }
        if same.is_none()
            && let Some((at, edit)) = edited
        {
            lists[at].take(edit);
            same = Some(at);
        }
        let at = same?;
        lists[..=at].rotate_right(1);
        Some(lists[0].inputs.clone())
    }

    /// Remembers the inputs of their command. Folders that cannot be read are no reason to believe
    /// anything: then nothing is remembered.
    pub fn remember(&self, inputs: &Arc<Inputs>, lookout: Lookout) {
        let Some(folders) = lookout.look(&self.folders) else { return };
        let (seen, names) = (inputs.seen.clone(), Arc::new(lookout.names));
        self.insert(inputs.digest, List { inputs: inputs.clone(), seen, folders, names });
    }

    /// Learns that of `inputs` a compile read only `reads`: from now on the other files may change.
    /// Whatever was not sent cannot have been read; who says so is not believed.
    ///
    /// What may be read instead of a file that was read is watched for as before: the names and
    /// folders are those of all files that might have been read.
    /// Gives the digest of what is left, if anything is left out.
    pub fn learn(&self, inputs: &Inputs, reads: &PathList) -> Option<Digest> {
        let (precise, _) = inputs.precise(reads, Some(&self.index))?;
        let digest = precise.digest;
        let lists = self.lists(&inputs.command);
        let list = {
            let lists = lists.lock().unwrap_or_else(PoisonError::into_inner);
            let whole = lists.iter().find(|list| list.inputs.digest == inputs.digest);
            let Some(List { folders, names, .. }) = whole else { return Some(digest) };
            let (folders, names) = (folders.clone(), names.clone());
            List { seen: precise.seen.clone(), inputs: Arc::new(precise), folders, names }
        };
        self.insert(inputs.digest, list);
        Some(digest)
    }

    /// Puts `list` in the place of the one whose tree is `replaced`, before all others.
    fn insert(&self, replaced: Digest, list: List) {
        let key = list.inputs.command;
        let facts = list.facts();
        let lists = self.lists(&key);
        {
            let mut lists = lists.lock().unwrap_or_else(PoisonError::into_inner);
            lists.retain(|other| {
                other.inputs.digest != replaced && other.inputs.digest != list.inputs.digest
            });
            lists.truncate(LISTS_MAX - 1);
            lists.insert(0, list);
        }
        self.lock().renew(key, &lists, facts);
    }

    /// Writes what is not written yet. Blocks for some 0.1 ms a command.
    pub fn keep(&self) {
        let unwritten = std::mem::take(&mut self.lock().unwritten);
        for (key, lists) in unwritten {
            let lists = lists.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(bytes) = kept::encode(&lists, &self.folders) else { continue };
            if let Err(error) = self.shelf.write(&key, &bytes) {
                tracing::debug!(%error, "remembered inputs are not kept for the next start");
            }
        }
    }

    /// The lists of the command `key`, from memory or from disk.
    fn lists(&self, key: &Digest) -> Lists {
        if let Some(lists) = self.lock().get(key) {
            return lists;
        }
        let read = self.shelf.read(key);
        let facts = read.iter().map(List::facts).sum();
        // Somebody else may have read them at the same time: then theirs are the ones.
        let mut table = self.lock();
        table.get(key).unwrap_or_else(|| table.add(*key, Arc::new(Mutex::new(read)), facts))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn get(&mut self, key: &Digest) -> Option<Lists> {
        if let Some(lists) = self.young.get(key) {
            return Some(lists.clone());
        }
        let lists = self.old.remove(key).or_else(|| self.unwritten.get(key).cloned())?;
        let facts =
            lists.lock().unwrap_or_else(PoisonError::into_inner).iter().map(List::facts).sum();
        Some(self.add(*key, lists, facts))
    }

    fn add(&mut self, key: Digest, lists: Lists, facts: usize) -> Lists {
        if self.facts + facts > FACTS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.facts = 0;
        }
        self.facts += facts;
        self.young.insert(key, lists.clone());
        lists
    }

    /// `lists` have a new list of so many facts.
    fn renew(&mut self, key: Digest, lists: &Lists, facts: usize) {
        self.add(key, lists.clone(), facts);
        self.unwritten.insert(key, lists.clone());
    }
}
