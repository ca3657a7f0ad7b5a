//! `[server_auth]`: how workers show who they are.

use std::net::IpAddr;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::hs256::{KeyError, WORKER_ROLE, WorkerClaims, key_bytes, verify};
use super::settings::ServerAuth;
use super::shown::{Shown, Unchecked};
use super::token::same;
use crate::job::wire::INSECURE_WORKER;
use crate::job::{Pool, WorkerId};
use crate::queue::Secret;

/// Clocks of schedulers and token makers may differ by this much, in seconds.
const LEEWAY_SECONDS: u64 = 30;

pub(super) enum Workers {
    Jwt(DecodingKey),
    Token(Secret, Vec<Pool>),
    Everybody(Vec<Pool>),
}

/// What a worker's token entitles to.
#[derive(Debug)]
pub(super) struct Entitled {
    pub(super) pools: Vec<Pool>,
    pub(super) expires: Option<u64>,
}

impl Workers {
    /// # Errors
    /// When the key is malformed.
    pub(super) fn new(rules: &ServerAuth) -> Result<Self, KeyError> {
        Ok(match rules {
            ServerAuth::JwtHs256 { secret_key } => {
                let key = key_bytes(secret_key, "server_auth.secret_key")?;
                Self::Jwt(DecodingKey::from_secret(&key))
            }
            ServerAuth::Token { token, pools } => Self::Token(token.clone(), pools.clone()),
            ServerAuth::InsecureEverybodyOnThisMachine { pools } => Self::Everybody(pools.clone()),
        })
    }

    /// Whether the caller comes as a worker. A token that says so is never shown to anybody who
    /// checks clients.
    pub(super) fn fits(&self, shown: &Shown<'_>) -> bool {
        // An issuer of clients' tokens may know roles of its own.
        let says_so = |jwt: &Unchecked| {
            jwt.role.as_deref() == Some(WORKER_ROLE)
                && jwt.issuer.is_none()
                && jwt.algorithm == "HS256"
        };
        match (self, &shown.jwt) {
            (_, Some(jwt)) => says_so(jwt),
            (Self::Jwt(_), None) => false,
            (Self::Token(token, _), None) => same(token, shown.secret),
            (Self::Everybody(_), None) => shown.secret.reveal() == INSECURE_WORKER,
        }
    }

    /// # Errors
    /// Why the worker is not let in.
    pub(super) fn check(
        &self,
        id: &WorkerId,
        host: &str,
        shown: &Shown<'_>,
    ) -> Result<Entitled, String> {
        match (self, &shown.jwt) {
            (Self::Jwt(key), Some(jwt)) => {
                jwt.demands_nothing()?;
                check_jwt(id, shown.secret.reveal(), key)
            }
            (Self::Token(_, pools), None) => Ok(Entitled { pools: pools.clone(), expires: None }),
            (Self::Everybody(pools), None) => {
                on_this_machine(host)?;
                Ok(Entitled { pools: pools.clone(), expires: None })
            }
            _ => Err(format!("`server_auth` does not take {}", shown.kind())),
        }
    }
}

fn check_jwt(id: &WorkerId, token: &str, key: &DecodingKey) -> Result<Entitled, String> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_aud = false;
    let claims: WorkerClaims = verify(token, key, validation, LEEWAY_SECONDS)?;
    if claims.role != WORKER_ROLE {
        return Err(format!("its role is `{}`, wanted `{WORKER_ROLE}`", claims.role));
    }
    if claims.sub != "*" && claims.sub != id.as_str() {
        return Err(format!("it is for worker `{}`, not `{id}`", claims.sub));
    }
    Ok(Entitled { pools: claims.pools, expires: Some(claims.exp) })
}

/// Where nothing else is checked, the caller's address is: as the server sees it.
///
/// # Errors
/// When it is not an address of the loopback.
pub(super) fn on_this_machine(host: &str) -> Result<(), String> {
    match host.parse::<IpAddr>() {
        Ok(address) if address.to_canonical().is_loopback() => Ok(()),
        _ => Err(format!("insecure: `{host}` is not this machine")),
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;

    use super::super::hs256::worker_token;
    use super::*;

    fn key(byte: u8) -> Secret {
        Secret::new(&BASE64URL_NOPAD.encode(&[byte; 32]))
    }

    fn check(key: &Secret, worker: &str, token: &Secret) -> Result<Entitled, String> {
        let workers = Workers::new(&ServerAuth::JwtHs256 { secret_key: key.clone() }).unwrap();
        let shown = Shown::read(token).unwrap();
        assert!(workers.fits(&shown));
        workers.check(&worker.parse().unwrap(), "10.0.0.1", &shown)
    }

    #[test]
    fn a_worker_token_names_its_worker_and_pools() {
        let pools = vec![Pool::of_this_machine()];
        let far = 4_000_000_000;
        let token = worker_token(&key(1), "w1", pools.clone(), far).unwrap();
        let entitled = check(&key(1), "w1", &token).unwrap();
        assert_eq!((&entitled.pools, entitled.expires), (&pools, Some(far)));
        assert!(check(&key(1), "w2", &token).is_err());
        assert!(check(&key(2), "w1", &token).is_err());
        let expired = worker_token(&key(1), "w1", pools.clone(), 1_000).unwrap();
        assert!(check(&key(1), "w1", &expired).unwrap_err().contains("ExpiredSignature"));
        let any = worker_token(&key(1), "*", pools, far).unwrap();
        assert!(check(&key(1), "w9", &any).is_ok());
    }

    #[test]
    fn a_shared_token_lets_a_worker_choose_its_name() {
        let pools = vec!["linux-riscv64".parse().unwrap()];
        let rules = ServerAuth::Token { token: Secret::new("wt"), pools: pools.clone() };
        let workers = Workers::new(&rules).unwrap();
        let (right, wrong) = (Secret::new("wt"), Secret::new("wtx"));
        assert!(!workers.fits(&Shown::read(&wrong).unwrap()));
        let shown = Shown::read(&right).unwrap();
        assert!(workers.fits(&shown));
        let entitled = workers.check(&"w1".parse().unwrap(), "10.0.0.1", &shown).unwrap();
        assert_eq!((entitled.pools, entitled.expires), (pools, None));
    }

    #[test]
    fn where_nothing_is_checked_the_address_is() {
        for here in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert!(on_this_machine(here).is_ok(), "{here}");
        }
        for there in ["10.0.0.1", "172.17.0.1", "::", "", "localhost", "::ffff:10.0.0.1"] {
            assert!(on_this_machine(there).is_err(), "{there}");
        }
    }

    #[test]
    fn a_malformed_key_says_how_to_make_one() {
        let rules = ServerAuth::JwtHs256 { secret_key: Secret::new("my secret key") };
        let error = Workers::new(&rules).map(drop).unwrap_err();
        assert!(error.to_string().contains("generate-jwt-hs256-key"), "{error}");
    }
}
