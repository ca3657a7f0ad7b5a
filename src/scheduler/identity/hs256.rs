//! JWTs signed with a shared key: made by `jetcc auth`, shown by workers and clients.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::claims::Claims;
use super::settings::ClientJwtAuth;
use super::shown::{Shown, Unchecked, quoted};
use super::{Claimed, Unusable, unix_seconds};
use crate::job::{Pool, Tenant};
use crate::queue::Secret;

/// Role in a worker's token. Nothing that says so is ever looked at as a client's.
pub(super) const WORKER_ROLE: &str = "worker";
/// Role in a client's token, which may leave it out.
const CLIENT_ROLE: &str = "client";
/// The claim for a client's tenant in the tokens that we make.
const TENANT_CLAIM: &str = "tenant";

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
#[derive(Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(super) struct WorkerClaims {
    /// The worker's name; `*` lets it choose one.
    pub sub: String,
    /// Always `worker`.
    pub role: String,
    /// Pools it may serve.
    pub pools: Vec<Pool>,
    /// End of validity, Unix time in seconds.
    pub exp: u64,
}

/// What a client's token says.
#[derive(Debug, Serialize)]
struct ClientClaims {
    /// The person or service.
    sub: String,
    /// End of validity, Unix time in seconds.
    exp: u64,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    /// Whom it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<String>,
    /// Whose client it is; the settings name this claim in `tenant_claim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<Tenant>,
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
    let claims = WorkerClaims {
        sub: worker.to_owned(),
        role: WORKER_ROLE.to_owned(),
        pools,
        exp: expires_unix,
    };
    sign(key, &claims)
}

/// Makes a client's token that `rules` take.
///
/// # Errors
/// [`Unusable`] when the key is malformed, or the rules want a tenant in the token and none is given,
/// or the other way round.
pub fn client_token(
    rules: &ClientJwtAuth,
    user: &str,
    tenant: Option<Tenant>,
    expires_unix: u64,
) -> Result<Secret, Unusable> {
    let trouble = match (&tenant, rules.tenant_claim.as_deref()) {
        (None, None) | (Some(_), Some(TENANT_CLAIM)) => None,
        (None, Some(claim)) => Some(format!("clients have a tenant in the claim `{claim}`")),
        (Some(_), Some(claim)) => {
            Some(format!("`tenant_claim` is `{claim}`, wanted `{TENANT_CLAIM}`"))
        }
        (Some(_), None) => Some(format!("no `tenant_claim`, wanted `{TENANT_CLAIM}`")),
    };
    if let Some(trouble) = trouble {
        return Err(Unusable::Rule(format!("`client_auth` jwt_hs256: {trouble}")));
    }
    let claims = ClientClaims {
        sub: user.to_owned(),
        exp: expires_unix,
        iss: rules.issuer.clone(),
        aud: rules.audience.clone(),
        tenant,
    };
    Ok(sign(&rules.secret_key, &claims)?)
}

fn sign(key: &Secret, claims: &impl Serialize) -> Result<Secret, KeyError> {
    let key = EncodingKey::from_secret(&key_bytes(key, "secret_key")?);
    Ok(Secret::new(&jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)?))
}

/// The 32 bytes of a key in base64url.
///
/// # Errors
/// [`KeyError::Malformed`] naming the setting `what`.
pub fn key_bytes(key: &Secret, what: &'static str) -> Result<[u8; 32], KeyError> {
    let bytes = BASE64URL_NOPAD.decode(key.reveal().as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(KeyError::Malformed(what))
}

/// What a token says, after its signature and its times were checked.
///
/// # Errors
/// The library's.
pub(super) fn verify<T: DeserializeOwned>(
    token: &str,
    key: &DecodingKey,
    validation: Validation,
    leeway: u64,
) -> Result<T, String> {
    let validation = Validation { leeway, validate_nbf: true, ..validation };
    let decoded = jsonwebtoken::decode::<T>(token, key, &validation);
    decoded.map(|decoded| decoded.claims).map_err(|error| quoted(&error.to_string()))
}

/// `type = "jwt_hs256"` for clients.
pub(super) struct ClientJwt {
    rules: ClientJwtAuth,
    key: DecodingKey,
}

impl ClientJwt {
    /// # Errors
    /// When the key is malformed.
    pub(super) fn new(rules: &ClientJwtAuth) -> Result<Self, KeyError> {
        let key = key_bytes(&rules.secret_key, "client_auth.secret_key")?;
        Ok(Self { rules: rules.clone(), key: DecodingKey::from_secret(&key) })
    }

    /// The token, if it says that it was signed like this.
    pub(super) fn fits<'a>(&self, shown: &'a Shown<'_>) -> Option<&'a Unchecked> {
        let jwt = shown.jwt.as_ref().filter(|jwt| jwt.algorithm == "HS256")?;
        let issuer = self.rules.issuer.as_deref();
        (issuer.is_none() || issuer == jwt.issuer.as_deref()).then_some(jwt)
    }

    /// # Errors
    /// Why the token is not taken.
    pub(super) fn check(&self, token: &str, jwt: &Unchecked) -> Result<Claimed, String> {
        let ClientJwtAuth { leeway_seconds: leeway, tenant, tenant_claim, .. } = &self.rules;
        jwt.demands_nothing()?;
        let mut validation = Validation::new(Algorithm::HS256);
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &self.rules.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        match &self.rules.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        let claims: Claims = verify(token, &self.key, validation, *leeway)?;
        if claims.text("role").is_some_and(|role| role != CLIENT_ROLE) {
            return Err("its `role` is not `client`".into());
        }
        let now = unix_seconds();
        claims.made_by_now(*leeway, now)?;
        Ok(Claimed {
            expires: Some(claims.end(*leeway, now)?),
            user: Some(claims.user(Some("sub"))?),
            tenant: claims.tenant(tenant_claim.as_deref(), tenant.as_ref())?,
        })
    }
}
