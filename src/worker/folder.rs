//! A job's folder on disk: made with a guard, laid out, removed whatever happens. Its root stays for
//! another job if this one ended well.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::job::JobId;
use crate::job::wire::BlobClass;
use crate::store::{DiskCache, DiskError, FolderLock};

use super::WorkerError;
use super::layout::{self, Layout, Place, Way};
use super::roots::{Idle, Root, User, make_folder, make_private};
use super::sandbox::{self, Memory};
use super::scratch::Scratch;
use super::settings::Settings;

/// How often a removal is tried: an ended compile needs a moment to let go of its files.
const REMOVE_TRIES: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(20);
/// What a file or folder counts for at least: an empty one uses an inode, of which disks have so
/// many and no more.
const ENTRY_BYTES: u64 = 4_096;

/// The folder of all jobs of this worker.
#[derive(Debug)]
pub(super) struct Builds {
    path: PathBuf,
    /// Counts attempts, so that two of one job never share a folder.
    attempts: AtomicU64,
    /// Holds a token for each job's folder that exists.
    folders: TaskTracker,
    idle: Idle,
    /// `Some` where compiles may write to memory.
    scratch: Option<Scratch>,
    runtime: Handle,
    _lock: FolderLock,
}

impl Builds {
    /// Takes the folder of `settings` for this process and removes what a dead predecessor left there.
    /// `memory` is what a job's limit counts.
    pub(super) fn open(settings: &Settings, memory: Memory) -> Result<Self, WorkerError> {
        let path = settings.build_dir();
        let fail = |source| WorkerError::Folder { path: path.clone(), source };
        fs::create_dir_all(&path).map_err(fail)?;
        let lock = File::create(path.join("lock")).map_err(fail)?;
        let lock = FolderLock::take(lock).map_err(fail)?;
        let lock = lock.ok_or_else(|| WorkerError::FolderInUse(path.clone()))?;
        for left in fs::read_dir(&path).map_err(fail)? {
            let left = left.map_err(fail)?;
            if left.file_type().map_err(fail)?.is_dir() {
                remove(&left.path()).map_err(fail)?;
            }
        }
        Ok(Self {
            path,
            attempts: AtomicU64::new(0),
            folders: TaskTracker::new(),
            idle: Idle::default(),
            scratch: Scratch::open(settings, memory),
            runtime: Handle::current(),
            _lock: lock,
        })
    }

    /// A folder for one attempt at `job`, with a root that `user` used if there is one.
    pub(super) fn create(
        self: &Arc<Self>,
        job: JobId,
        user: User,
        writes: Writes,
    ) -> io::Result<JobFolder> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let name = format!("{job}-{attempt}");
        let scratch = self.scratch.as_ref().filter(|_| writes == Writes::InMemory);
        let in_memory = scratch.and_then(|scratch| scratch.folder(&name));
        let path = self.path.join(name);
        if in_memory.is_none() {
            make_private(&path)?;
        }
        let mut folder = JobFolder {
            path,
            in_memory,
            root: Root::default(),
            ended: AtomicBool::new(false),
            builds: self.clone(),
            live: Some(self.folders.token()),
        };
        folder.root = match self.idle.take(&user) {
            Some(root) => root,
            None => Root::make(self.path.join(format!("root-{attempt}")), user)?,
        };
        Ok(folder)
    }

    /// Waits until no job's folder exists, and removes what was kept for others.
    pub(super) async fn removed(self: &Arc<Self>) {
        self.folders.close();
        self.folders.wait().await;
        self.folders.reopen();
        let builds = self.clone();
        let work = move || builds.idle.take_all().iter().for_each(|root| discard(root.home()));
        if let Err(error) = self.runtime.spawn_blocking(work).await {
            tracing::error!(%error, "roots were not removed");
        }
    }
}

/// Where a compile would best write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// Where that is possible: what it writes is small and soon gone.
    InMemory,
    OnDisk,
}

/// The folder of one attempt; dropping it removes it in the background.
#[derive(Debug)]
pub(super) struct JobFolder {
    /// On disk; there if anything of the job is.
    path: PathBuf,
    /// Holds the writable folders if `path` does not.
    in_memory: Option<PathBuf>,
    root: Root,
    ended: AtomicBool,
    builds: Arc<Builds>,
    live: Option<TaskTrackerToken>,
}

impl Drop for JobFolder {
    fn drop(&mut self) {
        let (path, live) = (std::mem::take(&mut self.path), self.live.take());
        let in_memory = self.in_memory.take();
        let (root, builds) = (std::mem::take(&mut self.root), self.builds.clone());
        let ended = *self.ended.get_mut();
        let work = move || {
            let _live = live;
            in_memory.iter().chain([&path]).for_each(|path| discard(path));
            let surplus = if ended { builds.idle.keep(root) } else { Some(root) };
            if let Some(root) = surplus {
                discard(root.home());
            }
        };
        self.builds.runtime.spawn_blocking(work);
    }
}

