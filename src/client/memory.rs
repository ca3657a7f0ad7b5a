//! Inputs of commands that were seen before: used again, without starting a process, when every
//! file still is what it was and no file appeared that would now be found instead of one of them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::folders::{Folders, Moment};
use super::inputs::Inputs;
use crate::job::Digest;
use crate::store::walk::{self, Seen};

/// Most facts (files, folders) of all remembered commands; then everything is forgotten.
const FACTS_MAX: usize = 1_000_000;

/// Names whose appearance in one of the folders could change what an include finds.
#[derive(Clone, Debug)]
pub struct Lookout {
    /// When the search for the inputs began, Unix time in ns.
    pub began_ns: i64,
    /// The files that were found, as spelled.
    pub files: HashSet<PathBuf>,
    /// Folders in which includes are looked for.
    pub folders: BTreeSet<PathBuf>,
    /// File names, and names of folders in `#include <folder/name>`.
    pub names: BTreeSet<OsString>,
}

impl Lookout {
    /// Whether something that matters may have appeared in `folder` while the inputs were found:
    /// the folder is young and holds a name that matters but was not found.
    fn is_in_doubt(&self, folders: &Folders, folder: &Path, moment: &Moment) -> bool {
        moment.may_be_younger_than(self.began_ns)
            && folders.present(folder, moment, &self.names).into_iter().any(|name| {
                let path = folder.join(name);
                !self.files.contains(&path) && !path.is_dir()
            })
    }

    /// Watches for `name` (as an include spells it) below every one of `bases`.
    pub fn watch(&mut self, bases: &BTreeSet<PathBuf>, name: &str) {
        let parts: Vec<&str> =
            name.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
        self.names.extend(parts.iter().map(OsString::from));
        let Some((_, folders)) = parts.split_last() else { return };
        if folders.is_empty() {
            return;
        }
        for base in bases {
            let mut folder = base.clone();
            for part in folders {
                folder.push(part);
                // A folder that is not there yet is noticed where its name would appear.
                if self.folders.contains(&folder) {
                    continue;
                }
                if !folder.is_dir() {
                    break;
                }
                self.folders.insert(folder.clone());
            }
        }
    }
}

/// One command's inputs and what they rest on.
#[derive(Debug)]
struct Remembered {
    inputs: Arc<Inputs>,
    seen: Vec<Seen>,
    folders: Vec<(PathBuf, Moment)>,
    names: BTreeSet<OsString>,
}

/// All remembered commands.
#[derive(Debug, Default)]
pub struct Memory {
    folders: Folders,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    commands: HashMap<Digest, Arc<Mutex<Remembered>>>,
    facts: usize,
}

impl Memory {
    /// The inputs of the command `key`, if they are the same as last time.
    pub fn recall(&self, key: &Digest) -> Option<Arc<Inputs>> {
        let found = self.lock().commands.get(key).cloned()?;
        let mut remembered = found.lock().unwrap_or_else(PoisonError::into_inner);
        match self.holds(&mut remembered) {
            true => Some(remembered.inputs.clone()),
            false => None,
        }
    }

    /// Remembers the inputs of the command `key`. Folders that cannot be read are no reason to
    /// believe anything: then nothing is remembered.
    pub fn remember(&self, key: Digest, inputs: &Arc<Inputs>, lookout: &Lookout) {
        let listed: std::io::Result<Vec<_>> = lookout
            .folders
            .iter()
            .map(|folder| Ok((folder.clone(), self.folders.look(folder, &lookout.names)?)))
            .collect();
        let Ok(folders) = listed else { return };
        let doubtful = |(folder, moment): &(PathBuf, Moment)| {
            lookout.is_in_doubt(&self.folders, folder, moment)
        };
        if folders.iter().any(doubtful) {
            return;
        }
        let remembered = Remembered {
            inputs: inputs.clone(),
            seen: inputs.seen.clone(),
            folders,
            names: lookout.names.clone(),
        };
        let facts = remembered.seen.len() + remembered.folders.len();
        let mut table = self.lock();
        if table.facts + facts > FACTS_MAX {
            *table = Table::default();
        }
        table.facts += facts;
        if let Some(old) = table.commands.insert(key, Arc::new(Mutex::new(remembered))) {
            let old = old.lock().unwrap_or_else(PoisonError::into_inner);
            table.facts = table.facts.saturating_sub(old.seen.len() + old.folders.len());
        }
    }

    fn holds(&self, remembered: &mut Remembered) -> bool {
        if walk::changed_again(&mut remembered.seen).is_some() {
            return false;
        }
        let Remembered { folders, names, .. } = remembered;
        folders.iter_mut().all(|(folder, moment)| self.folder_holds(folder, moment, names))
    }

    /// Whether nothing appeared in `folder` that an include could find. Objects written beside
    /// sources change the folder all the time; only names that matter count.
    fn folder_holds(&self, folder: &Path, moment: &mut Moment, names: &BTreeSet<OsString>) -> bool {
        if moment.holds(folder) {
            return true;
        }
        let Ok(now) = self.folders.look(folder, names) else { return false };
        if self.folders.came(folder, [moment, &now], names) {
            return false;
        }
        *moment = now;
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
