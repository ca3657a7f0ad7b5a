//! `type = "oidc"`: a JWT of an OpenID issuer, checked with the issuer's public keys.

use std::collections::HashSet;
use std::sync::Arc;

use jsonwebtoken::Validation;

use super::claims::Claims;
use super::issuer::Issuer;
use super::jwks::{Algorithm, Key, Keys, NoKey};
use super::settings::OidcAuth;
use super::shown::{Shown, Unchecked, quoted};
use super::{Claimed, unix_seconds};
use crate::queue::Secret;

pub(super) struct Oidc {
    pub(super) rules: OidcAuth,
    pub(super) issuer: Arc<Issuer>,
}

impl Oidc {
    /// # Errors
    /// When nothing can be asked over the network at all.
    pub(super) fn new(rules: &OidcAuth) -> Result<Self, String> {
        let issuer = Arc::new(Issuer::new(rules.issuer.clone())?);
        Ok(Self { rules: rules.clone(), issuer })
    }

    /// The token, if it says that it comes from this issuer.
    pub(super) fn fits<'a>(&self, shown: &'a Shown<'_>) -> Option<&'a Unchecked> {
        shown.jwt_of(self.rules.issuer.as_str())
    }

    /// # Errors
    /// Why the token is not taken.
    pub(super) async fn check(&self, token: &str, jwt: &Unchecked) -> Result<Claimed, String> {
        let algorithm = taken(&self.rules, jwt)?;
        let key = self.issuer.key(jwt.key_id.as_deref(), algorithm).await?;
        verify(&self.rules, token, &key, unix_seconds())
    }
}

/// What an issuer's token says of its bearer at `now` (Unix time in seconds): [`Oidc::check`] with
/// keys that are at hand.
///
/// # Errors
/// Why the token is not taken.
pub fn check(rules: &OidcAuth, keys: &Keys, token: &Secret, now: u64) -> Result<Claimed, String> {
    let shown = Shown::read(token)?;
    let jwt = shown.jwt_of(rules.issuer.as_str()).ok_or("it is not of this issuer")?;
    let key = keys.find(jwt.key_id.as_deref(), taken(rules, jwt)?);
    let key = key.map_err(|(NoKey::Unknown(why) | NoKey::Unfit(why))| why)?;
    verify(rules, token.reveal(), key, now)
}

/// The algorithm that checks a token's signature: one of ours.
fn taken(rules: &OidcAuth, jwt: &Unchecked) -> Result<Algorithm, String> {
    jwt.demands_nothing()?;
    let taken = rules.algorithms.iter().find(|taken| taken.as_str() == jwt.algorithm);
    taken.copied().ok_or_else(|| format!("signatures by {} are not taken", quoted(&jwt.algorithm)))
}

/// Checks a token with the key that signed it, at `now` (Unix time in seconds; the library has a
/// clock of its own besides).
fn verify(rules: &OidcAuth, token: &str, key: &Key, now: u64) -> Result<Claimed, String> {
    let mut validation = Validation::new(key.algorithm.of_library());
    validation.leeway = rules.leeway_seconds;
    validation.validate_nbf = true;
    validation.set_issuer(&[rules.issuer.as_str()]);
    validation.set_audience(&[&rules.audience]);
    validation.required_spec_claims = HashSet::from(["exp", "iss", "aud", "sub"].map(String::from));
    let decoded = jsonwebtoken::decode::<Claims>(token, &key.key, &validation);
    let claims = decoded.map_err(|error| quoted(&error.to_string()))?.claims;
    claims.made_by_now(rules.leeway_seconds, now)?;
    let expires = claims.end(rules.leeway_seconds, now)?;
    claims.in_groups(&rules.groups_claim, &rules.required_groups)?;
    Ok(Claimed {
        user: Some(claims.user(rules.user_claim.as_deref())?),
        tenant: claims.tenant(rules.tenant_claim.as_deref(), rules.tenant.as_ref())?,
        expires: Some(expires),
    })
}

#[cfg(test)]
#[path = "oidc_tests.rs"]
mod tests;
