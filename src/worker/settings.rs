//! What a worker can be told; every limit has its unit in its name.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Settings of one worker, the `[builder]` part of `worker.toml` included.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Keeps toolchains and inputs between jobs; `/var/cache/jetcc/worker`.
    pub cache_dir: PathBuf,
    /// Most bytes of toolchain files kept on disk; 10 GiB.
    pub toolchain_cache_size: u64,
    /// Most bytes of sources and headers kept on disk; 10 GiB.
    pub blob_cache_size: u64,
    /// Where jobs are laid out, on the file system of `cache_dir` so that files can be hard links;
    /// `build` below `cache_dir`.
    pub build_dir: Option<PathBuf>,
    /// Where C and C++ compiles write: a folder on a file system in memory; `build_dir` for the disk.
    /// Shared memory (`/dev/shm`) where a cgroup counts that as the compile's own, else `build_dir`.
    pub scratch_dir: Option<PathBuf>,
    /// The bubblewrap program; `/usr/bin/bwrap`.
    pub bwrap_path: PathBuf,
    /// Compiles at once on an otherwise idle machine; the CPUs that this process may use.
    pub slots: Option<u32>,
    /// What the work of others on this machine means for `slots`; `follow`.
    pub load: Load,
    /// Memory that must be available for each further compile, in bytes; 512 MiB.
    pub memory_per_job_bytes: u64,
    /// Memory that is left to everybody else, in bytes; 256 MiB.
    pub memory_reserve_bytes: u64,
    /// Longest compile, in seconds; 600.
    pub job_seconds_max: u64,
    /// Most memory of one compile with all its processes, in bytes; 4 GiB. Of each process where
    /// there is no cgroup for it.
    pub job_memory_bytes_max: u64,
    /// Most processes and threads of one compile at once; 256.
    pub job_processes_max: u64,
    /// Most bytes of input files of one job; 2 GiB.
    pub input_bytes_max: u64,
    /// Most bytes that one job may write to disk; 1 GiB.
    pub output_bytes_max: u64,
    /// Most bytes of stdout and of stderr, each; 16 MiB.
    pub stream_bytes_max: u64,
    /// Most compressed bytes of outputs and streams that travel inside the result; 256 KiB.
    pub inline_bytes_max: u64,
    /// How long a worker looks for blobs that the client was asked to upload, in seconds; 10.
    pub upload_wait_seconds: u64,
}

/// What the work of others on this machine means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Take only the CPU that others leave, but always one compile.
    #[default]
    Follow,
    /// This machine is for compiles: all slots, whatever else runs.
    Ignore,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_dir: "/var/cache/jetcc/worker".into(),
            toolchain_cache_size: 10 * GIB,
            blob_cache_size: 10 * GIB,
            build_dir: None,
            scratch_dir: None,
            bwrap_path: "/usr/bin/bwrap".into(),
            slots: None,
            load: Load::default(),
            memory_per_job_bytes: 512 * MIB,
            memory_reserve_bytes: 256 * MIB,
            job_seconds_max: 600,
            job_memory_bytes_max: 4 * GIB,
            job_processes_max: 256,
            input_bytes_max: 2 * GIB,
            output_bytes_max: GIB,
            stream_bytes_max: 16 * MIB,
            inline_bytes_max: 256 * KIB,
            upload_wait_seconds: 10,
        }
    }
}

impl Settings {
    /// Where jobs are laid out.
    pub fn build_dir(&self) -> PathBuf {
        self.build_dir.clone().unwrap_or_else(|| self.cache_dir.join("build"))
    }

    /// Longest compile.
    pub(super) fn job_time_max(&self) -> Duration {
        Duration::from_secs(self.job_seconds_max)
    }

    /// How long to look for blobs that the client was asked to upload.
    pub(super) fn upload_wait(&self) -> Duration {
        Duration::from_secs(self.upload_wait_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_unknown_ones_refused() {
        let settings: Settings = toml::from_str("slots = 3\nload = \"ignore\"").unwrap();
        assert_eq!((settings.slots, settings.load), (Some(3), Load::Ignore));
        assert_eq!(settings.build_dir(), PathBuf::from("/var/cache/jetcc/worker/build"));
        assert!(toml::from_str::<Settings>("slot = 3").is_err());
    }
}
