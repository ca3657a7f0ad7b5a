//! Encryption of the connection: with which certificates, and where it may be left out.
//!
//! Plain connections are for this machine alone: their addresses are looked up and checked here, and
//! the library gets the checked addresses, so that a name cannot mean another machine later.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use async_nats::ServerAddr;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

use super::connect::QueueError;

/// Name below which each worker has its own: `worker-1.worker.jetcc`.
const WORKER_DOMAIN: &str = "worker.jetcc";

/// `[tls]`, the same for clients (`[dist.tls]`), schedulers and workers. With a file named here, or a
/// `tls://` address, the connection is encrypted or is not made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// PEM file of the authorities that may vouch for the server, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate to show, and those that lead to its authority.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
    /// Whether secrets, sources and objects may cross a network unencrypted.
    pub allow_plaintext_over_network: bool,
}

/// Files of [`TlsSettings`] that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
    /// Not there, or not PEM of the kind that is wanted.
    #[error("`{key} = {path:?}`: {message}: wanted a readable PEM file with {wanted}")]
    File {
        /// The setting.
        key: &'static str,
        /// Which file.
        path: PathBuf,
        /// What was found.
        message: String,
        /// What should be in it.
        wanted: &'static str,
    },
    /// One of the pair is missing.
    #[error("of `cert_file` and `key_file` one is missing: wanted both or neither")]
    Half,
    /// The key is another certificate's.
    #[error("`key_file` is not the key of `cert_file`: {0}")]
    Pair(rustls::Error),
}

impl TlsSettings {
    /// The settings as seen from `folder`, in which the settings file is; the files were read.
    ///
    /// # Errors
    /// [`TlsFilesError`] when a file is missing or holds something else.
    pub fn seen_from(mut self, folder: &Path) -> Result<Self, TlsFilesError> {
        for file in [&mut self.ca_file, &mut self.cert_file, &mut self.key_file] {
            *file = file.take().map(|file| folder.join(file));
        }
        self.check()?;
        Ok(self)
    }

    /// Reads what the library will read at each connect.
    fn check(&self) -> Result<(), TlsFilesError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca_file {
            for certificate in certificates("ca_file", path)? {
                roots.add(certificate).map_err(|error| unusable("ca_file", path, &error))?;
            }
        }
        match (&self.cert_file, &self.key_file) {
            (None, None) => Ok(()),
            (Some(certificate), Some(key)) => {
                let chain = certificates("cert_file", certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                    let (message, wanted) = (error.to_string(), "a private key");
                    TlsFilesError::File { key: "key_file", path: key.clone(), message, wanted }
                })?;
                let client = ClientConfig::builder().with_root_certificates(roots);
                client.with_client_auth_cert(chain, key).map_err(TlsFilesError::Pair)?;
                Ok(())
            }
            _ => Err(TlsFilesError::Half),
        }
    }

    /// Whether every connection is encrypted, whatever its address says.
    pub(super) fn is_required(&self) -> bool {
        self.ca_file.is_some() || self.cert_file.is_some()
    }
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(unusable(key, path, &pem::Error::NoItemsFound)),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(key, path, &error)),
    }
}

fn unusable(key: &'static str, path: &Path, error: &dyn fmt::Display) -> TlsFilesError {
    let (path, message) = (path.to_owned(), error.to_string());
    TlsFilesError::File { key, path, message, wanted: "certificates" }
}

/// The servers of `url`, a list separated by commas, as they may be connected to. Names of servers
/// without encryption are replaced by their addresses.
///
/// # Errors
/// [`QueueError::BadUrl`]; [`QueueError::Plaintext`] when the connection would leave this machine
/// unencrypted and nobody said that it may; [`QueueError::Connect`] when a name is unknown.
pub(super) async fn servers(
    url: &str,
    settings: &TlsSettings,
) -> Result<Vec<ServerAddr>, QueueError> {
    let mut servers = Vec::new();
    for server in addresses(url)? {
        let encrypted = server.tls_required() || settings.is_required();
        if encrypted || settings.allow_plaintext_over_network {
            servers.push(server);
            continue;
        }
        for address in resolve(&server).await? {
            if !is_loopback(address.ip()) {
                let url = server.as_url_str().to_owned();
                return Err(QueueError::Plaintext { url, address: address.ip() });
            }
            servers.extend(addresses(&format!("nats://{address}"))?);
        }
    }
    Ok(servers)
}

