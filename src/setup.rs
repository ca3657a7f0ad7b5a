//! Writes everything that a new farm needs into one folder: secrets, the server's configuration,
//! settings of a scheduler, a worker and a client, and certificates where they are needed.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;

use self::certificates::{AUTHORITY, AUTHORITY_KEY, Authority, Pair, Purpose};

use crate::job::Pool;
use crate::queue::Secret;
use crate::queue::callout::{CalloutError, generate_issuer};
use crate::queue::server_config::{self, Place, Secrets, ServerTls};
use crate::queue::tls::worker_name;
use crate::scheduler::identity::{KeyError, worker_token};

pub mod certificates;

/// How long the worker token and the certificates of a new farm hold, in seconds: a year.
const TOKEN_SECONDS: u64 = 365 * 24 * 3_600;

/// How the parties of a farm reach their server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// On this machine, or by settings that are added later.
    Plain,
    /// Over a network that everybody who is on it may read.
    PlaintextOverNetwork,
    /// With certificates of an authority of the farm's own.
    Tls(Tls),
}

/// Certificates of a farm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Names and addresses under which the server is known.
    pub hosts: Vec<String>,
    /// Who shows a certificate.
    pub shown: Shown,
    /// The farm's folder as the server sees it.
    pub server_folder: PathBuf,
}

