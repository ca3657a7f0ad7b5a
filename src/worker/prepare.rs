//! Makes a job's folder ready for its command, and runs the command there.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exec::{Finished, Listener};
use crate::job::wire::Trouble;
use crate::job::{Command, JobId, Kind, Space, Terminal, Tree, WantedOutput};
use crate::store::DiskError;

use super::fetch::{Patience, Source};
use super::folder::{Builds, Caches, JobFolder, Writes};
use super::layout::{self, Layout, Place};
use super::paths::Merged;
use super::roots::User;
use super::sandbox::Sandbox;
use super::sandbox::arguments::{self, Access, Mount};

/// Files may be evicted between fetching and linking; a cache that is far too small always does.
const ROUNDS_MAX: u32 = 5;
/// How often the bytes that a compile has written are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// What is needed to run any command of one space.
#[derive(Clone, Debug)]
pub(super) struct Runner {
    pub(super) sandbox: Sandbox,
    pub(super) builds: Arc<Builds>,
    pub(super) source: Source,
}

/// A command and the trees it runs over.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) job: JobId,
    /// What the command starts.
    pub(super) kind: Kind,
    pub(super) toolchain: Arc<Tree>,
    pub(super) inputs: Arc<Tree>,
    pub(super) command: Command,
    pub(super) outputs: Vec<WantedOutput>,
}