impl JobFolder {
    /// Where `place` lies on this machine.
    pub(super) fn place(&self, place: Place) -> PathBuf {
        match place {
            Place::Root => self.root.path().to_owned(),
            Place::Writable(number) => {
                self.in_memory.as_ref().unwrap_or(&self.path).join(number.to_string())
            }
            Place::Aside => self.path.join("aside"),
        }
    }

    /// Tells that the sandbox ended by itself: nothing uses the root any more.
    pub(super) fn ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Makes everything but the files.
    pub(super) fn make(&mut self, layout: &Layout) -> io::Result<()> {
        self.root.fit(layout)?;
        for number in 0..layout.writable.len() {
            make_folder(&self.place(Place::Writable(number)))?;
        }
        let own = |place: &Place| *place != Place::Root;
        for (place, path) in layout.folders.iter().filter(|(place, _)| own(place)) {
            make_folder(&self.place(*place).join(path))?;
        }
        for link in layout.links.iter().filter(|link| own(&link.place)) {
            std::os::unix::fs::symlink(&link.target, self.place(link.place).join(&link.path))?;
        }
        if !layout.points.is_empty() {
            if self.in_memory.is_some() {
                make_private(&self.path)?;
            }
            make_folder(&self.place(Place::Aside))?;
        }
        for (place, name) in &layout.points {
            File::create_new(self.place(*place).join(name))?;
        }
        Ok(())
    }

    /// Puts `files` into their places; gives back those that the caches lack.
    pub(super) fn put<'f>(
        &mut self,
        files: impl Iterator<Item = &'f layout::File>,
        caches: &Caches,
    ) -> Result<Vec<&'f layout::File>, DiskError> {
        let mut absent = Vec::new();
        for file in files {
            let done = match file.place {
                Place::Root => self.root.put(file, caches),
                Place::Writable(_) | Place::Aside => {
                    caches.put(file, &self.place(file.place).join(&file.path))
                }
            };
            match done {
                Ok(()) => {}
                Err(DiskError::Missing(_)) => absent.push(file),
                Err(error) => return Err(error),
            }
        }
        Ok(absent)
    }

    /// Bytes that the compile has written so far, deleted or not, and those of its inputs' copies.
    pub(super) fn bytes_written(&self, layout: &Layout) -> u64 {
        (0..layout.writable.len())
            .map(|number| bytes_in(&self.place(Place::Writable(number))))
            .fold(sandbox::held::bytes(self.root.path()), u64::saturating_add)
    }
}

/// What this machine keeps of the store.
#[derive(Clone, Debug)]
pub(super) struct Caches {
    pub(super) toolchains: DiskCache,
    pub(super) inputs: DiskCache,
}

impl Caches {
    /// The cache for blobs of `class`.
    pub(super) fn of(&self, class: BlobClass) -> &DiskCache {
        match class {
            BlobClass::Toolchain => &self.toolchains,
            BlobClass::Input | BlobClass::Output => &self.inputs,
        }
    }

    /// Puts `file` to `target`, which is its place.
    ///
    /// # Errors
    /// Those of [`DiskCache::link`].
    pub(super) fn put(&self, file: &layout::File, target: &Path) -> Result<(), DiskError> {
        let cache = self.of(file.class);
        match file.way {
            Way::Link => cache.link(file.digest, file.kind(), target),
            Way::Copy => {
                let mode = if file.executable { 0o755 } else { 0o644 };
                cache.copy(file.digest, mode, target)
            }
        }
    }
}

/// Sum over a folder that may change meanwhile; does not follow links.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_in(&entry.path()).saturating_add(ENTRY_BYTES),
        Ok(found) => found.blocks().saturating_mul(512).max(ENTRY_BYTES),
        Err(_) => 0,
    };
    entries.flatten().map(size).fold(0, u64::saturating_add)
}

/// Removes a folder as well as that can be done.
pub(super) fn discard(path: &Path) {
    if let Err(error) = remove(path) {
        tracing::error!(path = %path.display(), %error, "a job's folder cannot be removed");
    }
}

/// Removes a folder; waits for ended processes that still write, opens folders that were closed.
fn remove(path: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if tries == REMOVE_TRIES => return Err(error),
            Err(error) => {
                tries += 1;
                match error.kind() {
                    io::ErrorKind::PermissionDenied => open_folders(path),
                    _ => std::thread::sleep(REMOVE_PAUSE),
                }
            }
            Ok(()) => return Ok(()),
        }
    }
}

/// A compile may leave folders that their owner cannot list.
fn open_folders(folder: &Path) {
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|found| found.is_dir()) {
            open_folders(&entry.path());
        }
    }
}
