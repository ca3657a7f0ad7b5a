//! What sets a wrapper's process apart: user, files, limits. The daemon reads and writes in the
//! wrapper's place, and can do so only when both are the same user and see the same files.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// Whose eyes look at which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    user: u32,
    /// Device and inode of `/`: another one in a chroot or container.
    root: Option<(u64, u64)>,
    /// Inode of the mount namespace; `None` where `/proc` is not mounted.
    mounts: Option<u64>,
}

impl View {
    /// This process's own.
    pub fn own() -> Self {
        let root = fs::metadata("/").ok();
        Self {
            user: rustix::process::geteuid().as_raw(),
            root: root.map(|root| (root.dev(), root.ino())),
            mounts: fs::metadata("/proc/self/ns/mnt").ok().map(|mounts| mounts.ino()),
        }
    }
}

/// A limit on the wrapper's resources that a compile may well meet, as `ulimit` names it: then the
/// local compiler has to meet it.
pub fn tight_limit() -> Option<&'static str> {
    const SECONDS: u64 = 60;
    const FILE_BYTES: u64 = 64 << 20;
    const MEMORY_BYTES: u64 = 1 << 30;
    let limits = [
        ("ulimit -t", Resource::Cpu, SECONDS),
        ("ulimit -f", Resource::Fsize, FILE_BYTES),
        ("ulimit -v", Resource::As, MEMORY_BYTES),
        ("ulimit -d", Resource::Data, MEMORY_BYTES),
    ];
    let meets = |resource, most| getrlimit(resource).current.is_some_and(|limit| limit <= most);
    limits.into_iter().find_map(|(name, resource, most)| meets(resource, most).then_some(name))
}
