//! What several targets need: a folder that is fast.

use std::path::PathBuf;

/// A folder for short-lived files: in memory where the system has one.
pub fn fast_folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}
