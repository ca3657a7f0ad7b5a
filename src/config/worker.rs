//! `worker.toml`: settings of a worker.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::environment::Environment;
use super::file::{ConfigError, Kind, Overrides, deserialize, overlay, read, store, tls};
use crate::job::wire::INSECURE_WORKER;
use crate::job::{Pool, WorkerId};
use crate::queue::{Secret, TlsSettings};
use crate::store::StoreSettings;
use crate::worker::Settings;

pub(super) const WORKER: Overrides = &[
    ("JETCC_NATS_URL", "nats_url", Kind::Text),
    ("JETCC_TLS_CA_FILE", "tls.ca_file", Kind::Text),
    ("JETCC_TLS_CERT_FILE", "tls.cert_file", Kind::Text),
    ("JETCC_TLS_KEY_FILE", "tls.key_file", Kind::Text),
    ("JETCC_TLS_ALLOW_PLAINTEXT_OVER_NETWORK", "tls.allow_plaintext_over_network", Kind::Switch),
    ("JETCC_WORKER_ID", "worker_id", Kind::Text),
    ("JETCC_SCHEDULER_AUTH_TYPE", "scheduler_auth.type", Kind::Text),
    ("JETCC_SCHEDULER_AUTH_TOKEN", "scheduler_auth.token", Kind::Text),
    ("JETCC_STORE_URL", "store.url", Kind::Text),
    ("JETCC_STORE_CA_FILE", "store.ca_file", Kind::Text),
    ("JETCC_CACHE_DIR", "cache_dir", Kind::Text),
    ("JETCC_TOOLCHAIN_CACHE_SIZE", "toolchain_cache_size", Kind::Number),
    ("JETCC_BLOB_CACHE_SIZE", "blob_cache_size", Kind::Number),
    ("JETCC_BUILD_DIR", "builder.build_dir", Kind::Text),
    ("JETCC_SCRATCH_DIR", "builder.scratch_dir", Kind::Text),
    ("JETCC_BWRAP_PATH", "builder.bwrap_path", Kind::Text),
    ("JETCC_SLOTS", "slots", Kind::Number),
    ("JETCC_LOAD", "load", Kind::Text),
    ("JETCC_MEMORY_PER_JOB_BYTES", "memory_per_job_bytes", Kind::Number),
    ("JETCC_MEMORY_RESERVE_BYTES", "memory_reserve_bytes", Kind::Number),
    ("JETCC_JOB_SECONDS_MAX", "job_seconds_max", Kind::Number),
    ("JETCC_JOB_MEMORY_BYTES_MAX", "job_memory_bytes_max", Kind::Number),
    ("JETCC_JOB_PROCESSES_MAX", "job_processes_max", Kind::Number),
    ("JETCC_INPUT_BYTES_MAX", "input_bytes_max", Kind::Number),
    ("JETCC_OUTPUT_BYTES_MAX", "output_bytes_max", Kind::Number),
    ("JETCC_STREAM_BYTES_MAX", "stream_bytes_max", Kind::Number),
    ("JETCC_INLINE_BYTES_MAX", "inline_bytes_max", Kind::Number),
    ("JETCC_UPLOAD_WAIT_SECONDS", "upload_wait_seconds", Kind::Number),
];

/// `worker.toml`: the connection here, the rest in [`Settings`].
#[derive(Debug)]
pub struct WorkerConfig {
    /// Address of the NATS server.
    pub nats_url: String,
    /// Encryption of the connection.
    pub tls: TlsSettings,
    /// The worker's name.
    pub worker: WorkerId,
    /// What it shows the scheduler.
    pub token: Secret,
    /// Where blobs are kept.
    pub store: StoreSettings,
    /// Jobs that it takes.
    pub pool: Pool,
    /// Everything else.
    pub settings: Settings,
}

/// The keys of `worker.toml` that [`Settings`] does not know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkerConnection {
    nats_url: String,
    #[serde(default)]
    tls: TlsSettings,
    worker_id: Option<WorkerId>,
    scheduler_auth: WorkerAuth,
    #[serde(default)]
    store: StoreSettings,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum WorkerAuth {
    /// A token of its own.
    JwtToken { token: Secret },
    /// A token that all workers share.
    Token { token: Secret },
    /// None: the farm is on this machine and checks nothing.
    InsecureEverybodyOnThisMachine {},
}

/// `[builder]`, the seed's name for the sandbox's settings.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Builder {
    r#type: Option<BuilderType>,
    build_dir: Option<PathBuf>,
    scratch_dir: Option<PathBuf>,
    bwrap_path: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum BuilderType {
    Bubblewrap,
}

/// Settings of a worker.
///
/// # Errors
/// [`ConfigError`] naming file and key.
pub fn worker(path: &Path, environment: &Environment) -> Result<WorkerConfig, ConfigError> {
    let mut table = overlay(read(path)?, WORKER, environment)?;
    let mut connection = Table::new();
    for key in ["nats_url", "tls", "worker_id", "scheduler_auth", "store"] {
        if let Some(value) = table.remove(key) {
            connection.insert(key.into(), value);
        }
    }
    let builder = match table.remove("builder") {
        Some(Value::Table(builder)) => deserialize::<Builder>(builder, path)?,
        _ => Builder::default(),
    };
    let (Some(BuilderType::Bubblewrap) | None) = builder.r#type;
    let connection: WorkerConnection = deserialize(connection, path)?;
    let mut settings: Settings = deserialize(table, path)?;
    settings.build_dir = builder.build_dir.or(settings.build_dir);
    settings.scratch_dir = builder.scratch_dir.or(settings.scratch_dir);
    settings.bwrap_path = builder.bwrap_path.unwrap_or(settings.bwrap_path);
    let worker = match connection.worker_id {
        Some(worker) => worker,
        None => id_from_host_name(path)?,
    };
    let token = match connection.scheduler_auth {
        WorkerAuth::JwtToken { token } | WorkerAuth::Token { token } => token,
        WorkerAuth::InsecureEverybodyOnThisMachine {} => Secret::new(INSECURE_WORKER),
    };
    let nats_url = connection.nats_url;
    let (tls, store) = (tls(connection.tls, path)?, store(connection.store, path)?);
    Ok(WorkerConfig {
        nats_url,
        tls,
        worker,
        token,
        store,
        pool: Pool::of_this_machine(),
        settings,
    })
}

/// The host's name in the alphabet of ids.
fn id_from_host_name(path: &Path) -> Result<WorkerId, ConfigError> {
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let clean: String = host
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(crate::job::id::NAME_BYTES_MAX)
        .collect();
    clean.parse().map_err(|_| ConfigError::Key {
        path: path.into(),
        message: "`worker_id` is missing and the host has no usable name".into(),
    })
}
