//! The folder of the results: `<two hex digits>/<62 more>.r` for records and `.b` for contents,
//! `tmp/` and `lock`.
//!
//! Whoever can write into it decides what others link into their programs. So it is believed only
//! when it belongs to us and to nobody else, or when an administrator has said otherwise by its
//! mode: a folder of root's (or our own) that has the set-group-id bit and is writable for a group of
//! ours. Anything else is passed over for a folder of this user's own beside it.
//!
//! All names are looked up from one open descriptor: what was judged is what is used.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self as sys, AtFlags, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::fs::{UTIME_NOW, UTIME_OMIT};

use crate::job::{ActionKey, Digest};
use crate::store::FolderLock;
use crate::store::stamps::now_ns;

/// How exactly the order of use is known; a note costs one system call.
const NOTE_EVERY_NS: i64 = 3_600 * 1_000_000_000;
/// Rights with which others could put files into a folder.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const SET_GROUP_ID: u32 = 0o2000;

/// A file of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The record of an action.
    Record(Digest),
    /// A content.
    Blob(Digest),
}

impl Name {
    pub(super) fn record(key: &ActionKey) -> Self {
        Self::Record(*key.digest())
    }

    pub(super) fn blob(digest: &Digest) -> Self {
        Self::Blob(*digest)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (digest, end) = match self {
            Self::Record(digest) => (digest, "r"),
            Self::Blob(digest) => (digest, "b"),
        };
        let hex = digest.to_string();
        write!(f, "{}/{}.{end}", &hex[..2], &hex[2..])
    }
}

/// What tells that a file is still the one whose bytes were checked. Not the time of the inode's
/// last change: noting a use changes that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    pub(super) size: u64,
    device: u64,
    inode: u64,
    mtime_ns: i64,
}

impl Stamp {
    pub(super) fn of(found: &Stat) -> Self {
        Self {
            size: u64::try_from(found.st_size).unwrap_or(0),
            device: found.st_dev,
            inode: found.st_ino,
            mtime_ns: nanoseconds(found.st_mtime, found.st_mtime_nsec),
        }
    }
}

/// A folder whose files are believed.
#[derive(Debug)]
pub(super) struct Folder {
    directory: OwnedFd,
    path: PathBuf,
    sharing: Sharing,
    used: AtomicBool,
}

/// Who else uses the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    Nobody,
    Group,
}

impl Sharing {
    fn folder_mode(self) -> Mode {
        Mode::from_raw_mode(match self {
            Self::Nobody => 0o700,
            Self::Group => 0o2770,
        })
    }

    fn file_mode(self) -> Mode {
        Mode::from_raw_mode(match self {
            Self::Nobody => 0o600,
            Self::Group => 0o640,
        })
    }
}

