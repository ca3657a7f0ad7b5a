//! The server asks who may connect: reads its question, writes and signs the answer.
//!
//! Format: NATS auth callout (ADR-26): JWTs signed with ed25519 nkeys, header
//! `{"typ":"JWT","alg":"ed25519-nkey"}`. Policy is not here; see the scheduler's identity.

use std::sync::Arc;

use async_nats::Subscriber;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use futures_util::StreamExt as _;
use nkeys::KeyPair;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::connect::{Connection, QueueError, Secret};
use super::permissions::Permissions;
use super::subjects;
use super::tls::Certificate;

/// Largest question, in bytes.
const QUESTION_BYTES_MAX: usize = 64 << 10;

/// Why a question could not be read or an answer not be signed.
#[derive(Debug, thiserror::Error)]
pub enum CalloutError {
    /// Not a JWT, not signed by its issuer, or with fields missing.
    #[error("callout question is malformed: {0}")]
    Malformed(&'static str),
    /// The issuer's seed is unusable.
    #[error("callout seed is not an account seed (`SA…`): {0}")]
    Seed(String),
}

/// Somebody who wants to connect.
#[derive(Debug)]
pub struct Caller {
    /// User name it gave.
    pub user: String,
    /// Password or token it gave.
    pub secret: Secret,
    /// Address it comes from.
    pub host: String,
    /// What it showed, if the server asks for certificates.
    pub certificate: Option<Certificate>,
    /// Public key of the connection, to be echoed.
    user_key: String,
    server_id: String,
    reply: Option<async_nats::Subject>,
}

/// What it may do.
#[derive(Debug)]
pub struct Admission {
    /// Name under which the server knows it: a [`Principal`](crate::job::Principal) or a worker id.
    pub name: String,
    /// Account it joins.
    pub account: &'static str,
    /// Its rights.
    pub permissions: Permissions,
    /// When the connection has to end, Unix time in seconds.
    pub expires: Option<u64>,
    /// How it was known, for the log.
    pub by: String,
}

/// The questions of one farm's servers.
pub struct Callout {
    questions: Subscriber,
    answers: Answers,
}

/// Answers them, in any order, with the farm's account key; cheap to clone.
#[derive(Clone)]
pub struct Answers {
    connection: Connection,
    issuer: Arc<KeyPair>,
}

#[derive(Deserialize)]
struct Question {
    iss: String,
    nats: QuestionBody,
}

#[derive(Deserialize)]
struct QuestionBody {
    user_nkey: String,
    server_id: ServerId,
    #[serde(default)]
    client_info: ClientInfo,
    #[serde(default)]
    client_tls: ClientTls,
    connect_opts: ConnectOptions,
}

#[derive(Deserialize)]
struct ServerId {
    id: String,
}

#[derive(Default, Deserialize)]
struct ClientInfo {
    #[serde(default)]
    host: String,
}

#[derive(Default, Deserialize)]
struct ClientTls {
    /// In PEM, each from the caller's own to an authority's. The server verified them.
    #[serde(default)]
    verified_chains: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct ConnectOptions {
    #[serde(default)]
    user: String,
    #[serde(default)]
    pass: String,
    #[serde(default)]
    auth_token: String,
}

impl Callout {
    /// Starts to answer, together with the other schedulers.
    ///
    /// # Errors
    /// [`CalloutError::Seed`] when `seed` is no account seed, or the connection is gone.
    pub async fn open(connection: Connection, seed: &Secret) -> Result<Self, QueueError> {
        let issuer = key(seed).map_err(|error| QueueError::BadAnswer {
            subject: subjects::AUTH_CALLOUT.into(),
            message: error.to_string(),
        })?;
        let questions = connection.share(subjects::AUTH_CALLOUT).await?;
        Ok(Self { questions, answers: Answers { connection, issuer: Arc::new(issuer) } })
    }

    /// Answers questions beside those that come next.
    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }

    /// The next caller; `None` when the connection is closed for good.
    pub async fn next(&mut self) -> Option<Caller> {
        loop {
            let message = self.questions.next().await?;
            match read(&message.payload) {
                Ok(mut caller) => {
                    caller.reply = message.reply;
                    return Some(caller);
                }
                Err(error) => tracing::warn!(%error, "callout question dropped"),
            }
        }
    }
}

impl Answers {
    /// Lets the caller in, or not: the refusal goes to the server's log.
    pub async fn answer(&self, caller: &Caller, decision: Result<Admission, String>) {
        let Some(reply) = caller.reply.clone() else { return };
        match self.response(caller, decision) {
            Ok(token) => {
                if let Err(error) = self.connection.client().publish(reply, token.into()).await {
                    tracing::warn!(%error, "callout answer was not sent");
                }
            }
            Err(error) => tracing::error!(%error, "callout answer was not signed"),
        }
    }

    fn response(
        &self,
        caller: &Caller,
        decision: Result<Admission, String>,
    ) -> Result<String, nkeys::error::Error> {
        let (jwt, error) = match decision {
            Ok(admission) => (self.user_token(caller, &admission)?, String::new()),
            Err(refusal) => (String::new(), refusal),
        };
        self.sign(json!({
            "sub": caller.user_key,
            "aud": caller.server_id,
            "nats": {"jwt": jwt, "error": error, "type": "authorization_response", "version": 2},
        }))
    }