/// Whether every address of every server of `url` is this machine's own loopback.
///
/// # Errors
/// [`QueueError::BadUrl`]; [`QueueError::Connect`] when a name is unknown.
pub async fn is_loopback_only(url: &str) -> Result<bool, QueueError> {
    for server in addresses(url)? {
        if !resolve(&server).await?.into_iter().all(|address| is_loopback(address.ip())) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The servers of a list separated by commas.
///
/// # Errors
/// [`QueueError::BadUrl`].
pub fn addresses(url: &str) -> Result<Vec<ServerAddr>, QueueError> {
    let bad = |message: String| QueueError::BadUrl { url: url.to_owned(), message };
    url.split(',')
        .map(|part| {
            let server: ServerAddr =
                part.trim().parse().map_err(|error: io::Error| bad(error.to_string()))?;
            match (server.scheme(), server.host()) {
                ("nats" | "tls", host) if !host.is_empty() => Ok(server),
                ("nats" | "tls", _) => Err(bad("no host".into())),
                (other, _) => Err(bad(format!("scheme `{other}`"))),
            }
        })
        .collect()
}

async fn resolve(server: &ServerAddr) -> Result<Vec<SocketAddr>, QueueError> {
    let failed = |message| QueueError::Connect { url: server.as_url_str().to_owned(), message };
    let found = server.socket_addrs().await.map_err(|error| failed(error.to_string()))?;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() { Err(failed("the name has no address".into())) } else { Ok(found) }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The name that a worker's certificate bears; of a certificate for all workers with the id `*`.
pub fn worker_name(id: &str) -> String {
    format!("{id}.{WORKER_DOMAIN}")
}

/// A certificate that somebody showed to the server, which has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate(CertificateDer<'static>);

impl Certificate {
    /// Reads one in PEM; `None` when it is none.
    pub fn from_pem(text: &str) -> Option<Self> {
        CertificateDer::from_pem_slice(text.as_bytes()).ok().map(Self)
    }

    /// Whether it is for `name`, exactly or by `*` in the place of its first label.
    pub fn is_for(&self, name: &str) -> bool {
        let (Ok(parsed), Ok(name)) =
            (ParsedCertificate::try_from(&self.0), ServerName::try_from(name))
        else {
            return false;
        };
        verify_server_name(&parsed, &name).is_ok()
    }
}

/// What went wrong with a handshake, and what to do about it.
pub(super) fn explain(error: &rustls::Error) -> (String, &'static str) {
    let hint = match error {
        rustls::Error::InvalidCertificate(_) => {
            "the server's certificate must be valid, name this host, and come from an authority in `ca_file` (or the system's)"
        }
        rustls::Error::AlertReceived(_) => {
            "the server may want a certificate of its own authority: `cert_file` and `key_file`"
        }
        _ => "does nats-server have a `tls` block?",
    };
    (error.to_string(), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(allow_plaintext_over_network: bool, ca_file: Option<&str>) -> TlsSettings {
        let ca_file = ca_file.map(Into::into);
        TlsSettings { allow_plaintext_over_network, ca_file, ..TlsSettings::default() }
    }

    async fn names(url: &str, settings: &TlsSettings) -> Result<Vec<String>, QueueError> {
        let servers = servers(url, settings).await?;
        Ok(servers.iter().map(|server| server.as_url_str().to_owned()).collect())
    }

    #[tokio::test]
    async fn plain_connections_stay_on_this_machine() {
        let none = TlsSettings::default();
        for here in
            ["nats://127.0.0.1:4222", "127.8.9.1", "nats://[::1]:1", "nats://[::ffff:127.0.0.1]"]
        {
            assert!(names(here, &none).await.is_ok(), "{here}");
            assert!(is_loopback_only(here).await.unwrap(), "{here}");
        }
        let away =
            ["nats://192.0.2.1:4222", "10.0.0.1", "nats://[2001:db8::1]", "nats://0.0.0.0:4222"];
        for away in away {
            let either = [away.to_owned(), format!("nats://127.0.0.1:4222,{away}")];
            for url in either {
                let refused = names(&url, &none).await.unwrap_err();
                assert!(matches!(refused, QueueError::Plaintext { .. }), "{url}: {refused}");
                assert!(refused.is_of_settings());
                assert!(!is_loopback_only(&url).await.unwrap(), "{url}");
                assert!(names(&url, &settings(true, None)).await.is_ok(), "{url}");
                assert!(names(&url, &settings(false, Some("ca.pem"))).await.is_ok(), "{url}");
            }
        }
        assert!(names("tls://192.0.2.1:4222", &none).await.is_ok());
        assert!(names("tls://192.0.2.1:4222,nats://192.0.2.1:4222", &none).await.is_err());
    }

    #[tokio::test]
    async fn a_name_is_connected_to_at_the_address_that_was_checked() {
        let servers = names("nats://localhost:4333", &TlsSettings::default()).await.unwrap();
        assert!(!servers.is_empty());
        for server in servers {
            assert!(
                ["nats://127.0.0.1:4333", "nats://[::1]:4333"].contains(&server.as_str()),
                "{server}"
            );
        }
        // A certificate is for the name.
        let servers = names("tls://localhost:4333", &TlsSettings::default()).await.unwrap();
        assert_eq!(servers, ["tls://localhost:4333"]);
    }

    #[tokio::test]
    async fn an_address_of_another_kind_is_refused() {
        for url in [
            "",
            "http://127.0.0.1",
            "ws://127.0.0.1",
            "nats://",
            "nats://a:b",
            "nats://127.0.0.1,,",
        ] {
            let refused = names(url, &settings(true, None)).await.unwrap_err();
            assert!(matches!(refused, QueueError::BadUrl { .. }), "{url}: {refused}");
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty.pem"), "nothing").unwrap();
        for file in ["absent.pem", "empty.pem"] {
            let error =
                settings(false, Some(file)).seen_from(folder.path()).unwrap_err().to_string();
            assert!(error.contains("ca_file") && error.contains(file), "{error}");
        }
        let half = TlsSettings { cert_file: Some("a.pem".into()), ..TlsSettings::default() };
        assert!(matches!(half.seen_from(folder.path()), Err(TlsFilesError::Half)));
    }
}