impl Folder {
    /// `results` below `cache_dir` if it can be believed, else `results-<user>`.
    pub(super) fn open(cache_dir: &Path) -> io::Result<Self> {
        let usual = cache_dir.join("results");
        let (path, opened) = match open_trusted(&usual) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let user = rustix::process::geteuid().as_raw();
                let own = cache_dir.join(format!("results-{user}"));
                tracing::info!(folder = %usual.display(), %error, "results are kept beside it");
                let opened = open_trusted(&own)?;
                (own, opened)
            }
            other => (usual, other?),
        };
        let (directory, sharing) = opened;
        let folder = Self { directory, path, sharing, used: AtomicBool::new(false) };
        folder.used.store(!folder.shelves()?.is_empty(), Ordering::Relaxed);
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there ever was anything.
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
            || (self.sharing == Sharing::Group && self.shelves().is_ok_and(|all| !all.is_empty()))
    }

    /// Opens a file for reading; it was used now.
    pub(super) fn read(&self, name: &Name) -> io::Result<(File, Stamp)> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = sys::openat(&self.directory, name.to_string(), flags, Mode::empty())?;
        let found = sys::fstat(&file)?;
        if !sys::FileType::from_raw_mode(found.st_mode).is_file() {
            return Err(io::Error::other("not a plain file"));
        }
        let used_ns = nanoseconds(found.st_atime, found.st_atime_nsec);
        if now_ns().saturating_sub(used_ns) > NOTE_EVERY_NS {
            // Others' files cannot be noted; the system's own notes are good enough for those.
            let _ = sys::futimens(&file, &used_now());
        }
        Ok((file.into(), Stamp::of(&found)))
    }

    /// Whether a file of this size is there; if so it was used now.
    pub(super) fn holds(&self, name: &Name, size: u64) -> bool {
        self.read(name).is_ok_and(|(_, stamp)| stamp.size == size)
    }

    /// Writes a file beside and renames it, so that nobody sees it half written.
    pub(super) fn write(
        &self,
        name: &Name,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<Stamp> {
        let temporary = format!("tmp/{}", random_name()?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let create = || sys::openat(&self.directory, &temporary, flags, self.sharing.file_mode());
        let mut file: File = self.with_folder("tmp", create)?.into();
        let written = fill(&mut file)
            .and_then(|()| Ok(sys::fchmod(&file, self.sharing.file_mode())?))
            .and_then(|()| Ok(sys::fstat(&file)?))
            .and_then(|found| {
                let target = name.to_string();
                let rename =
                    || sys::renameat(&self.directory, &temporary, &self.directory, &target);
                self.with_folder(&target[..2], rename)?;
                Ok(Stamp::of(&found))
            });
        match &written {
            Ok(_) => self.used.store(true, Ordering::Relaxed),
            Err(_) => drop(sys::unlinkat(&self.directory, &temporary, AtFlags::empty())),
        }
        written
    }

    /// Removes a file, if it is there and we may.
    pub(super) fn remove(&self, name: &Name) {
        self.unlink(&name.to_string());
    }

    pub(super) fn unlink(&self, path: &str) -> bool {
        sys::unlinkat(&self.directory, path, AtFlags::empty()).is_ok()
    }

    /// The folders of the files.
    pub(super) fn shelves(&self) -> io::Result<Vec<String>> {
        let names = self.list(".")?;
        Ok(names.into_iter().filter(|name| name.len() == 2).collect())
    }

    /// The names in a folder below.
    pub(super) fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened = sys::openat(&self.directory, folder, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in sys::Dir::read_from(opened)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Size in bytes on disk, and when it was used or written last, Unix time in ns.
    pub(super) fn look(&self, path: &str) -> io::Result<(u64, i64)> {
        let found = sys::statat(&self.directory, path, AtFlags::SYMLINK_NOFOLLOW)?;
        let used = nanoseconds(found.st_atime, found.st_atime_nsec);
        let written = nanoseconds(found.st_mtime, found.st_mtime_nsec);
        let blocks = u64::try_from(found.st_blocks).unwrap_or(0) * 512;
        Ok((blocks.max(u64::try_from(found.st_size).unwrap_or(0)), used.max(written)))
    }

    /// The lock of whoever makes room; `None` when somebody else has it.
    pub(super) fn lock(&self) -> io::Result<Option<FolderLock>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o660);
        let lock = sys::openat(&self.directory, "lock", flags, mode)?;
        // Another user's umask shall not keep the group out.
        let _ = sys::fchmod(&lock, mode);
        FolderLock::take(lock.into())
    }

    /// Tries once more with `folder` made, if it was missing.
    fn with_folder<T>(
        &self,
        folder: &str,
        attempt: impl Fn() -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        match attempt() {
            Err(rustix::io::Errno::NOENT) => {}
            done => return Ok(done?),
        }
        let mode = self.sharing.folder_mode();
        match sys::mkdirat(&self.directory, folder, mode) {
            // The umask plays no part.
            Ok(()) => sys::chmodat(&self.directory, folder, mode, AtFlags::empty())?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(attempt()?)
    }
}

/// Opens the folder, made if it is missing, and judges whose it is.
fn open_trusted(path: &Path) -> io::Result<(OwnedFd, Sharing)> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match sys::mkdir(path, Sharing::Nobody.folder_mode()) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        // A disk that cannot be written may hold what can be read.
        Err(error) if path.is_dir() => tracing::debug!(%error, "folder is not made"),
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = sys::open(path, flags, Mode::empty())?;
    let found = sys::fstat(&directory)?;
    let groups = groups();
    let sharing = judge(found.st_uid, found.st_gid, found.st_mode, own_id(), &groups);
    let sharing = sharing.ok_or_else(|| {
        let (owner, mode) = (found.st_uid, found.st_mode & 0o7777);
        let what = format!("`{}` of user {owner} has mode {mode:04o}", path.display());
        io::Error::new(io::ErrorKind::PermissionDenied, what)
    })?;
    Ok((directory, sharing))
}

fn own_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn groups() -> Vec<u32> {
    let others = rustix::process::getgroups().unwrap_or_default();
    let own = rustix::process::getegid();
    others.into_iter().chain([own]).map(rustix::process::Gid::as_raw).collect()
}

/// Who shares a folder with this owner, group and mode; `None` when it cannot be believed.
fn judge(owner: u32, group: u32, mode: u32, user: u32, groups: &[u32]) -> Option<Sharing> {
    let is_ours = owner == user;
    let is_for_group = mode & GROUP_WRITES != 0;
    if mode & OTHERS_WRITE != 0 || !(is_ours || owner == 0) {
        None
    } else if !is_for_group {
        is_ours.then_some(Sharing::Nobody)
    } else {
        let is_member = is_ours || groups.contains(&group);
        (mode & SET_GROUP_ID != 0 && is_member).then_some(Sharing::Group)
    }
}

fn used_now() -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    }
}

fn random_name() -> io::Result<String> {
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(data_encoding::HEXLOWER.encode(&random))
}

fn nanoseconds(seconds: i64, nanoseconds: u64) -> i64 {
    let rest = i64::try_from(nanoseconds).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_believed_as_far_as_its_mode_says() {
        let (me, root, other) = (1_000, 0, 1_001);
        let groups = [100, 200];
        let judged = |owner, group, mode| judge(owner, group, mode, me, &groups);
        assert_eq!(judged(me, 100, 0o700), Some(Sharing::Nobody));
        assert_eq!(judged(me, 100, 0o755), Some(Sharing::Nobody));
        assert_eq!(judged(root, 200, 0o2770), Some(Sharing::Group));
        assert_eq!(judged(me, 300, 0o2775), Some(Sharing::Group));
        // Writable for a group by accident, for all, of another user, for a group of others.
        assert_eq!(judged(me, 100, 0o775), None);
        assert_eq!(judged(me, 100, 0o2777), None);
        assert_eq!(judged(root, 100, 0o1777), None);
        assert_eq!(judged(other, 100, 0o2770), None);
        assert_eq!(judged(other, 100, 0o755), None);
        assert_eq!(judged(root, 300, 0o2770), None);
        assert_eq!(judged(root, 100, 0o755), None);
    }
}
