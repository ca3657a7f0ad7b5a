//! Machine-wide slots for local compiles: one lock file a slot, in a folder that all users share.
//!
//! A slot is held by whoever has its file open, so a compiler that takes over the descriptor gives
//! it back by ending, however it ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Folder of the lock files; any user may create it and use its files.
const FOLDER: &str = "/tmp/jetcc-slots";
/// Longest wait for slots that others hold: a stopped compiler of theirs must not stop us.
const OTHERS_WAIT_MAX: Duration = Duration::from_secs(20);
/// Wait between two looks when other users hold all slots.
const RETRY: Duration = Duration::from_millis(10);

/// The slots of this machine.
#[derive(Clone, Debug)]
pub struct Slots {
    folder: PathBuf,
    count: usize,
    /// Whoever waits in this process waits here, in order; only the first looks at the files.
    queue: Arc<Semaphore>,
}

/// A slot; free again when it is dropped.
#[derive(Debug)]
pub struct Slot {
    _file: Option<OwnedFd>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// `count` slots, at least one.
    pub fn new(count: usize) -> Self {
        let count = count.max(1);
        Self { folder: FOLDER.into(), count, queue: Arc::new(Semaphore::new(count)) }
    }

    /// Waits for a slot. Where the lock files cannot be used, this process's own limit holds.
    pub async fn acquire(&self) -> Slot {
        // The semaphore is never closed.
        let turn = self.queue.clone().acquire_owned().await.ok();
        let deadline = Instant::now() + OTHERS_WAIT_MAX;
        loop {
            match self.try_lock() {
                Ok(Some(file)) => return Slot { _file: Some(file), _turn: turn },
                Ok(None) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                Ok(None) => {
                    tracing::warn!("others hold all slots of this machine for long");
                    return Slot { _file: None, _turn: turn };
                }
                Err(error) => {
                    tracing::debug!(%error, "slot files are not usable");
                    return Slot { _file: None, _turn: turn };
                }
            }
        }
    }

    /// Waits for a slot, blocking; its descriptor stays open across an exec.
    pub fn acquire_for_exec(&self) -> Slot {
        let deadline = Instant::now() + OTHERS_WAIT_MAX;
        loop {
            match self.try_lock() {
                Ok(Some(file)) => {
                    // Without this flag the slot is free at exec: too early, but harmless.
                    let _ = rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty());
                    return Slot { _file: Some(file), _turn: None };
                }
                Ok(None) if Instant::now() < deadline => std::thread::sleep(RETRY),
                Ok(None) | Err(_) => return Slot { _file: None, _turn: None },
            }
        }
    }

    fn try_lock(&self) -> io::Result<Option<OwnedFd>> {
        for index in 0..self.count {
            let file = OwnedFd::from(self.open(index)?);
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(file)),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Opens a slot's file, creating it and the folder at need. Opening before creating matters:
    /// the kernel refuses to create over another user's file in a shared folder.
    fn open(&self, index: usize) -> io::Result<File> {
        let path = self.folder.join(index.to_string());
        // Anybody may have put anything here: a pipe would hold us until somebody writes.
        let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
        let existing = || OpenOptions::new().read(true).custom_flags(flags).open(&path);
        match existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_shared_folder(&self.folder)?;
                OpenOptions::new().create(true).append(true).mode(0o666).open(&path)?;
                existing()
            }
            opened => opened,
        }
    }
}

fn create_shared_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(folder: &Path, count: usize) -> Slots {
        Slots { folder: folder.into(), ..Slots::new(count) }
    }

    #[tokio::test]
    async fn two_processes_share_the_slots() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (slots(folder.path(), 2), slots(folder.path(), 2));
        let first = one.acquire().await;
        let second = other.acquire().await;
        let third = one.acquire();
        tokio::pin!(third);
        let waits = tokio::time::timeout(Duration::from_millis(40), &mut third).await;
        assert!(waits.is_err(), "a third slot of two was given");
        drop(second);
        third.await;
        drop(first);
    }

    #[test]
    fn a_pipe_or_link_in_the_folder_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let (pipe, fifo) = (folder.path().join("0"), rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        assert!(slots(folder.path(), 1).try_lock().is_ok());
        fs::remove_file(&pipe).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &pipe).unwrap();
        assert!(slots(folder.path(), 1).try_lock().is_err());
    }
}
