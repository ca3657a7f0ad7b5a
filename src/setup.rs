//! Writes everything that a new farm needs into one folder: secrets, the server's configuration,
//! settings of a scheduler, a worker and a client.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;

use crate::job::Pool;
use crate::queue::Secret;
use crate::queue::callout::{CalloutError, generate_issuer};
use crate::queue::server_config::{self, Place, Secrets};
use crate::scheduler::identity::{KeyError, worker_token};

/// How long the worker token of a new farm holds, in seconds: a year.
const TOKEN_SECONDS: u64 = 365 * 24 * 3_600;

/// Why a farm could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file could not be written.
    #[error("`{path}` cannot be written: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// A key could not be made.
    #[error(transparent)]
    Callout(#[from] CalloutError),
    /// A token could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A farm's secrets as made by [`write`].
#[derive(Clone, Debug)]
pub struct Farm {
    /// Token of clients.
    pub client_token: Secret,
    /// Token of workers.
    pub worker_token: Secret,
}

/// `bytes` random bytes in base64url without padding.
///
/// # Errors
/// When the system gives none.
pub fn random_text(bytes: usize) -> Result<Secret, getrandom::Error> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random)?;
    Ok(Secret::new(&BASE64URL_NOPAD.encode(&random)))
}

/// Unix time in seconds, `seconds` from now.
pub fn seconds_from_now(seconds: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() + seconds
}

/// Writes a farm into `folder`, which is created with mode 0700; files have mode 0600. Existing
/// files are never touched: a farm that is set up keeps its secrets.
///
/// # Errors
/// [`SetupError`].
pub fn write(folder: &Path, place: &Place, nats_url: &str) -> Result<Farm, SetupError> {
    let trouble = |source| SetupError::Write { path: folder.into(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(trouble)?;
    let (callout_issuer, callout_seed) = generate_issuer()?;
    let secrets = Secrets {
        scheduler: random_text(24)?,
        auth: random_text(24)?,
        system: random_text(24)?,
        callout_issuer,
    };
    let (proof_key, server_key, client_token) =
        (random_text(32)?, random_text(32)?, random_text(32)?);
    let pools = vec![Pool::of_this_machine()];
    let worker_token = worker_token(&server_key, "*", pools, seconds_from_now(TOKEN_SECONDS))?;

    put(folder, "secrets.conf", &server_config::secrets_file(&secrets))?;
    put(folder, "nats-server.conf", &server_config::server_file(place, "secrets.conf"))?;
    let farm_secrets = [
        ("scheduler_password", &secrets.scheduler),
        ("auth_password", &secrets.auth),
        ("system_password", &secrets.system),
        ("callout_seed", &callout_seed),
        ("proof_key", &proof_key),
    ];
    let lines = farm_secrets.map(|(key, value)| format!("{key} = \"{}\"\n", value.reveal()));
    put(folder, "secrets.toml", &lines.concat())?;
    put(folder, "scheduler.toml", &scheduler(nats_url, &client_token, &server_key))?;
    put(folder, "worker.toml", &worker(nats_url, &worker_token))?;
    put(folder, "client.toml", &client(nats_url, &client_token))?;
    Ok(Farm { client_token, worker_token })
}

fn scheduler(nats_url: &str, client_token: &Secret, server_key: &Secret) -> String {
    format!(
        "nats_url = \"{nats_url}\"\nsecrets_file = \"secrets.toml\"\n\n\
         [client_auth]\ntype = \"token\"\ntoken = \"{}\"\n\n\
         [server_auth]\ntype = \"jwt_hs256\"\nsecret_key = \"{}\"\n",
        client_token.reveal(),
        server_key.reveal()
    )
}

fn worker(nats_url: &str, token: &Secret) -> String {
    format!(
        "nats_url = \"{nats_url}\"\n\n[scheduler_auth]\ntype = \"jwt_token\"\ntoken = \"{}\"\n",
        token.reveal()
    )
}

fn client(nats_url: &str, token: &Secret) -> String {
    format!(
        "[dist]\nscheduler_url = \"{nats_url}\"\n\n[dist.auth]\ntype = \"token\"\ntoken = \"{}\"\n",
        token.reveal()
    )
}

fn put(folder: &Path, name: &str, text: &str) -> Result<(), SetupError> {
    let path = folder.join(name);
    let mut options = OpenOptions::new();
    let written = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| SetupError::Write { path, source })
}

/// Gives the folder and its files to another user, as containers need it.
///
/// # Errors
/// [`SetupError::Write`] when the system refuses.
pub fn give_to(folder: &Path, uid: u32, gid: u32) -> Result<(), SetupError> {
    let trouble = |path: &Path| {
        let path = path.to_owned();
        move |source| SetupError::Write { path, source }
    };
    for entry in fs::read_dir(folder).map_err(trouble(folder))? {
        let path = entry.map_err(trouble(folder))?.path();
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(trouble(&path))?;
    }
    std::os::unix::fs::chown(folder, Some(uid), Some(gid)).map_err(trouble(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_farm_is_written_once_and_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("farm");
        write(&folder, &Place::usual(), "nats://n:4222").unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let before = fs::read(folder.join("secrets.toml")).unwrap();
        assert!(write(&folder, &Place::usual(), "nats://n:4222").is_err());
        assert_eq!(fs::read(folder.join("secrets.toml")).unwrap(), before);
    }

    #[test]
    fn the_checked_in_server_configuration_is_the_one_that_is_written() {
        let written = server_config::server_file(&Place::usual(), "secrets.conf");
        assert_eq!(written, include_str!("../nats/nats-server.conf"));
    }

    #[test]
    fn the_settings_that_are_written_can_be_read() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &Place::usual(), "nats://n:4222").unwrap();
        let none = Environment::default();
        let (scheduler, _) = config::scheduler(&root.path().join("scheduler.toml"), &none).unwrap();
        let worker = config::worker(&root.path().join("worker.toml"), &none).unwrap();
        assert_eq!(
            (scheduler.nats_url, worker.nats_url.as_str()),
            ("nats://n:4222".into(), "nats://n:4222")
        );
    }
}
