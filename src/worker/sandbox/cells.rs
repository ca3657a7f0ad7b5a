//! Cgroups that hold the memory and the processes of a job together: made once, used by one job
//! after another, removed with the worker.
//!
//! Version 2 needs a cgroup that is ours to divide (root on a plain machine, or `Delegate=yes`),
//! version 1 the right to make folders in ours. What neither gives is left to the caller.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::exec::Door;

use super::Limits;

/// Starts the name of each of our cgroups: `jetcc-PID-NUMBER`.
const NAME: &str = "jetcc-";
/// Where the worker itself goes: version 2 wants no process in a cgroup that is divided.
const WORKER: &str = "jetcc-worker";
/// How often a removal is tried: an ended job needs a moment to let go of its cgroup.
const REMOVE_TRIES: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// Numbers the cgroups of this process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What a controller limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Processes,
}

impl Controller {
    const ALL: [Self; 2] = [Self::Memory, Self::Processes];

    /// As the kernel calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "pids",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A cgroup in which we may make others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parent {
    folder: PathBuf,
    version: Version,
    holds: Vec<Controller>,
}

impl Parent {
    /// File name and content of each limit; those of the second list may be absent.
    fn limits(&self, limits: &Limits) -> [Vec<(&'static str, u64)>; 2] {
        let (mut needed, mut wanted) = (Vec::new(), Vec::new());
        for controller in &self.holds {
            let (memory, processes) = (limits.memory_bytes, limits.processes);
            match (self.version, controller) {
                (Version::One, Controller::Memory) => {
                    needed.push(("memory.limit_in_bytes", memory));
                    wanted.push(("memory.memsw.limit_in_bytes", memory));
                }
                (Version::Two, Controller::Memory) => {
                    needed.push(("memory.max", memory));
                    wanted.extend([("memory.swap.max", 0), ("memory.oom.group", 1)]);
                }
                (_, Controller::Processes) => needed.push(("pids.max", processes)),
            }
        }
        [needed, wanted]
    }

    /// The file with the number of processes that were ended for want of memory.
    fn kills(&self) -> Option<&'static str> {
        self.holds.contains(&Controller::Memory).then_some(match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        })
    }

    fn door(&self, folder: &Path) -> io::Result<Door> {
        match self.version {
            Version::One => {
                let tasks = File::options().write(true).open(folder.join("tasks"))?;
                Ok(Door::Tasks(tasks))
            }
            Version::Two => Ok(Door::Folder(File::open(folder)?)),
        }
    }

    /// Removes what workers left that did not end by themselves.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                // One that is in use after all refuses.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// The process that made the cgroup of this name.
fn owner(name: &OsStr) -> Option<&str> {
    let (pid, _) = name.to_str()?.strip_prefix(NAME)?.split_once('-')?;
    pid.bytes().all(|byte| byte.is_ascii_digit()).then_some(pid)
}

/// One cgroup of each parent, with its limits.
#[derive(Debug)]
struct Cell {
    folders: Vec<PathBuf>,
    doors: Arc<[Door]>,
    kills: u64,
}

impl Cell {
    fn make(parents: &[Parent], limits: &Limits) -> io::Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME}{}-{number}", std::process::id());
        let mut cell = Self { folders: Vec::new(), doors: Arc::default(), kills: 0 };
        let mut doors = Vec::new();
        for parent in parents {
            let folder = parent.folder.join(&name);
            fs::create_dir(&folder)?;
            cell.folders.push(folder.clone());
            let [needed, wanted] = parent.limits(limits);
            let set = |(file, limit): (&str, u64)| fs::write(folder.join(file), limit.to_string());
            needed.into_iter().try_for_each(set)?;
            // Machines without swap, or without its accounting, have no such file.
            let _ = wanted.into_iter().map(set).all(|_| true);
            doors.push(parent.door(&folder)?);
        }
        // Version 1 first: the way into version 2 goes on in another process.
        doors.sort_by_key(|door| matches!(door, Door::Folder(_)));
        cell.doors = doors.into();
        Ok(cell)
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        for folder in &self.folders {
            let mut tries = 0;
            while let Err(error) = fs::remove_dir(folder) {
                if error.kind() == io::ErrorKind::NotFound || tries == REMOVE_TRIES {
                    break;
                }
                tries += 1;
                std::thread::sleep(REMOVE_PAUSE);
            }
        }
    }
}

/// All cgroups of a worker.
#[derive(Debug)]
pub(super) struct Cells {
    parents: Vec<Parent>,
    limits: Limits,
    idle: Mutex<Vec<Cell>>,
}

