//! The only reader of settings: files first, then `JETCC_…` variables over them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::client::Settings as ClientSettings;
use crate::job::{Pool, WorkerId};
use crate::queue::Secret;
use crate::scheduler::Settings as SchedulerSettings;
use crate::scheduler::settings::FarmSecrets;
use crate::store::StoreSettings;
use crate::worker::Settings as WorkerSettings;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("settings `{path}` cannot be read: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("settings `{path}` are not TOML: {message}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A key is unknown, missing or of the wrong kind.
    #[error("settings `{path}`: {message}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Which key and why.
        message: String,
    },
    /// A variable does not fit its key.
    #[error("`{name}` is `{value}`, wanted {wanted}")]
    Variable {
        /// Which variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        wanted: &'static str,
    },
}

/// What kind of value a variable holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Switch,
}

/// Variables over a file: name, dotted key, kind.
type Overrides = &'static [(&'static str, &'static str, Kind)];

const CLIENT: Overrides = &[
    ("JETCC_DIST_SCHEDULER_URL", "dist.scheduler_url", Kind::Text),
    ("JETCC_DIST_AUTH_TYPE", "dist.auth.type", Kind::Text),
    ("JETCC_DIST_AUTH_TOKEN", "dist.auth.token", Kind::Text),
    ("JETCC_DIST_STORE_URL", "dist.store.url", Kind::Text),
    ("JETCC_DIST_TRUST_REMOTE_FAILURES", "dist.trust_remote_failures", Kind::Switch),
    ("JETCC_DIST_QUEUE_WAIT_SECONDS_MAX", "dist.queue_wait_seconds_max", Kind::Number),
    ("JETCC_DIST_JOB_SECONDS_MAX", "dist.job_seconds_max", Kind::Number),
    ("JETCC_DIST_TOOLCHAIN_WAIT_SECONDS_MAX", "dist.toolchain_wait_seconds_max", Kind::Number),
    ("JETCC_CACHE_DIR", "cache_dir", Kind::Text),
    ("JETCC_IDLE_TIMEOUT", "idle_timeout_seconds", Kind::Number),
    ("JETCC_LOCAL_SLOTS", "local_slots", Kind::Number),
];

const SCHEDULER: Overrides = &[
    ("JETCC_NATS_URL", "nats_url", Kind::Text),
    ("JETCC_SECRETS_FILE", "secrets_file", Kind::Text),
    ("JETCC_CLIENT_AUTH_TYPE", "client_auth.type", Kind::Text),
    ("JETCC_CLIENT_AUTH_TOKEN", "client_auth.token", Kind::Text),
    ("JETCC_SERVER_AUTH_TYPE", "server_auth.type", Kind::Text),
    ("JETCC_SERVER_AUTH_SECRET_KEY", "server_auth.secret_key", Kind::Text),
    ("JETCC_STORE_URL", "store.url", Kind::Text),
    ("JETCC_QUEUE_WAIT_SECONDS_MAX", "queue_wait_seconds_max", Kind::Number),
];

const WORKER: Overrides = &[
    ("JETCC_NATS_URL", "nats_url", Kind::Text),
    ("JETCC_WORKER_ID", "worker_id", Kind::Text),
    ("JETCC_SCHEDULER_AUTH_TYPE", "scheduler_auth.type", Kind::Text),
    ("JETCC_SCHEDULER_AUTH_TOKEN", "scheduler_auth.token", Kind::Text),
    ("JETCC_STORE_URL", "store.url", Kind::Text),
    ("JETCC_CACHE_DIR", "cache_dir", Kind::Text),
    ("JETCC_TOOLCHAIN_CACHE_SIZE", "toolchain_cache_size", Kind::Number),
    ("JETCC_BLOB_CACHE_SIZE", "blob_cache_size", Kind::Number),
    ("JETCC_BUILD_DIR", "builder.build_dir", Kind::Text),
    ("JETCC_BWRAP_PATH", "builder.bwrap_path", Kind::Text),
    ("JETCC_SLOTS", "slots", Kind::Number),
    ("JETCC_LOAD", "load", Kind::Text),
    ("JETCC_MEMORY_PER_JOB_BYTES", "memory_per_job_bytes", Kind::Number),
    ("JETCC_MEMORY_RESERVE_BYTES", "memory_reserve_bytes", Kind::Number),
    ("JETCC_JOB_SECONDS_MAX", "job_seconds_max", Kind::Number),
    ("JETCC_INPUT_BYTES_MAX", "input_bytes_max", Kind::Number),
    ("JETCC_OUTPUT_BYTES_MAX", "output_bytes_max", Kind::Number),
    ("JETCC_STREAM_BYTES_MAX", "stream_bytes_max", Kind::Number),
    ("JETCC_INLINE_BYTES_MAX", "inline_bytes_max", Kind::Number),
    ("JETCC_UPLOAD_WAIT_SECONDS", "upload_wait_seconds", Kind::Number),
];

