//! Who a caller is: a shared client token or a worker's HS256 token becomes a name with rights.

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::settings::{ClientAuth, ServerAuth, Settings};
use crate::job::{ClientId, Pool, Principal, Space, Tenant, User, WorkerId};
use crate::queue::Secret;
use crate::queue::callout::{Admission, Caller};
use crate::queue::permissions::{self, CLIENT_ACCOUNT, Uploads, WORKER_ACCOUNT};

/// Role named in a worker's token; nothing else is accepted.
const WORKER_ROLE: &str = "worker";
/// Clocks of schedulers and token makers may differ by this much, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// A key or token that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not 32 bytes of base64url.
    #[error(
        "`{0}` is not 32 bytes in base64url without padding\nhint: make one with `jetcc auth generate-jwt-hs256-key`"
    )]
    Malformed(&'static str),
    /// The token could not be signed.
    #[error("token cannot be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// What a worker's token says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerClaims {
    /// The worker's name; `*` lets it choose one.
    pub sub: String,
    /// Always [`WORKER_ROLE`].
    pub role: String,
    /// Pools it may serve.
    pub pools: Vec<Pool>,
    /// End of validity, Unix time in seconds.
    pub exp: u64,
}

/// Makes a worker's token.
///
/// # Errors
/// [`KeyError`] when the key is malformed or signing fails.
pub fn worker_token(
    key: &Secret,
    worker: &str,
    pools: Vec<Pool>,
    expires_unix: u64,
) -> Result<Secret, KeyError> {
    let key = EncodingKey::from_secret(&key_bytes(key, "secret_key")?);
    let claims = WorkerClaims {
        sub: worker.to_owned(),
        role: WORKER_ROLE.to_owned(),
        pools,
        exp: expires_unix,
    };
    Ok(Secret::new(&jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?))
}

/// The 32 bytes of a key in base64url.
///
/// # Errors
/// [`KeyError::Malformed`] naming the setting `what`.
pub fn key_bytes(key: &Secret, what: &'static str) -> Result<[u8; 32], KeyError> {
    let bytes = BASE64URL_NOPAD.decode(key.reveal().as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(KeyError::Malformed(what))
}

/// Decides about a caller; the text of a refusal is for the operator.
///
/// # Errors
/// Why the caller is not let in.
pub fn admit(caller: &Caller, settings: &Settings) -> Result<Admission, String> {
    for ClientAuth::Token { token, tenant } in &settings.client_auth {
        if same(token, &caller.secret) {
            return admit_client(&caller.user, tenant.as_ref(), settings);
        }
    }
    let ServerAuth::JwtHs256 { secret_key } = &settings.server_auth;
    admit_worker(&caller.user, &caller.secret, secret_key)
}

/// Whose share a client's jobs count against, and with whom it shares: its tenant's; where the farm
/// names none, its own share, and everything with everybody.
///
/// # Errors
/// When the name is that of the space that all share.
fn tenant_and_space(
    id: &ClientId,
    named: Option<&Tenant>,
    settings: &Settings,
) -> Result<(Tenant, Space), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let Some(tenant) = named else {
        // Clients and tenants have the same alphabet.
        let own = id.as_str().parse().map_err(|error| text(&error))?;
        return Ok((own, Space::shared()));
    };
    if tenant.as_str() == Space::shared().as_str() {
        return Err(format!("`{tenant}` cannot be a tenant's name"));
    }
    let space = match settings.tenants_share_results {
        true => Space::shared(),
        false => tenant.as_str().parse().map_err(|error| text(&error))?,
    };
    Ok((tenant.clone(), space))
}

fn admit_client(
    user: &str,
    tenant: Option<&Tenant>,
    settings: &Settings,
) -> Result<Admission, String> {
    let id: ClientId = user.parse().map_err(|error| format!("{error}"))?;
    let (tenant, space) = tenant_and_space(&id, tenant, settings)?;
    let principal = Principal { tenant, space, client: id, user: User::new(user) };
    Ok(Admission {
        name: principal.to_string(),
        account: CLIENT_ACCOUNT,
        permissions: permissions::client(&principal.client, &principal.space, Uploads::Allowed),
        expires: None,
    })
}

fn admit_worker(user: &str, token: &Secret, key: &Secret) -> Result<Admission, String> {
    let id: WorkerId = user.parse().map_err(|error| format!("{error}"))?;
    let key = key_bytes(key, "server_auth.secret_key").map_err(|error| error.to_string())?;
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode::<WorkerClaims>(
        token.reveal(),
        &DecodingKey::from_secret(&key),
        &validation,
    );
    let claims =
        decoded.map_err(|error| format!("neither client token nor worker token: {error}"))?.claims;
    if claims.role != WORKER_ROLE {
        return Err(format!("token has role `{}`, wanted `{WORKER_ROLE}`", claims.role));
    }
    if claims.sub != "*" && claims.sub != id.as_str() {
        return Err(format!("token is for worker `{}`, not `{id}`", claims.sub));
    }
    Ok(Admission {
        name: id.as_str().to_owned(),
        account: WORKER_ACCOUNT,
        permissions: permissions::worker(&id, &claims.pools),
        expires: Some(claims.exp),
    })
}

/// Equality in a time that does not depend on where the secrets differ.
fn same(one: &Secret, other: &Secret) -> bool {
    // The key only has to be the same on both sides of this comparison.
    let mac = |secret: &Secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"jetcc token comparison").ok()?;
        mac.update(secret.reveal().as_bytes());
        Some(mac)
    };
    match (mac(one), mac(other)) {
        (Some(one), Some(other)) => one.verify_slice(&other.finalize().into_bytes()).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Secret {
        Secret::new(&BASE64URL_NOPAD.encode(&[byte; 32]))
    }

    #[test]
    fn a_worker_token_names_its_worker_and_pools() {
        let pools = vec![Pool::of_this_machine()];
        let far = 4_000_000_000;
        let token = worker_token(&key(1), "w1", pools.clone(), far).unwrap();
        let admitted = admit_worker("w1", &token, &key(1)).unwrap();
        assert_eq!((admitted.account, admitted.expires), (WORKER_ACCOUNT, Some(far)));
        assert!(admit_worker("w2", &token, &key(1)).is_err());
        assert!(admit_worker("w1", &token, &key(2)).is_err());
        let expired = worker_token(&key(1), "w1", pools.clone(), 1_000).unwrap();
        assert!(admit_worker("w1", &expired, &key(1)).is_err());
        let any = worker_token(&key(1), "*", pools, far).unwrap();
        assert!(admit_worker("w9", &any, &key(1)).is_ok());
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same(&Secret::new("abc"), &Secret::new("abc\n")));
        assert!(!same(&Secret::new("abc"), &Secret::new("abcd")));
    }

    #[test]
    fn a_malformed_key_says_how_to_make_one() {
        let error = worker_token(&Secret::new("my secret key"), "w", Vec::new(), 1).unwrap_err();
        assert!(error.to_string().contains("generate-jwt-hs256-key"), "{error}");
    }
}
