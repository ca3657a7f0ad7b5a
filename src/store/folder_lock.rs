//! What keeps two processes out of one folder.

use std::fs::{File, TryLockError};
use std::io;

/// The lock on an open file; whoever drops it frees it.
///
/// Closing the file would not be enough: a process that is being started has copies of all open
/// files until it is another program, and a copy keeps a lock that was not freed by name.
#[derive(Debug)]
pub(crate) struct FolderLock(File);

impl FolderLock {
    /// Takes the lock of `file`; `None` when somebody else has it.
    ///
    /// # Errors
    /// When the file system cannot lock.
    pub(crate) fn take(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // It goes with the last copy of the file anyway.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_file_does_not_keep_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::create(folder.path().join("lock")).unwrap();
        let file = open();
        let copy = file.try_clone().unwrap();
        let lock = FolderLock::take(file).unwrap().unwrap();
        assert!(FolderLock::take(open()).unwrap().is_none());
        drop(lock);
        assert!(FolderLock::take(open()).unwrap().is_some());
        drop(copy);
    }
}
