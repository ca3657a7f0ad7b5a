//! What stands in folders, read once per change however many compiles ask, and since when each
//! name stands there. A folder is remembered once, not once for each command that looks into it.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::store::stamps::{Stamp, now_ns};

/// Most folders that are remembered; then the table starts anew.
const FOLDERS_MAX: usize = 50_000;
/// Most names in all folders together; then the table starts anew.
const NAMES_MAX: usize = 2_000_000;
/// How far the clock of time stamps lags behind: a few ticks of the kernel's timer.
const CLOCK_LAG_NS: i64 = 20_000_000;
/// Bytes that a name takes in a folder's own file, roughly: its size tells how many there are.
const NAME_BYTES: u64 = 32;

/// A folder at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Moment {
    /// Where the folder's path leads, without links.
    place: PathBuf,
    /// The folder's stamp, taken before its names were looked at.
    stamp: Stamp,
    /// Whether the stamp was old enough then to prove that nothing was added since.
    settled: bool,
    /// When the folder changed last, seen after its names were looked at, Unix time in ns.
    changed_ns: i64,
    #[serde(skip)]
    present: Present,
}

/// Which names stood there.
#[derive(Clone, Debug)]
enum Present {
    /// Those that the table has had since this number or an earlier one.
    Listed(u64),
    /// Of the names that were asked for, these.
    Asked(Box<[OsString]>),
}

impl Default for Present {
    fn default() -> Self {
        Self::Asked(Box::default())
    }
}

impl Moment {
    /// The moment at which `present` stood there, of the names that matter.
    pub(super) fn of(self, present: Box<[OsString]>) -> Self {
        Self { present: Present::Asked(present), ..self }
    }

    /// Whether the folder's path led to the same place at both moments.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        self.place == other.place
    }

    /// Whether the folder has not changed since, by its stamp alone.
    pub(super) fn holds(&self, folder: &Path) -> bool {
        self.settled && stamp(folder).is_ok_and(|now| now == self.stamp)
    }

    /// Whether the folder may have changed at or after this time (Unix time in ns): file systems
    /// take the time from a clock that lags a little.
    pub(super) fn may_be_younger_than(&self, time_ns: i64) -> bool {
        self.changed_ns.saturating_add(CLOCK_LAG_NS) >= time_ns
    }
}

/// All folders that were looked into.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    folders: HashMap<PathBuf, Folder>,
    /// Names in all folders.
    names: usize,
    /// Number of the latest moment; never starts anew.
    clock: u64,
}

#[derive(Debug)]
struct Folder {
    moment: Moment,
    /// Each name with the moment at which it was first seen.
    names: HashMap<OsString, u64>,
}

/// The names that stood in one folder at one moment.
enum Standing<'t> {
    Asked(&'t [OsString]),
    Listed(Option<&'t HashMap<OsString, u64>>, u64),
}

impl Standing<'_> {
    /// Whether `name` did; one that the table does not know any more did not.
    fn has(&self, name: &OsString) -> bool {
        match self {
            Self::Asked(names) => names.contains(name),
            Self::Listed(names, number) => {
                names.and_then(|names| names.get(name)).is_some_and(|since| since <= number)
            }
        }
    }
}

