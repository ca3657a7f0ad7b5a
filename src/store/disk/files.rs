//! The cache's folder: `blobs/<space>/<hex>`, `blobs/<space>/<hex>.x`, `tmp/` and `lock`.
//!
//! A file is written beside and renamed. Nothing is flushed, because whatever a crash leaves is
//! found: a file whose bytes were not checked since the start, or whose inode, size or modification
//! time changed since, is hashed before it is used.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use tempfile::{NamedTempFile, TempPath};

use crate::job::{Digest, Space};

use super::lru::{Entry, Key, Lru, SpaceNumber, Stamp};
use super::{DiskError, Kind};
use crate::store::{FolderLock, digest_of, is_full};

/// How exactly the order of use survives a restart; a note costs one system call.
const NOTE_EVERY: Duration = Duration::from_secs(3_600);

/// The folder and what is known of it.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    blobs: PathBuf,
    temporary: PathBuf,
    index: Mutex<Lru>,
    spaces: RwLock<Spaces>,
    /// Holds the folder's lock as long as it is open.
    _lock: FolderLock,
}

impl Files {
    pub(super) fn open(root: PathBuf, bytes_max: u64) -> Result<Self, DiskError> {
        let (blobs, temporary) = (root.join("blobs"), root.join("tmp"));
        std::fs::create_dir_all(&blobs).map_err(DiskError::at(&blobs))?;
        let lock = take_lock(&root)?;
        let emptied = match std::fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => std::fs::create_dir(&temporary),
        };
        emptied.map_err(DiskError::at(&temporary))?;
        let (index, spaces) = list(&blobs, bytes_max).map_err(DiskError::at(&blobs))?;
        let (index, spaces) = (Mutex::new(index), RwLock::new(spaces));
        let files = Self { root, blobs, temporary, index, spaces, _lock: lock };
        files.make_room(&mut files.index(), 0);
        Ok(files)
    }

    /// The number of `space`, which has a folder then.
    pub(super) fn space(&self, space: &Space) -> Result<SpaceNumber, DiskError> {
        let known = self.spaces.read().unwrap_or_else(PoisonError::into_inner).number(space);
        if let Some(number) = known {
            return Ok(number);
        }
        let folder = self.blobs.join(space.as_str());
        std::fs::create_dir_all(&folder).map_err(DiskError::at(&folder))?;
        Ok(self.spaces.write().unwrap_or_else(PoisonError::into_inner).add(space, folder))
    }

    pub(super) fn contains(&self, space: SpaceNumber, digest: Digest) -> bool {
        let index = self.index();
        both(space, digest).into_iter().any(|key| index.contains(key))
    }

    /// Whether the blob is here; if so it was used now.
    pub(super) fn is_here(&self, space: SpaceNumber, digest: Digest) -> bool {
        both(space, digest).into_iter().any(|key| self.touch(key).is_some())
    }

    pub(super) fn keep(
        &self,
        space: SpaceNumber,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(), DiskError> {
        let key = Key { space, digest, kind: Kind::Plain };
        self.write(key, bytes.len() as u64, |file| file.write_all(bytes))
    }

    /// Gives the file at `path`, which has other names nowhere, the name of `key`.
    pub(super) fn adopt(&self, key: Key, path: &Path) -> Result<(), DiskError> {
        let at = DiskError::at;
        let found = path.symlink_metadata().map_err(at(path))?;
        if !found.is_file() || found.nlink() != 1 {
            return Err(at(path)(io::ErrorKind::InvalidInput.into()));
        }
        let size = found.size();
        if !self.index().fits(size) {
            return Err(self.full(size));
        }
        let readable = Permissions::from_mode(mode(key.kind));
        std::fs::set_permissions(path, readable).map_err(at(path))?;
        let file = TempPath::try_from_path(path).map_err(at(path))?;
        self.publish(key, size, file, Stamp::of(&found))
    }

    pub(super) fn link(&self, key: Key, target: &Path) -> Result<(), DiskError> {
        let Key { space, digest, kind } = key;
        let entry = match self.touch(key) {
            Some(entry) => entry,
            None => {
                self.derive(key)?;
                self.touch(key).ok_or(DiskError::Missing(digest))?
            }
        };
        let source = self.path(key);
        match std::fs::hard_link(&source, target) {
            Ok(()) => self.check_link(key, entry.checked, target),
            Err(error) => match error.kind() {
                io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks => {
                    self.copy(space, digest, mode(kind), target)
                }
                io::ErrorKind::NotFound if !source.exists() => Err(self.forget(key)),
                // fuse-overlayfs, busy with other links of the file, denies that it is there.
                io::ErrorKind::NotFound => self.copy(space, digest, mode(kind), target),
                _ => Err(DiskError::at(target)(error)),
            },
        }
    }

    pub(super) fn copy(
        &self,
        space: SpaceNumber,
        digest: Digest,
        mode: u32,
        target: &Path,
    ) -> Result<(), DiskError> {
        let mut source = self.open_any(space, digest)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(target)
            .map_err(DiskError::at(target))?;
        // On file systems that can, this shares the blocks.
        io::copy(&mut source, &mut file)
            .and_then(|_| file.set_permissions(Permissions::from_mode(mode)))
            .map_err(|error| {
                let _ = std::fs::remove_file(target);
                DiskError::at(target)(error)
            })
    }

    pub(super) fn read(&self, space: SpaceNumber, digest: Digest) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::new();
        let read = self.open_any(space, digest)?.read_to_end(&mut bytes);
        read.map_err(DiskError::at(&self.blobs))?;
        Ok(bytes)
    }

    pub(super) fn verify(&self, space: SpaceNumber, digest: Digest) -> Result<(), DiskError> {
        let mut sound = Err(DiskError::Missing(digest));
        for key in both(space, digest) {
            if self.index().contains(key) {
                match self.open_checked(key, None) {
                    Err(DiskError::Missing(_)) => {}
                    other => sound = other.map(drop),
                }
            }
        }
        sound
    }

    /// The entry, marked as used now; on disk too, if the last note is old.
    pub(super) fn touch(&self, key: Key) -> Option<Entry> {
        let now = unix_seconds(SystemTime::now());
        let is_old = |entry: &Entry| now.saturating_sub(entry.noted_unix) >= NOTE_EVERY.as_secs();
        let before = {
            let mut index = self.index();
            let entry = index.touch(key)?;
            let before = *entry;
            if is_old(entry) {
                entry.noted_unix = now;
            }
            before
        };
        if is_old(&before) {
            note_use(&self.path(key));
        }
        Some(before)
    }

    /// Takes a damaged link away again.
    fn check_link(&self, key: Key, checked: Option<Stamp>, target: &Path) -> Result<(), DiskError> {
        let found = target.symlink_metadata().map_err(DiskError::at(target))?;
        if checked == Some(Stamp::of(&found)) {
            return Ok(());
        }
        let sound = File::open(target)
            .map_err(DiskError::at(target))
            .and_then(|mut file| self.check(key, &mut file));
        if sound.is_err() {
            let _ = std::fs::remove_file(target);
        }
        sound
    }

    /// Makes the file of one kind from that of the other.
    fn derive(&self, key: Key) -> Result<(), DiskError> {
        let source = self.open_any(key.space, key.digest)?;
        let size = source.metadata().map_err(DiskError::at(&self.blobs))?.size();
        self.write(key, size, |file| {
            let mut source = &source;
            source.rewind()?;
            io::copy(&mut source, file).map(drop)
        })
    }

    fn open_any(&self, space: SpaceNumber, digest: Digest) -> Result<File, DiskError> {
        for key in both(space, digest) {
            if let Some(entry) = self.touch(key) {
                match self.open_checked(key, entry.checked) {
                    Err(DiskError::Missing(_)) => {}
                    other => return other,
                }
            }
        }
        Err(DiskError::Missing(digest))
    }

    /// Opens a file whose bytes are right: as `checked` tells, or hashed now.
    fn open_checked(&self, key: Key, checked: Option<Stamp>) -> Result<File, DiskError> {
        let path = self.path(key);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.forget(key)),
            other => other.map_err(DiskError::at(&path))?,
        };
        let found = file.metadata().map_err(DiskError::at(&path))?;
        if checked != Some(Stamp::of(&found)) {
            self.check(key, &mut file)?;
            file.rewind().map_err(DiskError::at(&path))?;
        }
        Ok(file)
    }

    /// Hashes `file`; remembers that it was sound, or evicts it.
    fn check(&self, key: Key, file: &mut File) -> Result<(), DiskError> {
        let path = self.path(key);
        let stamp = Stamp::of(&file.metadata().map_err(DiskError::at(&path))?);
        let digest = digest_of(file).map_err(DiskError::at(&path))?;
        let mut index = self.index();
        if digest == key.digest {
            if let Some(entry) = index.touch(key) {
                entry.checked = Some(stamp);
            }
            return Ok(());
        }
        tracing::warn!(path = %path.display(), "a file of the disk cache is damaged: evicted");
        index.remove(key);
        let _ = std::fs::remove_file(path);
        Err(DiskError::Missing(key.digest))
    }

    /// Writes a file beside and renames it; makes room and tries once more on a full disk.
    fn write(
        &self,
        key: Key,
        size: u64,
        fill: impl Fn(&mut File) -> io::Result<()>,
    ) -> Result<(), DiskError> {
        if !self.index().fits(size) {
            return Err(self.full(size));
        }
        let written = match self.write_beside(key.kind, &fill) {
            Err(error) if is_full(&error) => {
                self.give_back(size);
                self.write_beside(key.kind, &fill)
            }
            other => other,
        };
        match written {
            Ok((file, stamp)) => self.publish(key, size, file, stamp),
            Err(error) if is_full(&error) => Err(self.full(size)),
            Err(error) => Err(DiskError::at(&self.temporary)(error)),
        }
    }

    fn full(&self, size: u64) -> DiskError {
        DiskError::Full { root: self.root.clone(), size }
    }

    fn write_beside(
        &self,
        kind: Kind,
        fill: impl Fn(&mut File) -> io::Result<()>,
    ) -> io::Result<(TempPath, Stamp)> {
        let mut file = NamedTempFile::new_in(&self.temporary)?;
        fill(file.as_file_mut())?;
        file.as_file().set_permissions(Permissions::from_mode(mode(kind)))?;
        let stamp = Stamp::of(&file.as_file().metadata()?);
        Ok((file.into_temp_path(), stamp))
    }

    /// Gives a complete file its name. Under the lock: else the name could be evicted between.
    fn publish(&self, key: Key, size: u64, file: TempPath, stamp: Stamp) -> Result<(), DiskError> {
        let path = self.path(key);
        let noted_unix = unix_seconds(SystemTime::now());
        let mut index = self.index();
        file.persist(&path).map_err(|error| DiskError::at(&path)(error.error))?;
        index.insert(key, Entry { size, checked: Some(stamp), noted_unix });
        self.make_room(&mut index, 0);
        Ok(())
    }

    /// Evicts `size` bytes although the limit allows them: the disk does not.
    fn give_back(&self, size: u64) {
        let mut index = self.index();
        let target = index.bytes_free().saturating_add(size);
        self.make_room(&mut index, target);
    }

    /// Evicts until `more` bytes can be added. Who has a link to a file keeps it.
    fn make_room(&self, index: &mut Lru, more: u64) {
        while let Some(key) = index.evict(more) {
            let _ = std::fs::remove_file(self.path(key));
        }
    }

    /// Drops what is not on disk any more.
    fn forget(&self, key: Key) -> DiskError {
        self.index().remove(key);
        DiskError::Missing(key.digest)
    }

    fn path(&self, key: Key) -> PathBuf {
        let name = key.digest.to_string();
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        spaces.folder(key.space).join(match key.kind {
            Kind::Plain => name,
            Kind::Executable => name + EXECUTABLE,
        })
    }

    fn index(&self) -> MutexGuard<'_, Lru> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const EXECUTABLE: &str = ".x";

