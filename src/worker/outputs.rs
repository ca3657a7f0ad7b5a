//! What a compile left behind: wanted files, and files that nobody asked for.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::exec::Finished;
use crate::job::outcome::is_artifact;
use crate::job::wire::{BlobClass, Trouble};
use crate::job::{Content, Digest, Outcome, Output, TreePath};

use super::fetch::Source;
use super::layout::{Place, Target};
use super::parts::{self, Body, Part, Travel, contents};
use super::prepare::{Prepared, Stamp, blocking, io_trouble};
use super::sandbox;

/// Most unexpected files that are named: one is enough to compile locally.
const UNEXPECTED_MAX: usize = 16;

/// Largest output that is sent before the compile has ended, in bytes.
const EARLY_BYTES_MAX: u64 = 256 << 20;

/// Everything that a command left.
pub(super) struct Gathered {
    pub(super) files: Vec<Gift>,
    pub(super) unexpected: Vec<TreePath>,
}

/// One wanted file.
pub(super) struct Gift {
    pub(super) path: String,
    pub(super) required: bool,
    /// Its mode and content.
    pub(super) found: Option<(u32, Body)>,
    /// Where it lies on this machine.
    source: PathBuf,
}

/// Reads or opens the wanted files, at most `bytes_max` bytes of all, and looks for others.
pub(super) fn gather(prepared: &Prepared, bytes_max: u64) -> Result<Gathered, Trouble> {
    let mut left = bytes_max;
    let mut files = Vec::with_capacity(prepared.layout.targets.len());
    for target in &prepared.layout.targets {
        let found = match read_output(prepared, target, left) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(Trouble::TooMuchOutput(bytes_max));
            }
            Err(error) => return Err(io_trouble(&error)),
        };
        left -= found.as_ref().map_or(0, |(_, body)| body.size());
        let (path, required) = (target.wanted.path.clone(), target.wanted.required);
        let source = place(prepared, target);
        files.push(Gift { path, required, found, source });
    }
    let mut unexpected = Unexpected { prepared, found: Vec::new() };
    for number in 0..prepared.layout.writable.len() {
        if !prepared.layout.is_temporary(number) {
            unexpected.look_in(number).map_err(|error| io_trouble(&error))?;
        }
    }
    Ok(Gathered { files, unexpected: unexpected.found })
}

/// Where a wanted file lies on this machine.
fn place(prepared: &Prepared, target: &Target) -> PathBuf {
    prepared.folder.place(Place::Writable(target.folder)).join(&target.name)
}

/// Mode and content of a wanted file; `None` when there is no such regular file.
fn read_output(
    prepared: &Prepared,
    target: &Target,
    bytes_max: u64,
) -> io::Result<Option<(u32, Body)>> {
    match open_output(prepared, target) {
        Ok(file) => found_in(file, bytes_max, Body::of),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
        Err(Errno::ACCESS) => read_closed(prepared, target, bytes_max),
        Err(error) => Err(error.into()),
    }
}

/// Mode and bytes of a wanted file while the compile goes on.
pub(super) fn read_open(prepared: &Prepared, target: &Target) -> io::Result<Option<(u32, Bytes)>> {
    found_in(open_output(prepared, target)?, EARLY_BYTES_MAX, parts::read)
}

fn open_output(prepared: &Prepared, target: &Target) -> Result<fs::File, Errno> {
    let folder = fs::File::open(prepared.folder.place(Place::Writable(target.folder)))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    // Neither a link nor a pipe without a writer may lead or hold us anywhere.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(&folder, &target.name, flags, Mode::empty()).map(fs::File::from)
}

/// Mode of `file`, and what `take` makes of it and its size; `None` when it is no regular file.
fn found_in<T>(
    file: fs::File,
    bytes_max: u64,
    take: impl FnOnce(fs::File, u64) -> io::Result<T>,
) -> io::Result<Option<(u32, T)>> {
    let found = file.metadata()?;
    if !found.is_file() {
        return Ok(None);
    }
    if found.size() > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some((found.mode() & 0o7777, take(file, found.size())?)))
}

/// A file that its owner may not read, such as one written under a strange mask.
fn read_closed(
    prepared: &Prepared,
    target: &Target,
    bytes_max: u64,
) -> io::Result<Option<(u32, Body)>> {
    let path = place(prepared, target);
    let found = path.symlink_metadata()?;
    if !found.is_file() || found.mode() & 0o400 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // The sandbox is gone: nobody can put a link here between the two calls.
    fs::set_permissions(&path, fs::Permissions::from_mode(found.mode() | 0o400))?;
    let read = read_output(prepared, target, bytes_max)?;
    Ok(read.map(|(_, body)| (found.mode() & 0o7777, body)))
}

/// Collects what was neither there before nor wanted.
struct Unexpected<'a> {
    prepared: &'a Prepared,
    found: Vec<TreePath>,
}

