//! What a provider gives: which token the farm is shown, whose it is, and until when.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::{now, plain};
use crate::client::settings::{BearerKind, OauthClient};
use crate::queue::Secret;

/// A token is renewed so many seconds before its end, or in the last fifth of a short life.
const RENEW_SECONDS: u64 = 60;

/// An answer of the token address, RFC 6749 section 5.1.
#[derive(Deserialize)]
pub(super) struct Answer {
    access_token: Secret,
    id_token: Option<Secret>,
    refresh_token: Option<Secret>,
    expires_in: Option<u64>,
}

/// Whom the tokens must be for.
pub(super) struct Expected<'a> {
    pub(super) client: &'a OauthClient,
    /// When they were asked for, Unix time in seconds: their lives begin no earlier.
    pub(super) asked: u64,
    /// What the ID token must repeat, if this grant sent something.
    pub(super) nonce: Option<&'a str>,
}

/// The tokens of a login.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(super) struct Tokens {
    /// What the farm is shown.
    pub(super) bearer: Secret,
    /// What it is renewed with.
    pub(super) refresh: Option<Secret>,
    /// When it was asked for, Unix time in seconds.
    pub(super) given: u64,
    /// When it ends; unknown when the provider does not say.
    pub(super) expires: Option<u64>,
    /// The user, as the provider calls him.
    pub(super) who: Option<String>,
}

/// The claims of a JWT that we read. Its signature is the farm's business: we have it from the
/// provider itself, over TLS.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Claims {
    iss: Option<String>,
    aud: Audience,
    exp: Option<f64>,
    iat: Option<f64>,
    nonce: Option<String>,
    preferred_username: Option<String>,
    email: Option<String>,
    sub: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Audience {
    fn names(&self, client_id: &str) -> bool {
        match self {
            Self::One(name) => name == client_id,
            Self::Several(names) => names.iter().any(|name| name == client_id),
        }
    }
}

impl Tokens {
    /// The tokens in `answer`.
    ///
    /// # Errors
    /// What makes them not ours: no token of the wanted kind, another issuer, client or nonce.
    pub(super) fn from_answer(answer: Answer, expected: &Expected<'_>) -> Result<Self, String> {
        let given = expected.asked;
        let id = match &answer.id_token {
            Some(token) => Some(claims(token).ok_or("the ID token is no JWT")?),
            None => None,
        };
        if let Some(id) = &id {
            check_id(id, expected)?;
        }
        let (bearer, read, life) = match expected.client.bearer {
            BearerKind::AccessToken => {
                let read = claims(&answer.access_token);
                (answer.access_token, read, answer.expires_in)
            }
            BearerKind::IdToken => {
                let missing = "it has no ID token; does `scope` ask for `openid`?";
                (answer.id_token.ok_or(missing)?, id.clone(), None)
            }
        };
        let ends = [
            read.as_ref().and_then(|read| read.end(given)),
            life.map(|seconds| given.saturating_add(seconds)),
        ];
        let expires = ends.into_iter().flatten().min();
        let who = id.or(read).and_then(Claims::who);
        Ok(Self { bearer, refresh: answer.refresh_token, given, expires, who })
    }

    /// Whether it is time to renew.
    pub(super) fn is_stale(&self) -> bool {
        self.good_for() == Some(Duration::ZERO)
    }

    /// How long until it is time to renew; `None` for a token without an end.
    pub(super) fn good_for(&self) -> Option<Duration> {
        let expires = self.expires?;
        let early = RENEW_SECONDS.min(expires.saturating_sub(self.given) / 5);
        Some(Duration::from_secs((expires - early).saturating_sub(now())))
    }

    /// Whether the farm would turn it away.
    pub(super) fn has_ended(&self) -> bool {
        self.expires.is_some_and(|expires| now() >= expires)
    }
}