/// The files that a blob can have, the one that compilers are made of first.
fn both(space: SpaceNumber, digest: Digest) -> [Key; 2] {
    [Kind::Executable, Kind::Plain].map(|kind| Key { space, digest, kind })
}

const fn mode(kind: Kind) -> u32 {
    match kind {
        Kind::Plain => 0o444,
        Kind::Executable => 0o555,
    }
}

fn take_lock(root: &Path) -> Result<FolderLock, DiskError> {
    let path = root.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(DiskError::at(&path))?;
    let lock = FolderLock::take(lock).map_err(DiskError::at(&path))?;
    lock.ok_or_else(|| DiskError::Locked(root.to_owned()))
}

/// The spaces that have a folder.
#[derive(Debug, Default)]
struct Spaces {
    numbers: HashMap<Space, SpaceNumber>,
    folders: Vec<PathBuf>,
}

impl Spaces {
    fn number(&self, space: &Space) -> Option<SpaceNumber> {
        self.numbers.get(space).copied()
    }

    fn add(&mut self, space: &Space, folder: PathBuf) -> SpaceNumber {
        *self.numbers.entry(space.clone()).or_insert_with(|| {
            self.folders.push(folder);
            SpaceNumber(self.folders.len() - 1)
        })
    }

    fn folder(&self, number: SpaceNumber) -> &Path {
        &self.folders[number.0]
    }
}