impl Cells {
    /// What this machine lets us make; with the first cell made, so that it is known to work.
    pub(super) fn open(limits: Limits) -> Option<Arc<Self>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mut parents: Vec<Parent> = Vec::new();
        let mut take = |parent: Parent| {
            parent.sweep();
            match Cell::make(std::slice::from_ref(&parent), &limits) {
                Ok(_) => parents.push(parent),
                Err(error) => {
                    tracing::debug!(folder = %parent.folder.display(), %error, "no cgroup here");
                }
            }
        };
        let two = folder_of(&mounts, &own, None).and_then(|folder| divided(folder).ok());
        let held = two.as_ref().map(|two| two.holds.clone()).unwrap_or_default();
        two.into_iter().for_each(&mut take);
        for controller in Controller::ALL.into_iter().filter(|one| !held.contains(one)) {
            if let Some(folder) = folder_of(&mounts, &own, Some(controller)) {
                take(Parent { folder, version: Version::One, holds: vec![controller] });
            }
        }
        if parents.is_empty() {
            return None;
        }
        let first = Cell::make(&parents, &limits).ok()?;
        Some(Arc::new(Self { parents, limits, idle: Mutex::new(vec![first]) }))
    }

    /// Whether a job's use is limited by `controller`.
    pub(super) fn hold(&self, controller: Controller) -> bool {
        self.parents.iter().any(|parent| parent.holds.contains(&controller))
    }

    /// A cell for one job.
    ///
    /// # Errors
    /// The system's answer to making one more.
    pub(super) fn take(self: &Arc<Self>) -> io::Result<Lease> {
        let idle = self.idle().pop();
        let cell = match idle {
            Some(cell) => cell,
            None => Cell::make(&self.parents, &self.limits)?,
        };
        Ok(Lease { cells: self.clone(), cell: Some(cell) })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Cell>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cell in use; dropping it gives it to the next job.
#[derive(Debug)]
pub(super) struct Lease {
    cells: Arc<Cells>,
    cell: Option<Cell>,
}

impl Lease {
    /// The ways in.
    pub(super) fn doors(&self) -> Arc<[Door]> {
        self.cell.as_ref().map(|cell| cell.doors.clone()).unwrap_or_default()
    }

    /// Whether the kernel ended a process in here for want of memory since this was last asked.
    pub(super) fn ran_out_of_memory(&mut self) -> bool {
        let Some(cell) = &mut self.cell else { return false };
        let count = |(parent, folder): (&Parent, &PathBuf)| {
            let text = fs::read_to_string(folder.join(parent.kills()?)).ok()?;
            kills(&text)
        };
        let kills = self.cells.parents.iter().zip(&cell.folders).filter_map(count).sum();
        std::mem::replace(&mut cell.kills, kills) < kills
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            self.cells.idle().push(cell);
        }
    }
}

/// Makes our cgroup of version 2, at `own`, one that limits those below it.
fn divided(own: PathBuf) -> io::Result<Parent> {
    let folder = match own.parent() {
        Some(above) if own.ends_with(WORKER) => above.to_owned(),
        _ => own,
    };
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let words = |text: &str, controller: Controller| {
        text.split_whitespace().any(|word| word == controller.name())
    };
    let offered = read("cgroup.controllers")?;
    let mut holds = Controller::ALL.to_vec();
    holds.retain(|controller| words(&offered, *controller));
    let now = read("cgroup.subtree_control")?;
    let lacking: Vec<_> = holds.iter().filter(|one| !words(&now, **one)).collect();
    if !lacking.is_empty() {
        let order: Vec<_> = lacking.iter().map(|one| format!("+{}", one.name())).collect();
        let turn_on = || fs::write(folder.join("cgroup.subtree_control"), order.join(" "));
        if turn_on().is_err() {
            let worker = folder.join(WORKER);
            fs::create_dir(&worker).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error),
            })?;
            fs::write(worker.join("cgroup.procs"), "0")?;
            if let Err(error) = turn_on() {
                // Others are in there too: it is not ours to divide.
                fs::write(folder.join("cgroup.procs"), "0")?;
                let _ = fs::remove_dir(&worker);
                return Err(error);
            }
        }
    }
    match holds.is_empty() {
        true => Err(io::ErrorKind::NotFound.into()),
        false => Ok(Parent { folder, version: Version::Two, holds }),
    }
}

/// Where our cgroup of this controller (version 1) or of version 2 lies, from `/proc/self/mountinfo`
/// and `/proc/self/cgroup`.
fn folder_of(mounts: &str, own: &str, controller: Option<Controller>) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let found = match controller {
            None => controllers.is_empty(),
            Some(one) => controllers.split(',').any(|name| name == one.name()),
        };
        found.then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut fields = system.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        let found = match controller {
            None => kind == "cgroup2",
            Some(one) => kind == "cgroup" && options.split(',').any(|name| name == one.name()),
        };
        let below = Path::new(path).strip_prefix(root).ok()?;
        found.then(|| Path::new(point).join(below))
    })
}

/// The number in the line `oom_kill NUMBER`.
fn kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
        31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw\n\
        32 30 0:28 /docker/a /sys/fs/cgroup/memory ro master:11 - cgroup cgroup rw,memory\n\
        33 30 0:29 / /sys/fs/cgroup/cpu,pids rw - cgroup cgroup rw,cpu,pids\n";

    #[test]
    fn our_cgroups_are_found_where_they_are_mounted() {
        let own = "9:cpu,pids:/user\n4:memory:/docker/a/b\n1:name=systemd:/x\n0::/init.scope\n";
        let found = |controller| folder_of(MOUNTS, own, controller);
        assert_eq!(found(None), Some("/sys/fs/cgroup/unified/init.scope".into()));
        assert_eq!(found(Some(Controller::Memory)), Some("/sys/fs/cgroup/memory/b".into()));
        assert_eq!(found(Some(Controller::Processes)), Some("/sys/fs/cgroup/cpu,pids/user".into()));
        assert_eq!(folder_of(MOUNTS, "4:memory:/other\n", Some(Controller::Memory)), None);
        assert_eq!(folder_of("", own, None), None);
    }

    #[test]
    fn the_kernels_counters_and_our_names_are_read() {
        assert_eq!(kills("low 0\noom 3\noom_kill 2\noom_group_kill 1\n"), Some(2));
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(kills("oom 3\n"), None);
        assert_eq!(owner(OsStr::new("jetcc-12-0")), Some("12"));
        assert_eq!(owner(OsStr::new("jetcc-worker")), None);
        assert_eq!(owner(OsStr::new("jetcc-x-0")), None);
    }
}
