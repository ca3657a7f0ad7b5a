//! A farm's own certificates: an authority that vouches for nats-server and, with mutual TLS, for
//! everybody who connects to it.
//!
//! X.509 version 3 with ECDSA keys on P-256. What a certificate is good for stands in its extended
//! key usage: a worker's cannot serve, the server's cannot connect.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use sha2::{Digest as _, Sha256};

use super::SetupError;
use crate::queue::Secret;

/// File of the authority's certificate, in a farm's folder.
pub const AUTHORITY: &str = "ca.pem";
/// File of its key.
pub const AUTHORITY_KEY: &str = "ca.key";
/// How long an authority is good, in seconds: ten years.
const AUTHORITY_SECONDS: u64 = 10 * 365 * 24 * 3_600;
/// Clocks may be behind ours by so much, in seconds: an hour.
const CLOCK_SECONDS: u64 = 3_600;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// nats-server: its names are hosts and addresses.
    Serve,
    /// Everybody else.
    Connect,
}

/// A certificate and its key, both PEM.
#[derive(Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key, PKCS #8.
    pub key: Secret,
}

/// Signs certificates.
pub struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// A new one, and its files.
    ///
    /// # Errors
    /// [`SetupError::Certificate`] when the system gives no random bytes.
    pub fn make() -> Result<(Self, Pair), SetupError> {
        let key = KeyPair::generate()?;
        let mut parameters = own_parameters(&key);
        set_validity(&mut parameters, &valid_for(AUTHORITY_SECONDS));
        let certificate = parameters.self_signed(&key)?.pem();
        let pair = Pair { certificate, key: Secret::new(&key.serialize_pem()) };
        Ok((Self(Issuer::new(parameters, key)), pair))
    }

    /// The one whose key is in `folder`.
    ///
    /// # Errors
    /// [`SetupError::Read`] or [`SetupError::Certificate`].
    pub fn open(folder: &Path) -> Result<Self, SetupError> {
        let path = folder.join(AUTHORITY_KEY);
        let key = fs::read_to_string(&path).map_err(|source| SetupError::Read { path, source })?;
        let key = KeyPair::from_pem(&key)?;
        Ok(Self(Issuer::new(own_parameters(&key), key)))
    }

    /// A certificate for `names`, good from and until Unix times in seconds.
    ///
    /// # Errors
    /// [`SetupError::Certificate`] when a name is neither a host's nor an address.
    pub fn sign(
        &self,
        purpose: Purpose,
        names: &[String],
        valid: &Range<u64>,
    ) -> Result<Pair, SetupError> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(names)?;
        let subject = names.first().map_or("jetcc", String::as_str);
        parameters.distinguished_name = common_name(subject);
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![match purpose {
            Purpose::Serve => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Connect => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        set_validity(&mut parameters, valid);
        let certificate = parameters.signed_by(&key, &self.0)?.pem();
        Ok(Pair { certificate, key: Secret::new(&key.serialize_pem()) })
    }
}

/// From an hour ago until `seconds` from now.
pub fn valid_for(seconds: u64) -> Range<u64> {
    super::seconds_from_now(0) - CLOCK_SECONDS..super::seconds_from_now(seconds)
}

/// What an authority says of itself. Its key is in its name: to confuse the authorities of two farms
/// shall look like that, not like a broken signature.
fn own_parameters(key: &KeyPair) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let farm = HEXLOWER.encode(&Sha256::digest(key.public_key_raw())[..8]);
    parameters.distinguished_name = common_name(&format!("jetcc farm {farm}"));
    // It signs certificates that can sign nothing themselves.
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(parameters: &mut CertificateParams, valid: &Range<u64>) {
    let unix = |seconds| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    parameters.not_before = unix(valid.start);
    parameters.not_after = unix(valid.end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::tls::{Certificate, worker_name};

    fn worker(authority: &Authority, id: &str) -> Certificate {
        let signed = authority.sign(Purpose::Connect, &[worker_name(id)], &valid_for(60)).unwrap();
        Certificate::from_pem(&signed.certificate).unwrap()
    }

    #[test]
    fn a_workers_certificate_is_for_its_name_alone() {
        let (authority, _) = Authority::make().unwrap();
        let all = worker(&authority, "*");
        for id in ["worker-1", "w_1", "17", "a"] {
            let own = worker(&authority, id);
            assert!(own.is_for(&worker_name(id)), "{id}");
            assert!(!own.is_for(&worker_name("other")), "{id}");
            assert!(!own.is_for("client.jetcc"), "{id}");
            assert!(all.is_for(&worker_name(id)), "{id}");
        }
        assert!(!all.is_for("client.jetcc") && !all.is_for("a.b.worker.jetcc"));
    }

    #[test]
    fn an_authority_that_was_written_signs_again() {
        let folder = tempfile::tempdir().unwrap();
        let (_, pair) = Authority::make().unwrap();
        fs::write(folder.path().join(AUTHORITY_KEY), pair.key.reveal()).unwrap();
        let again = Authority::open(folder.path()).unwrap();
        assert!(worker(&again, "w").is_for("w.worker.jetcc"));
        assert!(Authority::open(Path::new("/nonexistent")).is_err());
    }
}
