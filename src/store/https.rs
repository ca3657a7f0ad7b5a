//! The connection to an object store: whose certificates are believed, and what a refused one means.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use object_store::{Certificate, ClientOptions};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

/// How long a connection to an object store may take; on one site it takes a millisecond.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A `ca_file` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`ca_file = {path:?}`: {message}: wanted a readable PEM file with certificates")]
pub struct CaFileError {
    /// Which file.
    path: PathBuf,
    /// What was found.
    message: String,
}

/// Options of every HTTP backend, which believes the authorities in `ca_file` besides the system's.
/// The whole request is bounded by [`super::Limits::attempt_max`].
///
/// # Errors
/// [`CaFileError`].
pub(super) fn client_options(ca_file: Option<&Path>) -> Result<ClientOptions, CaFileError> {
    let options = ClientOptions::new().with_connect_timeout(CONNECT_MAX).with_timeout_disabled();
    let Some(path) = ca_file else { return Ok(options) };
    Ok(authorities(path)?.into_iter().fold(options, ClientOptions::with_root_certificate))
}

/// The certificates in the file, each of which may vouch for a server.
///
/// # Errors
/// [`CaFileError`] when the file cannot be read, or holds none or something else.
pub(super) fn authorities(path: &Path) -> Result<Vec<Certificate>, CaFileError> {
    let unusable = |error: &dyn fmt::Display| CaFileError {
        path: path.to_owned(),
        message: error.to_string(),
    };
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(&error))?;
    if found.is_empty() {
        return Err(unusable(&pem::Error::NoItemsFound));
    }
    let mut roots = RootCertStore::empty();
    let read = found.into_iter().map(|certificate| {
        let same = Certificate::from_der(&certificate).map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
        Ok(same)
    });
    read.collect()
}

/// Why there is no connection as it must be, and what to do about it.
pub(super) struct NoConnection {
    /// What was found, what was wanted, what to do.
    pub(super) words: String,
    /// Whether another try would end the same.
    pub(super) is_final: bool,
}

impl NoConnection {
    /// What is at the bottom of `error`; `None` when it is something else.
    pub(super) fn below(error: &object_store::Error) -> Option<Self> {
        if let Some(found) = cause::<rustls::Error>(error) {
            let is_final = matches!(found, rustls::Error::InvalidCertificate(_));
            let hint = match is_final {
                true => {
                    "put the store's authority into `ca_file` of `[store]` (clients: `[dist.store]`), or give the store a certificate for this address"
                }
                false => "does the store speak TLS at this address?",
            };
            let words = format!(
                "no encrypted connection: `{found}`, wanted a server with a certificate that is \
                 valid, names the store's host, and comes from an authority of the system's or in \
                 `ca_file`\nhint: {hint}"
            );
            return Some(Self { words, is_final });
        }
        // The client refuses an address before it sends anything.
        cause::<reqwest::Error>(error).filter(|error| error.is_builder()).map(|found| {
            let found = found.source().map_or_else(|| found.to_string(), ToString::to_string);
            let words = format!(
                "no connection: `{found}`, wanted `https://`\nhint: the option `allow_http` lets \
                 sources and objects cross the network unencrypted"
            );
            Self { words, is_final: true }
        })
    }
}

/// The first of that kind among the causes; a stream's error keeps it inside.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_authorities_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let broken = "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n";
        for path in [
            folder.path().join("absent.pem"),
            folder.path().into(),
            file("empty.pem", ""),
            file("text.pem", "words"),
            file("broken.pem", broken),
        ] {
            let error = authorities(&path).unwrap_err().to_string();
            assert!(error.contains(&*path.to_string_lossy()) && error.contains("PEM"), "{error}");
        }
        let one = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
        let other = rcgen::generate_simple_self_signed(["b.example".to_owned()]).unwrap();
        let both = file("both.pem", &format!("{one}{}", other.cert.pem()));
        assert_eq!(authorities(&both).unwrap().len(), 2);
        let half = file("half.pem", &format!("{one}{broken}"));
        assert!(authorities(&half).is_err());
    }
}