/// Reads the folders of all spaces, oldest use first; what has no name of ours is left alone.
fn list(blobs: &Path, bytes_max: u64) -> io::Result<(Lru, Spaces)> {
    let (mut found, mut spaces) = (Vec::new(), Spaces::default());
    for folder in std::fs::read_dir(blobs)? {
        let folder = folder?;
        let name = folder.file_name().to_str().and_then(|name| name.parse::<Space>().ok());
        let Some(space) = name.filter(|_| folder.file_type().is_ok_and(|found| found.is_dir()))
        else {
            continue;
        };
        let number = spaces.add(&space, folder.path());
        for file in std::fs::read_dir(folder.path())? {
            let file = file?;
            let Some((digest, kind)) = file.file_name().to_str().and_then(parse_name) else {
                continue;
            };
            let status = file.metadata()?;
            let noted_unix = u64::try_from(status.atime().max(status.mtime())).unwrap_or(0);
            let entry = Entry { size: status.size(), checked: None, noted_unix };
            found.push((noted_unix, Key { space: number, digest, kind }, entry));
        }
    }
    found.sort_unstable_by_key(|(noted_unix, key, _)| (*noted_unix, *key));
    let mut index = Lru::new(bytes_max);
    for (_, key, entry) in found {
        index.insert(key, entry);
    }
    Ok((index, spaces))
}

fn parse_name(name: &str) -> Option<(Digest, Kind)> {
    let (hex, kind) = match name.strip_suffix(EXECUTABLE) {
        Some(hex) => (hex, Kind::Executable),
        None => (name, Kind::Plain),
    };
    Some((hex.parse().ok()?, kind))
}

/// Sets the time of last access: only the order after a restart depends on it.
fn note_use(path: &Path) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    let _ = rustix::fs::utimensat(CWD, path, &times, AtFlags::empty());
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
