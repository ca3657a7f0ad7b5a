//! A disk of a given size that fills up for real, with or without root's rights.
//!
//! A process with its own user and mount namespace mounts a tmpfs and waits; we reach that mount
//! through `/proc/<pid>/root`. It is gone when the process ends, also when the test is killed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

/// A mounted disk; gone when dropped.
pub(crate) struct TinyDisk {
    keeper: Child,
    mountpoint: TempDir,
}

impl TinyDisk {
    /// A new, empty disk of `bytes` bytes.
    #[expect(clippy::disallowed_methods, reason = "the mount outlives the call that makes it")]
    pub(crate) fn new(bytes: u64) -> Self {
        let mountpoint = tempfile::tempdir().unwrap();
        let mut keeper = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-ec"])
            .arg(r#"mount -t tmpfs -o "size=$2" tmpfs "$1"; echo mounted; read -r end || :"#)
            .arg("sh")
            .arg(mountpoint.path())
            .arg(bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n", "a tmpfs in a user namespace could not be mounted");
        Self { keeper, mountpoint }
    }

    /// Its top folder. Do not canonicalise it: the link leads into the other namespace.
    pub(crate) fn path(&self) -> PathBuf {
        let root = Path::new("/proc").join(self.keeper.id().to_string()).join("root");
        root.join(self.mountpoint.path().strip_prefix("/").unwrap())
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        // End of its input ends the keeper, and with it the mount.
        drop(self.keeper.stdin.take());
        self.keeper.wait().unwrap();
    }
}