/// Identity of a file's content and name, to see whether the compile touched it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let found = path.symlink_metadata()?;
        Ok(Self {
            inode: found.ino(),
            mode: found.mode(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// A folder with everything in place.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) folder: JobFolder,
    pub(super) layout: Layout,
    /// Tree files and links in writable folders, by folder number and name.
    pub(super) stamps: HashMap<(usize, OsString), Stamp>,
    /// Time spent on fetching.
    pub(super) fetch_time: Duration,
}

impl Runner {
    /// The same for jobs of `space`.
    pub(super) fn of(&self, space: &Space) -> Result<Self, Trouble> {
        let source = self.source.of(space).map_err(|error| disk_trouble(&error))?;
        Ok(Self { source, ..self.clone() })
    }

    /// Lays out both trees; fetches what the caches turn out to lack.
    pub(super) async fn prepare(
        &self,
        request: Request,
        patience: &mut Patience<'_>,
    ) -> Result<Arc<Prepared>, Trouble> {
        let (builds, source) = (self.builds.clone(), self.source.clone());
        let (mut prepared, mut absent) =
            blocking(move || begin(&builds, &request, &source)).await?;
        let mut rounds = 0;
        while !absent.is_empty() {
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(Trouble::Sandbox(
                    "the disk cache is too small for this job".to_owned(),
                ));
            }
            let start = Instant::now();
            let wanted = absent.iter().map(|file| (file.class, file.digest, file.size));
            self.source.files(wanted, patience).await?;
            prepared.fetch_time += start.elapsed();
            let caches = self.source.caches.clone();
            (prepared, absent) = blocking(move || go_on(prepared, &absent, &caches)).await?;
        }
        Ok(Arc::new(prepared))
    }

    /// Runs `command` in `prepared` to its end; a caller that goes away ends it. Its messages go to a
    /// `terminal` or a pipe.
    pub(super) async fn run(
        &self,
        prepared: &Arc<Prepared>,
        command: &Command,
        terminal: Option<Terminal>,
        listener: Option<Listener>,
    ) -> Result<Finished, Trouble> {
        if !self.sandbox.can_start(prepared.layout.start) {
            return Err(Trouble::Refused(format!(
                "`{}` is not what its own name leads to\nhint: bubblewrap 0.9 can do without",
                command.executable
            )));
        }
        let mounts = mounts(prepared);
        let start = prepared.layout.start;
        let arguments = arguments::of(self.sandbox.mode, &mounts, command, start);
        let limit = self.sandbox.output_bytes_max();
        tokio::select! {
            done = self.sandbox.run(arguments, terminal, listener) => {
                let done = done?;
                prepared.folder.ended();
                Ok(done)
            }
            () = exceeds(prepared.clone(), limit) => Err(Trouble::TooMuchOutput(limit)),
        }
    }
}

/// The first go: everything that can be done without the network.
fn begin(
    builds: &Arc<Builds>,
    request: &Request,
    source: &Source,
) -> Result<(Prepared, Vec<layout::File>), Trouble> {
    let merged = Merged::of(&request.toolchain, &request.inputs)?;
    let layout = Layout::of(&merged, &request.command, &request.outputs)?;
    let compiler = &request.command.executable;
    let user = User { space: source.space().clone(), compiler: compiler.clone() };
    let writes = match request.kind {
        Kind::C(_) => Writes::InMemory,
        // Its outputs stay on this disk, and it loads code that lies beside them.
        Kind::Rust(_) => Writes::OnDisk,
    };
    let folder = builds.create(request.job, user, writes);
    let mut folder = folder.map_err(|error| io_trouble(&error))?;
    folder.make(&layout).map_err(|error| io_trouble(&error))?;
    let absent =
        folder.put(layout.files.iter(), &source.caches).map_err(|error| disk_trouble(&error))?;
    let absent: Vec<_> = absent.into_iter().cloned().collect();
    let fetch_time = Duration::ZERO;
    let prepared = Prepared { folder, layout, stamps: HashMap::new(), fetch_time };
    finish(prepared, absent)
}

/// A later go, after the `files` that were absent have been fetched.
fn go_on(
    mut prepared: Prepared,
    files: &[layout::File],
    caches: &Caches,
) -> Result<(Prepared, Vec<layout::File>), Trouble> {
    let absent = prepared.folder.put(files.iter(), caches).map_err(|error| disk_trouble(&error))?;
    let absent = absent.into_iter().cloned().collect();
    finish(prepared, absent)
}

/// Notes what lies in writable folders, once all of it does.
fn finish(
    mut prepared: Prepared,
    absent: Vec<layout::File>,
) -> Result<(Prepared, Vec<layout::File>), Trouble> {
    if absent.is_empty() {
        let files = prepared.layout.files.iter().map(|file| (file.place, &file.path));
        let links = prepared.layout.links.iter().map(|link| (link.place, &link.path));
        let points = prepared.layout.points.iter().map(|(place, name)| (*place, name));
        for (place, name) in files.chain(links).chain(points) {
            if let Place::Writable(number) = place {
                let path = prepared.folder.place(place).join(name);
                let stamp = Stamp::of(&path).map_err(|error| io_trouble(&error))?;
                prepared.stamps.insert((number, name.into()), stamp);
            }
        }
    }
    Ok((prepared, absent))
}

fn mounts(prepared: &Prepared) -> Vec<Mount> {
    let first = Mount {
        source: prepared.folder.place(Place::Root),
        path: "/".to_owned(),
        access: Access::Read,
    };
    let rest = prepared.layout.mounts.iter().map(|mount| {
        let place = prepared.folder.place(mount.place);
        let source = if mount.from.is_empty() { place } else { place.join(&mount.from) };
        let access = match mount.place {
            Place::Root | Place::Aside => Access::Read,
            Place::Writable(_) => Access::Write,
        };
        Mount { source, path: mount.path.clone(), access }
    });
    std::iter::once(first).chain(rest).collect()
}

/// Returns when the compile has written more than `limit` bytes.
async fn exceeds(prepared: Arc<Prepared>, limit: u64) {
    loop {
        tokio::time::sleep(COUNT_EVERY).await;
        let looked = prepared.clone();
        let count = move || Ok(looked.folder.bytes_written(&looked.layout));
        if matches!(blocking(count).await, Ok(bytes) if bytes > limit) {
            return;
        }
    }
}

/// Runs file system work beside the async threads. What it owns is dropped when it is done, also
/// when the caller has gone.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Trouble::Sandbox(error.to_string())),
    }
}

pub(super) fn io_trouble(error: &io::Error) -> Trouble {
    match error.kind() {
        // A path that is too long below the job's folder is the job's fault, not this machine's.
        io::ErrorKind::InvalidFilename => Trouble::Refused(error.to_string()),
        _ => Trouble::Sandbox(error.to_string()),
    }
}

fn disk_trouble(error: &DiskError) -> Trouble {
    Trouble::Sandbox(error.to_string())
}