impl Claims {
    /// When a token that was given at `given` ends, Unix time in seconds. Its own clock may differ
    /// from ours, its lifetime does not.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float saturates"
    )]
    fn end(&self, given: u64) -> Option<u64> {
        let seconds = match (self.exp?, self.iat) {
            (end, Some(made)) => given.saturating_add((end - made) as u64),
            (end, None) => end as u64,
        };
        Some(seconds)
    }

    fn who(self) -> Option<String> {
        self.preferred_username.or(self.email).or(self.sub).map(|name| plain(&name))
    }
}

fn check_id(id: &Claims, expected: &Expected<'_>) -> Result<(), String> {
    let Expected { client, nonce, .. } = expected;
    if client.issuer.is_some() && id.iss != client.issuer {
        return Err("the ID token is of another issuer".into());
    }
    if !id.aud.names(&client.client_id) {
        return Err("the ID token is for another client".into());
    }
    if nonce.is_some() && id.nonce.as_deref() != *nonce {
        return Err("the ID token is of another login (`nonce`)".into());
    }
    Ok(())
}

fn claims(token: &Secret) -> Option<Claims> {
    let payload = token.reveal().split('.').nth(1)?;
    serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: u64 = 2_000_000_000;

    fn token(claims: &str) -> Secret {
        Secret::new(&format!("e30.{}.c2ln", BASE64URL_NOPAD.encode(claims.as_bytes())))
    }

    fn tokens(kind: BearerKind, access: &str, id: Option<&str>) -> Result<Tokens, String> {
        let client: OauthClient =
            toml::from_str("client_id = 'jetcc'\nissuer = 'https://a.example'").unwrap();
        let client = OauthClient { bearer: kind, ..client };
        let answer = Answer {
            access_token: token(access),
            id_token: id.map(token),
            refresh_token: None,
            expires_in: Some(300),
        };
        let nonce = Some("n");
        Tokens::from_answer(answer, &Expected { client: &client, asked: ASKED, nonce })
    }

    #[test]
    fn an_id_token_must_be_for_this_login() {
        for (id, wanted) in [
            (r#"{"iss":"https://a.example","aud":"jetcc","nonce":"n"}"#, None),
            (r#"{"iss":"https://a.example","aud":["x","jetcc"],"nonce":"n"}"#, None),
            (r#"{"iss":"https://b.example","aud":"jetcc","nonce":"n"}"#, Some("issuer")),
            (r#"{"aud":"jetcc","nonce":"n"}"#, Some("issuer")),
            (r#"{"iss":"https://a.example","aud":"x","nonce":"n"}"#, Some("client")),
            (r#"{"iss":"https://a.example","nonce":"n"}"#, Some("client")),
            (r#"{"iss":"https://a.example","aud":"jetcc","nonce":"m"}"#, Some("nonce")),
            (r#"{"iss":"https://a.example","aud":"jetcc"}"#, Some("nonce")),
            ("3", Some("no JWT")),
        ] {
            let given = tokens(BearerKind::AccessToken, "{}", Some(id));
            match wanted {
                None => drop(given.unwrap()),
                Some(wanted) => assert!(given.unwrap_err().contains(wanted), "{id}"),
            }
        }
    }

    /// The provider's clock may be an hour behind: what counts is how long a token lives.
    #[test]
    fn a_token_ends_by_our_clock() {
        let behind = ASKED - 3_600;
        let claims = |life: u64| format!(r#"{{"iat":{behind},"exp":{}}}"#, behind + life);
        let end = |kind, access: &str, id: &str| {
            let id =
                id.replacen('{', r#"{"iss":"https://a.example","aud":"jetcc","nonce":"n","#, 1);
            tokens(kind, access, Some(&id)).unwrap().expires.unwrap() - ASKED
        };
        let access = BearerKind::AccessToken;
        assert_eq!(end(access, &claims(60), &claims(20)), 60);
        assert_eq!(end(access, &claims(600), &claims(20)), 300);
        assert_eq!(end(access, "opaque", &claims(20)), 300);
        assert_eq!(end(BearerKind::IdToken, &claims(60), &claims(900)), 900);
    }
}