impl Unexpected<'_> {
    fn look_in(&mut self, number: usize) -> io::Result<()> {
        let prepared = self.prepared;
        let place = prepared.folder.place(Place::Writable(number));
        let path = prepared.layout.writable[number].clone();
        let targets = prepared.layout.targets.iter().filter(|target| target.folder == number);
        let targets: HashSet<&OsStr> = targets.map(|target| OsStr::new(&target.name)).collect();
        let folders = prepared.layout.folders.iter();
        let folders: HashSet<&OsStr> = folders
            .filter(|(place, _)| *place == Place::Writable(number))
            .map(|(_, name)| OsStr::new(name))
            .collect();
        let mut seen = 0;
        for entry in fs::read_dir(&place)? {
            let entry = entry?;
            let name = entry.file_name();
            let kind = entry.file_type()?;
            let fine = match prepared.stamps.get(&(number, name.clone())) {
                Some(stamp) if Stamp::of(&entry.path())? == *stamp => {
                    seen += 1;
                    true
                }
                Some(_) => {
                    seen += 1;
                    kind.is_file() && targets.contains(name.as_os_str())
                }
                None if kind.is_dir() => folders.contains(name.as_os_str()),
                None => kind.is_file() && targets.contains(name.as_os_str()),
            };
            if !fine {
                self.add(&path, &entry);
            }
        }
        if prepared.stamps.keys().filter(|(folder, _)| *folder == number).count() > seen {
            self.push(&path, &OsString::from("(removed)"));
        }
        Ok(())
    }

    /// Names `entry`, and all that lies below it.
    fn add(&mut self, folder: &str, entry: &DirEntry) {
        let name = entry.file_name();
        self.push(folder, &name);
        if self.found.len() >= UNEXPECTED_MAX
            || !entry.file_type().is_ok_and(|found| found.is_dir())
        {
            return;
        }
        let path = format!("{folder}/{}", name.to_string_lossy());
        for below in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            self.add(&path, &below);
        }
    }

    fn push(&mut self, folder: &str, name: &OsStr) {
        let whole = Path::new(folder).join(name).to_string_lossy().into_owned();
        let named = TreePath::try_from(whole).or_else(|_| TreePath::try_from(folder));
        if self.found.len() < UNEXPECTED_MAX
            && let Ok(path) = named
        {
            self.found.push(path);
        }
    }
}

/// Everything that a command left in `prepared`: compressed, and in the store where it is too large for
/// the result, before the result exists. What is there since the compiler announced it is `early`.
pub(super) async fn store(
    source: &Source,
    inline_bytes_max: u64,
    prepared: Arc<Prepared>,
    (finished, early): (Finished, Option<Content>),
    gathered: Gathered,
) -> Result<Outcome, Trouble> {
    let exit = sandbox::exit_of(finished.status);
    let keeps = exit.is_success() && gathered.files.iter().any(|file| is_artifact(&file.path));
    // What nobody needs any more is removed meanwhile.
    let prepared = keeps.then_some(prepared);
    let mut heads = Vec::new();
    let mut wishes = vec![Travel::Inline; 2];
    let streams = [finished.stdout, finished.stderr];
    let mut bodies: Vec<Body> = streams.map(|words| Body::Bytes(words.into())).into();
    for file in gathered.files {
        match file.found {
            Some((mode, body)) => {
                wishes.push(Travel::of(&file.path));
                heads.push((file.path, mode, file.source));
                bodies.push(body);
            }
            None if file.required && exit.is_success() && gathered.unexpected.is_empty() => {
                let text = format!("the compiler succeeded without writing `{}`", file.path);
                return Err(Trouble::Refused(text));
            }
            None => {}
        }
    }
    let parts = bodies.into_iter().zip(wishes).map(|(body, travel)| Part::of(body, travel, &early));
    let parts = try_join_all(parts).await?;
    let mut contents = contents(&source.blobs, inline_bytes_max, parts).await?.into_iter();
    let mut next = || contents.next().ok_or_else(|| Trouble::Sandbox("lost a part".to_owned()));
    let (stdout, stderr) = (next()?, next()?);
    let (mut outputs, mut artifacts) = (Vec::with_capacity(heads.len()), Vec::new());
    for (path, mode, file) in heads {
        let content = next()?;
        if is_artifact(&path) {
            artifacts.push((content.digest(), file));
        }
        outputs.push(Output { path, mode, content });
    }
    if let Some(prepared) = prepared {
        keep(source, prepared, artifacts).await;
    }
    Ok(Outcome { exit, stdout, stderr, outputs, unexpected: gathered.unexpected })
}

/// Keeps what other compiles read for those that come to this machine.
async fn keep(source: &Source, prepared: Arc<Prepared>, artifacts: Vec<(Digest, PathBuf)>) {
    let cache = source.caches.of(BlobClass::Output).clone();
    let adopting = move || {
        // The sandbox is gone, and the folder is ours until `prepared` is dropped.
        let _prepared = prepared;
        for (digest, file) in artifacts {
            if let Err(error) = cache.adopt(digest, &file) {
                tracing::debug!(%digest, %error, "an output is not kept here");
            }
        }
        Ok(())
    };
    // They are in the store: what is not kept is fetched.
    let _ = blocking(adopting).await;
}
