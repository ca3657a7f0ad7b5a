//! Settings of the client's daemon: `config.toml`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::queue::{Secret, TlsSettings};
use crate::store::StoreSettings;

/// `~/.config/jetcc/config.toml`; everything has a default, and without `[dist]` all compiles are
/// local.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The farm.
    pub dist: Dist,
    /// Where the daemon keeps its files; the user's cache folder when absent.
    pub cache_dir: Option<PathBuf>,
    /// The daemon leaves after so many seconds without a compile; 0 means never.
    pub idle_timeout_seconds: Option<u64>,
    /// Local compiles at once on this machine, all users together; the number of cores when absent.
    pub local_slots: Option<usize>,
}

/// `[dist]`: where the farm is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dist {
    /// The farm's NATS server, `tls://host:4222`, on this machine also `nats://`; several separated
    /// by commas.
    pub scheduler_url: Option<String>,
    /// Encryption of the connection.
    pub tls: TlsSettings,
    /// How the client shows who it is.
    pub auth: Option<Auth>,
    /// Where blobs are kept; the same as in the scheduler's and workers' settings.
    pub store: StoreSettings,
    /// Whether a remote failure is final. By default the local compiler has the last word.
    pub trust_remote_failures: bool,
    /// Longest wait in the queue, in seconds, before the compile runs locally.
    pub queue_wait_seconds_max: Option<u32>,
    /// Longest time a remote compile may take, in seconds, before it runs locally.
    pub job_seconds_max: Option<u64>,
    /// Longest wait, in seconds, for the first upload of a toolchain; meanwhile compiles are local
    /// and the upload goes on.
    pub toolchain_wait_seconds_max: Option<u64>,
}

/// `[dist.auth]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// A token that all clients share.
    Token {
        /// The token.
        token: Secret,
    },
}

impl Settings {
    /// Idle time after which the daemon leaves, in seconds.
    pub const IDLE_TIMEOUT_SECONDS: u64 = 600;
    /// Default of [`Dist::queue_wait_seconds_max`].
    pub const QUEUE_WAIT_SECONDS_MAX: u32 = 30;
    /// Default of [`Dist::job_seconds_max`].
    pub const JOB_SECONDS_MAX: u64 = 1_200;
    /// Default of [`Dist::toolchain_wait_seconds_max`].
    pub const TOOLCHAIN_WAIT_SECONDS_MAX: u64 = 10;
}