/// Variables of this process, captured once.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// What the process was started with.
    pub fn capture() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The variable `name` as text, if it is set.
    pub fn text(&self, name: &str) -> Option<String> {
        self.0.get(std::ffi::OsStr::new(name)).map(|value| value.to_string_lossy().into_owned())
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        let value = self.0.get(std::ffi::OsStr::new(name))?;
        Some(PathBuf::from(value)).filter(|path| path.is_absolute())
    }

    /// All variables.
    pub fn all(&self) -> &BTreeMap<OsString, OsString> {
        &self.0
    }

    /// The first program of this name in `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let path = self.0.get(std::ffi::OsStr::new("PATH"))?;
        std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| {
            fs::metadata(file).is_ok_and(|found| {
                found.is_file()
                    && std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o111 != 0
            })
        })
    }

    /// `$XDG_CACHE_HOME`, else `~/.cache`; a folder in `/tmp` for users without a home.
    pub fn cache_home(&self) -> PathBuf {
        self.folder("XDG_CACHE_HOME")
            .or_else(|| self.folder("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(|| "/tmp".into())
    }

    /// Log filter and log file: `JETCC_LOG`, `JETCC_ERROR_LOG`.
    pub fn log(&self, default: &str) -> (String, Option<PathBuf>) {
        let filter = self.text("JETCC_LOG").unwrap_or_else(|| default.to_owned());
        (filter, self.text("JETCC_ERROR_LOG").map(PathBuf::from))
    }

    /// Where the client's settings are: `JETCC_CONF`, else the usual place.
    fn client_file(&self) -> Option<PathBuf> {
        self.text("JETCC_CONF").map(PathBuf::from).or_else(|| {
            let config = self
                .folder("XDG_CONFIG_HOME")
                .or_else(|| self.folder("HOME").map(|home| home.join(".config")))?;
            Some(config.join("jetcc/config.toml")).filter(|file| file.exists())
        })
    }
}

/// Settings of the client's daemon; all defaults when there is no file.
///
/// # Errors
/// [`ConfigError`] naming file and key.
pub fn client(environment: &Environment) -> Result<ClientSettings, ConfigError> {
    let path = environment.client_file();
    let table = path.as_deref().map_or_else(|| Ok(Table::new()), read)?;
    let path = path.unwrap_or_else(|| "(environment)".into());
    deserialize(overlay(table, CLIENT, environment)?, &path)
}

/// Settings of a scheduler and the farm's secrets that they name.
///
/// # Errors
/// [`ConfigError`] naming file and key.
pub fn scheduler(
    path: &Path,
    environment: &Environment,
) -> Result<(SchedulerSettings, FarmSecrets), ConfigError> {
    let table = overlay(read(path)?, SCHEDULER, environment)?;
    let settings: SchedulerSettings = deserialize(table, path)?;
    let secrets = beside(path, &settings.secrets_file);
    let secrets = deserialize(read(&secrets)?, &secrets)?;
    Ok((settings, secrets))
}

/// `worker.toml`: the connection here, the rest in [`WorkerSettings`].
#[derive(Debug)]
pub struct WorkerConfig {
    /// Address of the NATS server.
    pub nats_url: String,
    /// The worker's name.
    pub worker: WorkerId,
    /// What it shows the scheduler.
    pub token: Secret,
    /// Where blobs are kept.
    pub store: StoreSettings,
    /// Jobs that it takes.
    pub pool: Pool,
    /// Everything else.
    pub settings: WorkerSettings,
}

/// The keys of `worker.toml` that [`WorkerSettings`] does not know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkerConnection {
    nats_url: String,
    worker_id: Option<WorkerId>,
    scheduler_auth: WorkerAuth,
    #[serde(default)]
    store: StoreSettings,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum WorkerAuth {
    JwtToken { token: Secret },
}

/// `[builder]`, the seed's name for the sandbox's settings.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Builder {
    r#type: Option<BuilderType>,
    build_dir: Option<PathBuf>,
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
    for key in ["nats_url", "worker_id", "scheduler_auth", "store"] {
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
    let mut settings: WorkerSettings = deserialize(table, path)?;
    settings.build_dir = builder.build_dir.or(settings.build_dir);
    settings.bwrap_path = builder.bwrap_path.unwrap_or(settings.bwrap_path);
    let worker = match connection.worker_id {
        Some(worker) => worker,
        None => id_from_host_name(path)?,
    };
    let WorkerAuth::JwtToken { token } = connection.scheduler_auth;
    let (nats_url, store) = (connection.nats_url, connection.store);
    Ok(WorkerConfig { nats_url, worker, token, store, pool: Pool::of_this_machine(), settings })
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

/// `file` seen from the folder of the settings that name it.
fn beside(settings: &Path, file: &str) -> PathBuf {
    settings.parent().unwrap_or(Path::new(".")).join(file)
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.into(), source })?;
    text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        path: path.into(),
        message: error.to_string(),
    })
}

/// Puts the variables that are set over the file's keys.
fn overlay(
    mut table: Table,
    overrides: Overrides,
    environment: &Environment,
) -> Result<Table, ConfigError> {
    for (name, key, kind) in overrides {
        if let Some(text) = environment.text(name) {
            insert(&mut table, key, value(name, &text, *kind)?);
        }
    }
    Ok(table)
}