    fn user_token(
        &self,
        caller: &Caller,
        admission: &Admission,
    ) -> Result<String, nkeys::error::Error> {
        let mut claims = json!({
            "sub": caller.user_key,
            "aud": admission.account,
            "name": admission.name,
            "nats": {
                "pub": {"allow": admission.permissions.publish},
                "sub": {"allow": admission.permissions.subscribe},
                "subs": -1, "data": -1, "payload": -1,
                "type": "user", "version": 2,
            },
        });
        if let Some(expires) = admission.expires {
            claims["exp"] = expires.into();
        }
        self.sign(claims)
    }

    fn sign(&self, mut claims: Value) -> Result<String, nkeys::error::Error> {
        claims["iss"] = self.issuer.public_key().into();
        claims["iat"] = unix_seconds().into();
        claims["jti"] = BASE32_NOPAD.encode(&Sha256::digest(claims.to_string())).into();
        let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
        let body = BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
        let input = format!("{header}.{body}");
        let signature = BASE64URL_NOPAD.encode(&self.issuer.sign(input.as_bytes())?);
        Ok(format!("{input}.{signature}"))
    }
}

/// A fresh account key: public part for the server, seed for the schedulers.
///
/// # Errors
/// [`CalloutError::Seed`] when the key cannot be written down.
pub fn generate_issuer() -> Result<(String, Secret), CalloutError> {
    let pair = KeyPair::new_account();
    let seed = pair.seed().map_err(|error| CalloutError::Seed(error.to_string()))?;
    Ok((pair.public_key(), Secret::new(&seed)))
}

/// The key pair of an account seed.
fn key(seed: &Secret) -> Result<KeyPair, CalloutError> {
    let pair = KeyPair::from_seed(seed.reveal());
    let pair = pair.map_err(|error| CalloutError::Seed(error.to_string()))?;
    if pair.public_key().starts_with('A') {
        Ok(pair)
    } else {
        Err(CalloutError::Seed("another kind of seed".into()))
    }
}

/// Reads one question.
///
/// # Errors
/// [`CalloutError::Malformed`] when it is too long, no JWT, or not signed by a server.
pub fn read(payload: &[u8]) -> Result<Caller, CalloutError> {
    if payload.len() > QUESTION_BYTES_MAX {
        return Err(CalloutError::Malformed("too long"));
    }
    let text = std::str::from_utf8(payload).map_err(|_| CalloutError::Malformed("not text"))?;
    let (input, signature) = text.rsplit_once('.').ok_or(CalloutError::Malformed("not a JWT"))?;
    let (_, body) = input.split_once('.').ok_or(CalloutError::Malformed("not a JWT"))?;
    let decode = |part: &str| {
        BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| CalloutError::Malformed("not base64"))
    };
    let question: Question = serde_json::from_slice(&decode(body)?)
        .map_err(|_| CalloutError::Malformed("fields are missing"))?;
    let server = KeyPair::from_public_key(&question.iss)
        .map_err(|_| CalloutError::Malformed("issuer is not a key"))?;
    let signed = question.iss.starts_with('N')
        && server.verify(input.as_bytes(), &decode(signature)?).is_ok();
    if !signed {
        return Err(CalloutError::Malformed("not signed by a server"));
    }
    let QuestionBody { user_nkey, server_id, client_info, client_tls, connect_opts } =
        question.nats;
    let ConnectOptions { user, pass, auth_token } = connect_opts;
    let secret = Secret::new(if pass.is_empty() { &auth_token } else { &pass });
    Ok(Caller {
        user,
        secret,
        host: client_info.host,
        certificate: client_tls.own(),
        user_key: user_nkey,
        server_id: server_id.id,
        reply: None,
    })
}

impl ClientTls {
    /// The caller's own; every chain begins with it.
    fn own(&self) -> Option<Certificate> {
        Certificate::from_pem(self.verified_chains.first()?.first()?)
    }
}

fn unix_seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_must_be_signed_by_a_server() {
        let server = KeyPair::new_server();
        let claims = json!({
            "iss": server.public_key(),
            "nats": {
                "user_nkey": "U", "server_id": {"id": "S"},
                "connect_opts": {"user": "c1", "pass": "token"},
            },
        });
        let input = format!(
            "{}.{}",
            BASE64URL_NOPAD.encode(b"{}"),
            BASE64URL_NOPAD.encode(claims.to_string().as_bytes())
        );
        let sign = |by: &KeyPair| {
            format!("{input}.{}", BASE64URL_NOPAD.encode(&by.sign(input.as_bytes()).unwrap()))
        };
        assert_eq!(read(sign(&server).as_bytes()).unwrap().user, "c1");
        assert!(read(sign(&KeyPair::new_server()).as_bytes()).is_err());
        for junk in [&b""[..], b".", b"a.b.c", b"\xff.\xff.\xff"] {
            assert!(read(junk).is_err());
        }
    }
}
