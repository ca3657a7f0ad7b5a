//! What the daemon shows the farm: the token of the moment. A login is renewed before its token ends,
//! by one process at a time and while compiles go on; the old token is good until its end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::task::JoinHandle;

use super::LoginError;
use super::file::{LoginFile, Stamp};
use super::provider::{self, Provider};
use super::tokens::Tokens;
use crate::client::settings::{Auth, OauthClient};
use crate::queue::Secret;

/// Pause after a renewal that failed.
const RETRY: Duration = Duration::from_secs(5);
/// Shortest pause of the task that renews: a provider may give tokens that have ended.
const KEEPER_REST: Duration = Duration::from_secs(1);
/// Longest pause of the task that renews: the clock may be set meanwhile, or the machine sleep.
const KEEPER_LOOK: Duration = Duration::from_secs(30);
/// How long a compile waits for the renewal of a token that has ended.
const RENEWAL_WAIT: Duration = Duration::from_secs(3);
/// Size of a file that holds one token.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Gives the token of the moment; cheap to clone.
#[derive(Clone, Debug)]
pub struct Bearer(Source);

#[derive(Clone, Debug)]
enum Source {
    Fixed(Secret),
    File(PathBuf),
    Login(Arc<Login>),
}

/// A login that is renewed at need.
#[derive(Debug)]
struct Login {
    client: OauthClient,
    file: Option<LoginFile>,
    provider: OnceCell<Provider>,
    held: Mutex<Held>,
    /// Held by whoever renews.
    turn: AsyncMutex<()>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// What was read or given last.
#[derive(Debug, Default)]
struct Held {
    tokens: Option<Tokens>,
    /// Which writing of the file they are from.
    stamp: Option<Stamp>,
    failure: Option<(Instant, LoginError)>,
}

impl Bearer {
    /// What the settings say; `folder` holds the logins.
    pub fn new(auth: Option<&Auth>, folder: Option<&Path>) -> Self {
        let login = |client: OauthClient| {
            let file = folder.map(|folder| LoginFile::of(&client, folder));
            Source::Login(Arc::new(Login {
                client,
                file,
                provider: OnceCell::new(),
                held: Mutex::default(),
                turn: AsyncMutex::default(),
                keeper: Mutex::default(),
            }))
        };
        Self(match auth {
            None => Source::Fixed(Secret::new("")),
            Some(Auth::Token { token }) => Source::Fixed(token.clone()),
            Some(Auth::TokenFile { token_file }) => Source::File(token_file.clone()),
            Some(
                Auth::Oauth2CodeGrantPkce(client) | Auth::Oauth2DeviceAuthorizationGrant(client),
            ) => login(client.clone()),
            Some(Auth::Mozilla) => login(OauthClient::mozilla()),
        })
    }

    /// The token to show now.
    ///
    /// # Errors
    /// [`LoginError`], mostly [`LoginError::NotLoggedIn`] or [`LoginError::Ended`].
    pub async fn current(&self) -> Result<Secret, LoginError> {
        match &self.0 {
            Source::Fixed(token) => Ok(token.clone()),
            Source::File(path) => read_token(path),
            Source::Login(login) => login.clone().current().await,
        }
    }
}

impl Login {
    async fn current(self: Arc<Self>) -> Result<Secret, LoginError> {
        let (tokens, failure) = self.look()?;
        self.keep();
        if !tokens.has_ended() {
            return Ok(tokens.bearer);
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let host = self.name();
        // A renewal goes on when nobody waits for it any more: the provider may already have
        // replaced the token that it was asked with.
        let renewal = tokio::spawn(async move { self.renew_if_stale().await });
        match tokio::time::timeout(RENEWAL_WAIT, renewal).await {
            Ok(renewed) => renewed.map_err(|_| LoginError::BrokeOff)?,
            Err(_) => Err(LoginError::Unreachable { host, message: "no answer in time".into() }),
        }
    }

    /// Makes sure that a task renews the login as long as this value lives.
    fn keep(self: &Arc<Self>) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.as_ref().is_none_or(JoinHandle::is_finished) {
            *keeper = Some(tokio::spawn(keep(Arc::downgrade(self))));
        }
    }

