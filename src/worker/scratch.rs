//! A folder in memory for what C and C++ compiles write. Each makes half a dozen files that live for
//! some milliseconds; a file system on disk does a lot to make that last, and ext4 looks longer for a
//! free inode the more were just deleted.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{statfs, statvfs};
use tempfile::TempDir;

use crate::job::Digest;

use super::sandbox::Memory;
use super::settings::Settings;

/// Where Linux has a file system in memory for everybody.
const SHARED_MEMORY: &str = "/dev/shm";
/// The kernel's name for such a file system.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// A folder in memory of one worker; removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: TempDir,
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
            None if memory == Memory::Job => Path::new(SHARED_MEMORY),
            None => return None,
        };
        let is_in_memory = statfs(above).is_ok_and(|found| found.f_type == TMPFS_MAGIC);
        if settings.scratch_dir.is_none() && !is_in_memory {
            return None;
        }
        match make(above, &settings.build_dir()) {
            Ok(folder) => Some(Self { folder, bytes_min: settings.output_bytes_max }),
            Err(error) => {
                tracing::warn!(folder = %above.display(), %error, "compiles write to disk");
                None
            }
        }
    }

    /// A folder for one job, if there is room for all that it may write.
    pub(super) fn folder(&self, name: &str) -> Option<PathBuf> {
        let found = statvfs(self.folder.path()).ok()?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let path = self.folder.path().join(name);
        (free >= self.bytes_min).then_some(())?;
        fs::DirBuilder::new().mode(0o700).create(&path).ok()?;
        Some(path)
    }
}

/// A new folder below `above` for the worker of `build_dir`, without those that dead predecessors left:
/// whoever calls has locked `build_dir`.
fn make(above: &Path, build_dir: &Path) -> io::Result<TempDir> {
    let build_dir = fs::canonicalize(build_dir)?;
    let digest = Digest::of(build_dir.as_os_str().as_encoded_bytes());
    let prefix = format!("jetcc-{}-", digest.short());
    for left in fs::read_dir(above)?.flatten() {
        if left.file_name().to_string_lossy().starts_with(&prefix) {
            // Another user's is not ours to remove.
            let _ = fs::remove_dir_all(left.path());
        }
    }
    tempfile::Builder::new().prefix(&prefix).tempdir_in(above)
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
        let left = scratch.folder.keep();
        let scratch = Scratch::open(&named, Memory::Process).unwrap();
        assert!(!left.exists());
        // Of another worker.
        let other = tempfile::tempdir().unwrap();
        let other = Scratch::open(&settings(other.path(), named.scratch_dir.clone()), Memory::Job);
        assert_eq!(entries(above.path()), 2);
        drop((scratch, other));
        assert_eq!(entries(above.path()), 0);
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