/// Who shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The server alone.
    ByServer,
    /// The server, and everybody who connects to it: mutual TLS.
    ByAll,
}

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
    /// A file could not be read.
    #[error("`{path}` cannot be read: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("no certificate: {0}")]
    Certificate(#[from] rcgen::Error),
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
pub fn write(
    folder: &Path,
    place: &Place,
    nats_url: &str,
    transport: &Transport,
) -> Result<Farm, SetupError> {
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
    let server_tls = transport.server();
    let server = server_config::server_file(place, "secrets.conf", server_tls.as_ref());
    put(folder, "nats-server.conf", &server)?;
    let farm_secrets = [
        ("scheduler_password", &secrets.scheduler),
        ("auth_password", &secrets.auth),
        ("system_password", &secrets.system),
        ("callout_seed", &callout_seed),
        ("proof_key", &proof_key),
    ];
    let lines = farm_secrets.map(|(key, value)| format!("{key} = \"{}\"\n", value.reveal()));
    put(folder, "secrets.toml", &lines.concat())?;
    let scheduler_extra = match transport.shown() {
        Some(Shown::ByAll) => "require_worker_certificate = true\n",
        _ => "",
    };
    let scheduler = scheduler(nats_url, &client_token, &server_key);
    let tls = transport.settings("tls", "scheduler");
    put(folder, "scheduler.toml", &format!("{scheduler_extra}{scheduler}{tls}"))?;
    let worker = worker(nats_url, &worker_token);
    put(folder, "worker.toml", &(worker + &transport.settings("tls", "worker")))?;
    let client = client(nats_url, &client_token);
    put(folder, "client.toml", &(client + &transport.settings("dist.tls", "client")))?;
    if let Transport::Tls(tls) = transport {
        put_certificates(folder, tls)?;
    }
    Ok(Farm { client_token, worker_token })
}

impl Transport {
    fn shown(&self) -> Option<Shown> {
        if let Self::Tls(tls) = self { Some(tls.shown) } else { None }
    }

    fn server(&self) -> Option<ServerTls> {
        let Self::Tls(tls) = self else { return None };
        let file = |name: &str| tls.server_folder.join(name).display().to_string();
        let client_ca_file = (tls.shown == Shown::ByAll).then(|| file(AUTHORITY));
        let (cert_file, key_file) = (file("server.pem"), file("server.key"));
        Some(ServerTls { cert_file, key_file, client_ca_file })
    }

    /// The section of a role's settings.
    fn settings(&self, section: &str, role: &str) -> String {
        let keys = match self {
            Self::Plain => return String::new(),
            Self::PlaintextOverNetwork => "allow_plaintext_over_network = true\n".to_owned(),
            Self::Tls(Tls { shown: Shown::ByServer, .. }) => format!("ca_file = \"{AUTHORITY}\"\n"),
            Self::Tls(Tls { shown: Shown::ByAll, .. }) => format!(
                "ca_file = \"{AUTHORITY}\"\ncert_file = \"{role}.pem\"\nkey_file = \"{role}.key\"\n"
            ),
        };
        format!("\n[{section}]\n{keys}")
    }
}

fn put_certificates(folder: &Path, tls: &Tls) -> Result<(), SetupError> {
    let (authority, own) = Authority::make()?;
    put(folder, AUTHORITY, &own.certificate)?;
    put(folder, AUTHORITY_KEY, own.key.reveal())?;
    let valid = certificates::valid_for(TOKEN_SECONDS);
    let server = authority.sign(Purpose::Serve, &tls.hosts, &valid)?;
    put_pair(&folder.join("server"), &server)?;
    if tls.shown == Shown::ByAll {
        let names = [
            ("scheduler", "scheduler.jetcc".to_owned()),
            ("worker", worker_name("*")),
            ("client", "client.jetcc".to_owned()),
        ];
        for (role, name) in names {
            let pair = authority.sign(Purpose::Connect, &[name], &valid)?;
            put_pair(&folder.join(role), &pair)?;
        }
    }
    Ok(())
}

/// Writes `STEM.pem` and `STEM.key`, with mode 0600; existing files are never touched.
///
/// # Errors
/// [`SetupError::Write`].
pub fn put_pair(stem: &Path, pair: &Pair) -> Result<(), SetupError> {
    let folder = stem.parent().unwrap_or(Path::new(""));
    let name = stem.file_name().unwrap_or_default().to_string_lossy();
    put(folder, &format!("{name}.pem"), &pair.certificate)?;
    put(folder, &format!("{name}.key"), pair.key.reveal())
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

    /// A farm over a network.
    fn tls(shown: Shown) -> Transport {
        let hosts = vec!["nats.example".into(), "192.0.2.1".into()];
        Transport::Tls(Tls { hosts, shown, server_folder: "/etc/jetcc".into() })
    }

    #[test]
    fn a_farm_is_written_once_and_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("farm");
        let write = || write(&folder, &Place::usual(), "tls://n:4222", &tls(Shown::ByAll));
        write().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for entry in fs::read_dir(&folder).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
        let before = fs::read(folder.join("secrets.toml")).unwrap();
        assert!(write().is_err());
        assert_eq!(fs::read(folder.join("secrets.toml")).unwrap(), before);
    }

    #[test]
    fn the_checked_in_server_configuration_is_the_one_that_is_written() {
        let tls = tls(Shown::ByServer).server();
        let written = server_config::server_file(&Place::usual(), "secrets.conf", tls.as_ref());
        assert_eq!(written, include_str!("../nats/nats-server.conf"));
    }

    #[test]
    fn the_settings_that_are_written_can_be_read() {
        let none = Environment::default();
        let transports = [
            Transport::Plain,
            Transport::PlaintextOverNetwork,
            tls(Shown::ByServer),
            tls(Shown::ByAll),
        ];
        for transport in transports {
            let root = tempfile::tempdir().unwrap();
            write(root.path(), &Place::usual(), "tls://n:4222", &transport).unwrap();
            let (scheduler, _) =
                config::scheduler(&root.path().join("scheduler.toml"), &none).unwrap();
            let worker = config::worker(&root.path().join("worker.toml"), &none).unwrap();
            assert_eq!(
                (scheduler.nats_url.as_str(), worker.nats_url.as_str()),
                ("tls://n:4222", "tls://n:4222")
            );
            for settings in [scheduler.tls, worker.tls] {
                let authority = matches!(transport, Transport::Tls(_));
                assert_eq!(settings.ca_file.is_some(), authority);
                let mutual = transport.shown() == Some(Shown::ByAll);
                assert_eq!(settings.cert_file.is_some(), mutual);
                let plaintext = transport == Transport::PlaintextOverNetwork;
                assert_eq!(settings.allow_plaintext_over_network, plaintext);
            }
            assert_eq!(
                scheduler.require_worker_certificate,
                transport.shown() == Some(Shown::ByAll)
            );
        }
    }

    #[test]
    fn settings_show_no_secrets() {
        let root = tempfile::tempdir().unwrap();
        let transport = Transport::Plain;
        write(root.path(), &Place::usual(), "nats://localhost:4222", &transport).unwrap();
        let store = "url = \"s3://b\"\noptions.secret_access_key = \"secret-of-the-store\"\n";
        for (file, section) in
            [("client", "dist.store"), ("scheduler", "store"), ("worker", "store")]
        {
            let path = root.path().join(format!("{file}.toml"));
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("{text}\n[{section}]\n{store}")).unwrap();
        }
        let none = Environment::default();
        let path = |name: &str| root.path().join(name);
        let scheduler = config::scheduler(&path("scheduler.toml"), &none).unwrap();
        let worker = config::worker(&path("worker.toml"), &none).unwrap();
        let client: toml::Table = fs::read_to_string(path("client.toml")).unwrap().parse().unwrap();
        let client: crate::client::Settings = client.try_into().unwrap();
        let shown = format!("{scheduler:?} {scheduler:#?} {worker:?} {client:?} {client:#?}");
        assert!(shown.contains("Secret(..)") && shown.contains("secret_access_key"), "{shown}");
        let mut secrets = 0;
        for name in ["client.toml", "scheduler.toml", "worker.toml", "secrets.toml"] {
            for line in fs::read_to_string(path(name)).unwrap().lines() {
                let Some((key, value)) = line.split_once(" = ") else { continue };
                let is_secret =
                    ["token", "key", "seed", "password"].iter().any(|end| key.ends_with(end));
                if is_secret {
                    secrets += 1;
                    assert!(!shown.contains(value.trim_matches('"')), "{key} of {name}");
                }
            }
        }
        assert!(secrets >= 12, "{secrets}");
    }
}