    /// How long nothing has to be done; `None` when nothing can be done any more.
    fn pause(&self) -> Option<Duration> {
        match self.look().ok()? {
            (tokens, Some(_)) if tokens.has_ended() => None,
            (_, Some(_)) => Some(RETRY),
            (tokens, None) => tokens.good_for().map(|good| good.clamp(KEEPER_REST, KEEPER_LOOK)),
        }
    }

    /// The tokens that are kept now, and how their renewal failed just now.
    fn look(&self) -> Result<(Tokens, Option<LoginError>), LoginError> {
        let file = self.file()?;
        let mut held = self.lock();
        if held.stamp != file.stamp() {
            // Somebody logged in, out, or renewed.
            *held = Held { stamp: file.stamp(), tokens: file.read()?, failure: None };
        }
        let not_logged_in = || LoginError::NotLoggedIn { provider: self.name() };
        let tokens = held.tokens.clone().ok_or_else(not_logged_in)?;
        let fresh = held.failure.iter().find(|(when, _)| when.elapsed() < RETRY);
        Ok((tokens, fresh.map(|(_, error)| error.clone())))
    }

    async fn renew_if_stale(&self) -> Result<Secret, LoginError> {
        let _turn = self.turn.lock().await;
        match self.look()? {
            (tokens, _) if !tokens.is_stale() => return Ok(tokens.bearer),
            (_, Some(error)) => return Err(error),
            (_, None) => {}
        }
        let renewed = self.renew().await;
        let mut held = self.lock();
        match renewed {
            Ok((tokens, stamp)) => {
                let bearer = tokens.bearer.clone();
                *held = Held { tokens: Some(tokens), stamp, failure: None };
                Ok(bearer)
            }
            Err(error) => {
                tracing::warn!(error = error.on_one_line(), "the login was not renewed");
                held.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Fresh tokens, from the provider unless another process was first.
    async fn renew(&self) -> Result<(Tokens, Option<Stamp>), LoginError> {
        let file = self.file()?;
        let lock = file.lock().await?;
        let Some(kept) = file.read()? else {
            return Err(LoginError::NotLoggedIn { provider: self.name() });
        };
        if !kept.is_stale() {
            return Ok((kept, file.stamp()));
        }
        let ended = |why: &str| LoginError::Ended { provider: self.name(), why: why.into() };
        let refresh = kept.refresh.ok_or_else(|| ended("the provider gave nothing to renew it"))?;
        let find = || Provider::find(self.client.clone());
        let renewed = self.provider.get_or_try_init(find).await?.renew(&refresh).await;
        let mut fresh = renewed.map_err(|error| match error {
            LoginError::Refused { words, .. } => ended(&words),
            other => other,
        })?;
        fresh.who = fresh.who.or(kept.who);
        file.write(&fresh, &lock)?;
        tracing::info!(provider = self.name(), "the login was renewed");
        Ok((fresh, file.stamp()))
    }

    fn file(&self) -> Result<&LoginFile, LoginError> {
        self.file.as_ref().ok_or(LoginError::NoFolder)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> String {
        provider::name(&self.client).to_owned()
    }
}

/// Renews a login each time that its token comes near its end.
async fn keep(login: Weak<Login>) {
    while let Some(pause) = login.upgrade().and_then(|login| login.pause()) {
        tokio::time::sleep(pause).await;
        let Some(login) = login.upgrade() else { return };
        // A failure is kept and was logged.
        let _ = login.renew_if_stale().await;
    }
}

/// The token in a file that others keep fresh.
fn read_token(path: &Path) -> Result<Secret, LoginError> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text));
    let trouble = |message: String| LoginError::File { path: path.display().to_string(), message };
    read.map_err(|error| trouble(error.to_string()))?;
    let token = Secret::new(&text);
    if token.reveal().is_empty() { Err(trouble("is empty".into())) } else { Ok(token) }
}
