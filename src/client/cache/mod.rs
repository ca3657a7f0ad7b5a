//! Results on this machine's disk: a compile whose result is here starts no process and asks no
//! network.
//!
//! Called by `client/compile.rs`. Promises: what is given out is what was kept, byte for byte, or
//! nothing; trouble with the disk costs the cache and never the build; several daemons use one
//! folder at once; files of users who are not trusted are never read.
//!
//! Reading order: this file, `folder` (whose files are believed), `record` (what a result looks like
//! on disk), `room` (how the folder stays within its size), `keys` and `base` (whose results are the
//! same).

mod base;
mod folder;
mod keys;
mod record;
mod room;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use self::folder::{Folder, Name, Stamp};
pub use self::keys::Keys;
use self::record::{Output, Place, RECORD_BYTES_MAX, Record};
use self::room::Room;
pub use self::room::{Counters, Size};
use super::outputs::{Body, Product};
use crate::job::{ActionKey, Digest};
use crate::store::{digest_of, is_full};

/// Largest content, in bytes, that lies in the record itself, so that a small result is one file.
const INSIDE_BYTES_MAX: usize = 64 << 10;
/// Most bytes of all contents in one record.
const INSIDE_TOTAL_MAX: usize = 256 << 10;
/// Files whose bytes are known to be right, by stamp; then everything is looked at again.
const CHECKED_MAX: usize = 200_000;

/// Who ran a compile that ran here; no worker has such a name.
pub const THIS_MACHINE: &str = "this machine";

/// A result as it is kept: that of a successful compile.
#[derive(Debug)]
pub struct Kept {
    /// What the compiler wrote to its standard output.
    pub stdout: Bytes,
    /// What it wrote to its standard error.
    pub stderr: Bytes,
    /// The files that it wrote.
    pub outputs: Vec<Product>,
    /// Who ran it: a worker, or [`THIS_MACHINE`].
    pub worker: String,
}

/// How the cache is.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What was counted.
    pub counters: Counters,
    /// How much is kept; `None` when nothing ever is.
    pub size: Option<Size>,
}

/// The results of earlier compiles.
#[derive(Debug)]
pub struct Results {
    /// `None`: nothing is kept on this machine.
    folder: Option<Folder>,
    room: Room,
    checked: Mutex<HashSet<Stamp>>,
}

impl Results {
    /// The results below `cache_dir`, at most `bytes_max` bytes of them; none are kept when that is
    /// 0 or the folder cannot be used.
    pub fn open(cache_dir: &Path, bytes_max: u64) -> Self {
        let folder = match bytes_max {
            0 => None,
            _ => match Folder::open(cache_dir) {
                Ok(folder) => Some(folder),
                Err(error) => {
                    tracing::warn!(folder = %cache_dir.display(), %error, "no results are kept here");
                    None
                }
            },
        };
        Self { folder, room: Room::new(bytes_max), checked: Mutex::default() }
    }

    /// Whether there is anything at all; cheap, to be asked before any work is done for a look-up.
    pub fn may_know(&self) -> bool {
        self.folder.as_ref().is_some_and(Folder::is_used)
    }

    /// Whether a result would be kept now.
    pub fn may_keep(&self) -> bool {
        self.ready_folder().is_some()
    }

