//! A folder in memory for what C and C++ compiles write. Each makes half a dozen files that live for
//! some milliseconds; a file system on disk does a lot to make that last, and ext4 looks longer for a
//! free inode the more were just deleted.

use std::fs::{self, DirEntry, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{statfs, statvfs};
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::store::FolderLock;

use super::folder::discard;
use super::roots::make_private;
use super::sandbox::Memory;
use super::settings::Settings;

/// Where Linux has a file system in memory for everybody.
const SHARED_MEMORY: &str = "/dev/shm";
/// The kernel's name for such a file system.
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// Starts the name of each worker's folder.
const NAME: &str = "jetcc-worker-";

/// A folder in memory of one worker; removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: TempDir,
    /// Of the folder: nobody holds that of a worker that was killed.
    _lock: FolderLock,
    /// What must be free for one more compile, in bytes.
    bytes_min: u64,
}

impl Scratch {
    /// The one that `settings` name, or one in shared memory if what lies there counts as the job's
    /// memory. `None` when compiles write to disk.
    pub(super) fn open(settings: &Settings, memory: Memory) -> Option<Self> {
        let above = match &settings.scratch_dir {
            Some(named) if *named == settings.build_dir() => return None,
            Some(named) => named.as_path(),
            None if memory == Memory::Job && is_in_memory(SHARED_MEMORY) => {
                Path::new(SHARED_MEMORY)
            }
            None => return None,
        };
        match Self::make(above, settings.output_bytes_max) {
            Ok(made) => Some(made),
            Err(error) => {
                tracing::warn!(folder = %above.display(), %error, "compiles write to disk");
                None
            }
        }
    }

    /// A new one below `above`; those that killed workers left are removed.
    fn make(above: &Path, bytes_min: u64) -> io::Result<Self> {
        let left = fs::read_dir(above)?.flatten().filter(is_left);
        left.for_each(|left| discard(&left.path()));
        let mut named = tempfile::Builder::new();
        let named = named.prefix(NAME).permissions(Permissions::from_mode(0o700));
        let folder = named.tempdir_in(above)?;
        let lock = FolderLock::take(File::open(folder.path())?)?;
        let lock = lock.ok_or(io::ErrorKind::ResourceBusy)?;
        Ok(Self { folder, _lock: lock, bytes_min })
    }

    /// A folder for one job, if there is room for all that it may write.
    pub(super) fn folder(&self, name: &str) -> Option<PathBuf> {
        let found = statvfs(self.folder.path()).ok()?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let path = self.folder.path().join(name);
        (free >= self.bytes_min && make_private(&path).is_ok()).then_some(path)
    }
}

fn is_in_memory(folder: &str) -> bool {
    statfs(folder).is_ok_and(|found| found.f_type == TMPFS_MAGIC)
}

/// Whether this is the folder of a worker of ours that is gone. One that has just made its own, and has
/// not locked it yet, may lose it: its compiles then write to disk.
fn is_left(entry: &DirEntry) -> bool {
    let is_ours = |entry: &DirEntry| {
        entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw())
    };
    entry.file_name().to_string_lossy().starts_with(NAME)
        && is_ours(entry)
        && File::open(entry.path()).and_then(FolderLock::take).is_ok_and(|lock| lock.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path, scratch_dir: Option<PathBuf>) -> Settings {
        let settings =
            Settings { cache_dir: folder.to_owned(), scratch_dir, ..Settings::default() };
        fs::create_dir_all(settings.build_dir()).unwrap();
        settings
    }

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn it_is_where_the_settings_say_and_leaves_nothing() {
        let [above, folder] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let named = settings(folder.path(), Some(above.path().to_owned()));
        let scratch = Scratch::open(&named, Memory::Process).unwrap();
        assert!(scratch.folder("job").unwrap().is_dir());
        // As after a kill.
        let Scratch { folder: killed, _lock: lock, .. } = scratch;
        drop(lock);
        let left = killed.keep();
        let scratch = Scratch::open(&named, Memory::Process).unwrap();
        assert!(!left.exists());
        // Another worker, and somebody else's file.
        let other = Scratch::open(&named, Memory::Job).unwrap();
        fs::write(above.path().join("jetcc-worker-file"), "").unwrap();
        drop(Scratch::open(&named, Memory::Job));
        assert!(scratch.folder("again").is_some() && other.folder("job").is_some());
        assert_eq!(entries(above.path()), 3);
        drop((scratch, other));
        assert_eq!(entries(above.path()), 1);
    }

    #[test]
    fn compiles_write_to_disk_where_memory_is_not_theirs_or_too_small() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Scratch::open(&settings(folder.path(), None), Memory::Process).is_none());
        let on_disk = settings(folder.path(), Some(folder.path().join("build")));
        assert!(Scratch::open(&on_disk, Memory::Job).is_none());
        let small = settings(folder.path(), Some(folder.path().to_owned()));
        let small = Settings { output_bytes_max: u64::MAX, ..small };
        assert_eq!(Scratch::open(&small, Memory::Job).unwrap().folder("job"), None);
    }
}