impl Folders {
    /// What `folder` is like now, as far as `names` matter.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn look(&self, folder: &Path, names: &BTreeSet<OsString>) -> io::Result<Moment> {
        let known = self.lock().folders.get(folder).map(|known| known.moment.clone());
        if let Some(moment) = known.as_ref().filter(|moment| moment.holds(folder)) {
            return Ok(moment.clone());
        }
        let before = stamp(folder)?;
        // Of a large folder that changes with every compile, few names matter.
        let listed = if known.is_some() && names.len() as u64 * NAME_BYTES < before.size {
            None
        } else {
            let entries = std::fs::read_dir(folder)?.map(|entry| entry.map(|it| it.file_name()));
            Some(entries.collect::<io::Result<Vec<OsString>>>()?)
        };
        let stands = |name: &&OsString| folder.join(name).symlink_metadata().is_ok();
        let asked = match &listed {
            Some(_) => Box::default(),
            None => names.iter().filter(stands).cloned().collect(),
        };
        let moment = Moment {
            place: std::fs::canonicalize(folder)?,
            stamp: before,
            settled: before.is_settled(now_ns()),
            changed_ns: stamp(folder)?.mtime_ns,
            present: Present::Asked(asked),
        };
        Ok(match listed {
            Some(names) => self.lock().note(folder, moment, names),
            None => moment,
        })
    }

    /// Those of `names` that stand in `folder` as it is `now`.
    pub(super) fn present<'n>(
        &self,
        folder: &Path,
        now: &Moment,
        names: &'n BTreeSet<OsString>,
    ) -> Vec<&'n OsString> {
        let table = self.lock();
        let now = table.standing(folder, now);
        // Few names matter of a large folder, and few are in a small one.
        if let Standing::Listed(Some(listed), _) = now
            && listed.len() < names.len()
        {
            let known = listed.keys().filter_map(|name| names.get(name));
            let mut present: Vec<&OsString> = known.filter(|name| now.has(name)).collect();
            present.sort_unstable();
            return present;
        }
        names.iter().filter(|name| now.has(name)).collect()
    }

    /// Whether one of `names` stands in `folder` as it is `now`, and did not at the moment `then`.
    pub(super) fn came(
        &self,
        folder: &Path,
        [then, now]: [&Moment; 2],
        names: &BTreeSet<OsString>,
    ) -> bool {
        let table = self.lock();
        let [then, now] = [then, now].map(|moment| table.standing(folder, moment));
        names.iter().any(|name| now.has(name) && !then.has(name))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// What stood in `folder` at that moment.
    fn standing<'t>(&'t self, folder: &Path, moment: &'t Moment) -> Standing<'t> {
        match &moment.present {
            Present::Asked(names) => Standing::Asked(names),
            Present::Listed(number) => {
                Standing::Listed(self.folders.get(folder).map(|known| &known.names), *number)
            }
        }
    }

    /// Takes down what stands in `folder`, and gives the moment its number.
    fn note(&mut self, folder: &Path, moment: Moment, present: Vec<OsString>) -> Moment {
        if self.folders.len() >= FOLDERS_MAX || self.names >= NAMES_MAX {
            self.folders.clear();
            self.names = 0;
        }
        self.clock += 1;
        let number = self.clock;
        let moment = Moment { present: Present::Listed(number), ..moment };
        let old = self.folders.remove(folder).map(|old| old.names).unwrap_or_default();
        self.names = self.names - old.len() + present.len();
        let names = present.into_iter().map(|name| {
            let since = old.get(&name).copied().unwrap_or(number);
            (name, since)
        });
        let known = Folder { moment: moment.clone(), names: names.collect() };
        self.folders.insert(folder.to_owned(), known);
        moment
    }
}

/// The folder's stamp, links followed.
fn stamp(folder: &Path) -> io::Result<Stamp> {
    std::fs::metadata(folder).map(|found| Stamp::of(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes, removes and looks; the same for folders that are listed and those that are asked.
    fn names_are_new_once(names: &BTreeSet<OsString>) {
        let root = tempfile::tempdir().unwrap();
        let (folder, folders) = (root.path(), Folders::default());
        let look = || folders.look(folder, names).unwrap();
        let came = |then: &Moment, now: &Moment| folders.came(folder, [then, now], names);
        std::fs::write(folder.join("a"), "").unwrap();
        let first = look();
        assert_eq!(folders.present(folder, &first, names), ["a"]);
        assert!(!came(&first, &look()));

        std::fs::write(folder.join("c"), "").unwrap();
        let second = look();
        assert!(!came(&first, &second));
        std::fs::write(folder.join("b"), "").unwrap();
        let third = look();
        assert!(came(&first, &third) && came(&second, &third));
        assert_eq!(folders.present(folder, &third, names), ["a", "b"]);
    }

    #[test]
    fn names_are_new_once_where_few_are_asked_for() {
        names_are_new_once(&BTreeSet::from(["a".into(), "b".into()]));
    }

    #[test]
    fn names_are_new_once_where_all_are_listed() {
        let more = (0..1_000).map(|number| OsString::from(format!("n{number}")));
        names_are_new_once(&more.chain(["a".into(), "b".into()]).collect());
    }

    #[test]
    fn a_folder_may_be_listed_after_it_was_asked_and_the_other_way_round() {
        let root = tempfile::tempdir().unwrap();
        let (folder, folders) = (root.path(), Folders::default());
        let few = BTreeSet::from([OsString::from("a")]);
        let many: BTreeSet<OsString> =
            (0..1_000).map(|n| format!("n{n}").into()).chain(["a".into()]).collect();
        let known = folders.look(folder, &few).unwrap();
        assert!(matches!(known.present, Present::Listed(_)));
        std::fs::write(folder.join("other"), "").unwrap();
        let asked = folders.look(folder, &few).unwrap();
        assert!(matches!(asked.present, Present::Asked(_)));
        let listed = folders.look(folder, &many).unwrap();
        assert!(matches!(listed.present, Present::Listed(_)));
        assert!(!folders.came(folder, [&asked, &listed], &few));
        std::fs::write(folder.join("a"), "").unwrap();
        let now = folders.look(folder, &few).unwrap();
        assert!(folders.came(folder, [&listed, &now], &few));
        let now = folders.look(folder, &many).unwrap();
        assert!(folders.came(folder, [&asked, &now], &few));
    }
}