    /// The result of the action `key`, if it is here and whole.
    pub fn find(&self, key: &ActionKey) -> Option<Kept> {
        let folder = self.folder.as_ref()?;
        let name = Name::record(key);
        match self.read(folder, key, &name) {
            Ok(kept) => kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::debug!(%key, %error, "a result could not be read");
                self.room.count(|counters| counters.read_errors += 1);
                None
            }
        }
    }

    /// Keeps the result of the action `key`, its files under other `names`. A disk that does not take it
    /// is left alone for a while.
    pub fn keep(&self, key: &ActionKey, kept: &Kept, names: impl Fn(&str) -> String) {
        self.put(kept.size(), |folder| self.write(folder, key, kept, &names));
    }

    /// Keeps a content, known by its `digest`, for a result that is not there yet; trouble costs nothing.
    pub fn keep_content(&self, digest: &Digest, body: &Body) {
        let size = body.size();
        if size > INSIDE_BYTES_MAX as u64 {
            self.put(size, |folder| self.write_file(folder, &Name::blob(digest), body));
        }
    }

    /// The content of that `digest`, if it lies here.
    pub fn content(&self, digest: Digest) -> Option<File> {
        self.open_blob(self.folder.as_ref()?, digest).ok().flatten()
    }

    /// Whether [`Results::tidy`] has something to do.
    pub fn is_untidy(&self) -> bool {
        self.folder.is_some() && self.room.is_due()
    }

    /// Counts what is there, and makes room: the longest unused goes first.
    pub fn tidy(&self) {
        if let Some(folder) = &self.folder {
            self.room.tidy(folder);
        }
    }

    /// What was counted, and how much is here, counted now.
    pub fn state(&self) -> State {
        self.tidy();
        let size = self.folder.as_ref().map(|folder| self.room.size(folder));
        State { counters: self.room.counters(), size }
    }

    /// Counters back to zero.
    pub fn zero(&self) {
        self.room.count(|counters| *counters = Counters::default());
    }

    /// The folder, unless its disk is left alone.
    fn ready_folder(&self) -> Option<&Folder> {
        self.folder.as_ref().filter(|_| !self.room.rests())
    }

    /// Has `write` add about `size` bytes and say how many; on a full disk once more after others went.
    fn put(&self, size: u64, write: impl Fn(&Folder) -> io::Result<u64>) {
        let Some(folder) = self.ready_folder() else { return };
        let written = match write(folder) {
            Err(error) if is_full(&error) && self.room.give_back(folder, size) => write(folder),
            written => written,
        };
        match written {
            Ok(bytes) => self.room.added(bytes),
            Err(error) => self.room.note_trouble(&error),
        }
    }

    fn read(&self, folder: &Folder, key: &ActionKey, name: &Name) -> io::Result<Option<Kept>> {
        let (mut file, stamp) = folder.read(name)?;
        let length = usize::try_from(stamp.size).ok().filter(|size| *size <= RECORD_BYTES_MAX);
        let Some(length) = length else { return Ok(self.damaged(folder, name)) };
        let mut bytes = Vec::with_capacity(length + 1);
        file.read_to_end(&mut bytes)?;
        let is_checked = self.is_checked(&stamp);
        let Some(record) = record::decode(bytes.into(), key, is_checked) else {
            return Ok(self.damaged(folder, name));
        };
        if !is_checked {
            self.remember(stamp);
        }
        let mut outputs = Vec::with_capacity(record.outputs.len());
        for output in record.outputs {
            let body = match output.place {
                Place::Inside(bytes) => Body::Bytes(bytes),
                Place::Beside(digest) => match self.open_blob(folder, digest)? {
                    Some(file) => Body::File(file),
                    None => return Ok(None),
                },
            };
            let Output { path, mode, .. } = output;
            outputs.push(Product { path, mode, digest: None, body });
        }
        let Record { stdout, stderr, worker, .. } = record;
        Ok(Some(Kept { stdout, stderr, outputs, worker }))
    }

    /// The file of a content, whose bytes are right: as its stamp tells, or hashed now.
    fn open_blob(&self, folder: &Folder, digest: Digest) -> io::Result<Option<File>> {
        let name = Name::blob(&digest);
        let (mut file, stamp) = folder.read(&name)?;
        if !self.is_checked(&stamp) {
            if digest_of(&mut file)? != digest {
                return Ok(self.damaged(folder, &name));
            }
            io::Seek::rewind(&mut file)?;
            self.remember(stamp);
        }
        Ok(Some(file))
    }

    fn damaged<T>(&self, folder: &Folder, name: &Name) -> Option<T> {
        tracing::warn!(%name, "a kept result is damaged: removed");
        self.room.count(|counters| counters.damaged += 1);
        folder.remove(name);
        None
    }

    /// Contents first, then the record that names them; gives the bytes that were added.
    fn write(
        &self,
        folder: &Folder,
        key: &ActionKey,
        kept: &Kept,
        names: &impl Fn(&str) -> String,
    ) -> io::Result<u64> {
        let mut inside = kept.stdout.len() + kept.stderr.len();
        let mut added = 0;
        let mut outputs = Vec::with_capacity(kept.outputs.len());
        for file in &kept.outputs {
            let place = match &file.body {
                Body::Bytes(bytes)
                    if bytes.len() <= INSIDE_BYTES_MAX
                        && inside + bytes.len() <= INSIDE_TOTAL_MAX =>
                {
                    inside += bytes.len();
                    Place::Inside(bytes.clone())
                }
                body => {
                    let digest = file.digest.map_or_else(|| body.digest(), Ok)?;
                    added += self.write_file(folder, &Name::blob(&digest), body)?;
                    Place::Beside(digest)
                }
            };
            outputs.push(Output { path: names(&file.path), mode: file.mode, place });
        }
        let record = Record {
            key: *key,
            stdout: kept.stdout.clone(),
            stderr: kept.stderr.clone(),
            outputs,
            worker: kept.worker.clone(),
        };
        let Some(bytes) = record::encode(&record) else { return Ok(added) };
        Ok(added + self.write_file(folder, &Name::record(key), &Body::Bytes(bytes.into()))?)
    }

    fn write_file(&self, folder: &Folder, name: &Name, body: &Body) -> io::Result<u64> {
        let size = body.size();
        if folder.holds(name, size) && matches!(name, Name::Blob(_)) {
            return Ok(0);
        }
        let stamp = folder.write(name, |file| body.write_into(file))?;
        self.remember(stamp);
        Ok(size)
    }

    fn is_checked(&self, stamp: &Stamp) -> bool {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).contains(stamp)
    }

    fn remember(&self, stamp: Stamp) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CHECKED_MAX {
            checked.clear();
        }
        checked.insert(stamp);
    }
}

impl Kept {
    /// Bytes of everything.
    pub fn size(&self) -> u64 {
        let streams = self.stdout.len() + self.stderr.len();
        self.outputs.iter().map(|file| file.body.size()).sum::<u64>() + streams as u64
    }
}

#[cfg(test)]
mod tests;