fn value(name: &'static str, text: &str, kind: Kind) -> Result<Value, ConfigError> {
    let wrong = |wanted| ConfigError::Variable { name, value: text.to_owned(), wanted };
    match kind {
        Kind::Text => Ok(Value::String(text.to_owned())),
        Kind::Number => text.parse().map(Value::Integer).map_err(|_| wrong("a whole number")),
        Kind::Switch => match text {
            "1" | "true" => Ok(Value::Boolean(true)),
            "0" | "false" | "" => Ok(Value::Boolean(false)),
            _ => Err(wrong("`true` or `false`")),
        },
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((folder, rest)) => {
            let inner = table.entry(folder).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn deserialize<T: DeserializeOwned>(table: Table, path: &Path) -> Result<T, ConfigError> {
    T::deserialize(Value::Table(table)).map_err(|error| ConfigError::Key {
        path: path.into(),
        message: with_nearest(error.to_string().trim()),
    })
}

/// Adds the nearest known key to serde's message about an unknown one.
fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (true, Some(unknown)) = (message.starts_with("unknown field"), quoted.next()) else {
        return message.to_owned();
    };
    match quoted.min_by_key(|known| distance(unknown, known)) {
        Some(nearest) => format!("{message}\nhint: did you mean `{nearest}`?"),
        None => message.to_owned(),
    }
}

/// Levenshtein distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment(variables.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn variables_go_over_the_file() {
        let file = file("[dist]\nscheduler_url = \"nats://a\"\n");
        let environment = environment(&[
            ("JETCC_CONF", file.path().to_str().unwrap()),
            ("JETCC_DIST_SCHEDULER_URL", "nats://b"),
            ("JETCC_IDLE_TIMEOUT", "0"),
        ]);
        let settings = client(&environment).unwrap();
        assert_eq!(settings.dist.scheduler_url.as_deref(), Some("nats://b"));
        assert_eq!(settings.idle_timeout_seconds, Some(0));
    }

    #[test]
    fn a_slip_names_the_nearest_key() {
        let file = file("[dist]\nscheduler_ulr = \"x\"\n");
        let environment = environment(&[("JETCC_CONF", file.path().to_str().unwrap())]);
        let error = client(&environment).unwrap_err().to_string();
        assert!(error.contains("did you mean `scheduler_url`?"), "{error}");
    }

    #[test]
    fn a_worker_has_the_seeds_sections() {
        let file = file(
            "nats_url = \"nats://a\"\nworker_id = \"w1\"\ncache_dir = \"/c\"\n\
             [scheduler_auth]\ntype = \"jwt_token\"\ntoken = \"t\"\n\
             [builder]\ntype = \"bubblewrap\"\nbuild_dir = \"/b\"\nbwrap_path = \"/bin/bwrap\"\n",
        );
        let config = worker(file.path(), &environment(&[("JETCC_SLOTS", "3")])).unwrap();
        assert_eq!(config.settings.build_dir(), PathBuf::from("/b"));
        assert_eq!(config.settings.slots, Some(3));
        assert_eq!(config.worker.as_str(), "w1");
        assert!(!format!("{config:?}").contains("\"t\""));
    }

    /// The samples are the reference of all keys: they say every variable, and every default.
    #[test]
    fn the_samples_parse_and_name_every_variable() {
        let samples = [
            (CLIENT, include_str!("../deploy/client.toml")),
            (SCHEDULER, include_str!("../deploy/scheduler.toml")),
            (WORKER, include_str!("../deploy/worker.toml")),
        ];
        for (overrides, sample) in samples {
            for (name, key, _) in overrides {
                let key = key.rsplit('.').next().unwrap();
                let explained =
                    sample.lines().any(|line| line.contains(key) && line.ends_with(name));
                assert!(explained, "`{key}` with `{name}` is not in the sample");
            }
        }
        let [client_file, scheduler_file, worker_file] = samples.map(|(_, sample)| file(sample));
        let with = |name, file: &tempfile::NamedTempFile| {
            environment(&[(name, file.path().to_str().unwrap())])
        };

        let settings = client(&with("JETCC_CONF", &client_file)).unwrap();
        assert_eq!(
            (settings.idle_timeout_seconds, settings.dist.queue_wait_seconds_max),
            (
                Some(ClientSettings::IDLE_TIMEOUT_SECONDS),
                Some(ClientSettings::QUEUE_WAIT_SECONDS_MAX)
            )
        );
        let secrets = file(
            "scheduler_password = \"a\"\nauth_password = \"b\"\ncallout_seed = \"c\"\nproof_key = \"d\"\n",
        );
        scheduler(scheduler_file.path(), &with("JETCC_SECRETS_FILE", &secrets)).unwrap();
        let settings = worker(worker_file.path(), &Environment::default()).unwrap().settings;
        assert_eq!(settings, WorkerSettings::default());
    }
}
