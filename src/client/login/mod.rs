//! Who this client is: logging in at an OAuth 2 or OpenID provider, keeping the tokens, renewing
//! them, and showing the farm the one of the moment.
//!
//! Called by `jetcc --dist-auth` ([`log_in`]) and by the daemon's link ([`Bearer`]). Promises: a token
//! is in the login's file (mode 0600) and in memory and nowhere else; a login is renewed by one process
//! at a time, and never left half renewed.
//!
//! Reading order: this file (the story of a login), [`provider`], [`code_grant`], [`device_grant`],
//! [`tokens`], [`file`], [`bearer`], and [`http`], which they all speak through.

mod bearer;
mod code_grant;
mod device_grant;
mod file;
mod http;
mod provider;
mod tokens;

use std::path::Path;
use std::time::Duration;

pub use self::bearer::Bearer;
use self::code_grant::Browser;
use self::file::LoginFile;
use self::provider::Provider;
use super::settings::{Auth, OauthClient};

/// How long a user may take to log in.
const LOGIN_MAX: Duration = Duration::from_secs(600);
/// Bytes of randomness in what nobody may guess.
const RANDOM_BYTES: usize = 32;

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoginError {
    /// The settings name a token and no provider.
    #[error(
        "`dist.auth.type` is {0}: there is nobody to log in to\nhint: \
         `oauth2_code_grant_pkce` or `oauth2_device_authorization_grant` in the client's settings"
    )]
    NoProvider(&'static str),
    /// An address is missing.
    #[error("`dist.auth.{0}` is missing, and no `dist.auth.issuer` says it")]
    NoAddress(&'static str),
    /// Tokens must not travel to such an address.
    #[error("`{0}`: wanted an `https://` address, or `http://` on the loopback")]
    Address(String),
    /// No address of this machine that a browser can come back to.
    #[error("`{uri}` cannot be listened on: {message}")]
    Redirect {
        /// The settings' addresses.
        uri: String,
        /// Why.
        message: String,
    },
    /// No answer.
    #[error("`{host}` is not reachable: {message}")]
    Unreachable {
        /// The provider's host.
        host: String,
        /// The network's words.
        message: String,
    },
    /// An answer that breaks the standards.
    #[error("`{host}` gave a bad answer: {message}")]
    BadAnswer {
        /// The provider's host.
        host: String,
        /// What was wrong.
        message: String,
    },
    /// The provider says no.
    #[error("`{host}` refused: {words}")]
    Refused {
        /// The provider's host.
        host: String,
        /// The error's code, as RFC 6749 lists them.
        code: String,
        /// Its code and description.
        words: String,
    },
    /// The user did not come back in time.
    #[error("nobody logged in within {} minutes", LOGIN_MAX.as_secs() / 60)]
    TooLate,
    /// No file of a login.
    #[error("nobody is logged in at `{provider}`\nhint: run `jetcc --dist-auth`")]
    NotLoggedIn {
        /// Where.
        provider: String,
    },
    /// The token has ended and cannot be renewed.
    #[error("the login at `{provider}` has ended ({why})\nhint: run `jetcc --dist-auth`")]
    Ended {
        /// Where.
        provider: String,
        /// Why it was not renewed.
        why: String,
    },
    /// A file of tokens that cannot be used.
    #[error("`{path}`: {message}")]
    File {
        /// Which.
        path: String,
        /// Why.
        message: String,
    },
    /// No folder for files of logins.
    #[error("there is no folder for logins\nhint: set `login_dir` or `HOME`")]
    NoFolder,
    /// The task that renews came to an end of its own.
    #[error("the renewal broke off")]
    BrokeOff,
    /// The system has no randomness.
    #[error("no random numbers: {0}")]
    NoRandom(String),
}

impl LoginError {
    /// On one line, for the detail of a reason.
    pub fn on_one_line(&self) -> String {
        self.to_string().replace("\nhint: ", "; ")
    }
}

/// Where the user's browser is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// On this machine, where it comes back by itself.
    Browser,
    /// On any machine, where the user types a code.
    Device,
}

/// What the user wants besides the settings.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The way; chosen by settings and surroundings when absent.
    pub way: Option<Way>,
    /// How to open a page in this user's browser, as `$BROWSER` has it, if there is one.
    pub browser: Option<String>,
}

/// Somebody who has logged in.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    /// As the provider calls him.
    pub who: Option<String>,
    /// Where.
    pub provider: String,
    /// When the token ends, Unix time in seconds.
    pub expires: Option<u64>,
    /// Whether it is renewed then.
    pub renewable: bool,
}

/// Logs in as the settings say and keeps the tokens; `say` is told what the user shall do.
///
/// # Errors
/// [`LoginError`]; nothing is kept then.
pub async fn log_in(
    auth: Option<&Auth>,
    folder: Option<&Path>,
    wish: Wish,
    say: &(dyn Fn(&str) + Sync),
) -> Result<LoggedIn, LoginError> {
    let (client, device) = match auth {
        None => return Err(LoginError::NoProvider("missing")),
        Some(Auth::Token { .. }) => return Err(LoginError::NoProvider("`token`")),
        Some(Auth::TokenFile { .. }) => return Err(LoginError::NoProvider("`token_file`")),
        Some(Auth::Oauth2CodeGrantPkce(client)) => (client.clone(), false),
        Some(Auth::Oauth2DeviceAuthorizationGrant(client)) => (client.clone(), true),
        Some(Auth::Mozilla) => (OauthClient::mozilla(), false),
    };
    let file = LoginFile::of(&client, folder.ok_or(LoginError::NoFolder)?);
    let provider = Provider::find(client).await?;
    let way = wish.way.unwrap_or(match (device, &wish.browser, provider.serves_devices()) {
        (true, _, _) | (false, None, true) => Way::Device,
        _ => Way::Browser,
    });
    say(&format!("logging in at `{}`", provider.name()));
    let granted = async {
        match way {
            Way::Browser => {
                code_grant::ask(&provider, wish.browser.as_deref().map(Browser), say).await
            }
            Way::Device => device_grant::ask(&provider, say).await,
        }
    };
    let granted = tokio::time::timeout(LOGIN_MAX, granted).await;
    let tokens = granted.map_err(|_| LoginError::TooLate)??;
    let lock = file.lock().await?;
    file.write(&tokens, &lock)?;
    Ok(LoggedIn {
        who: tokens.who.clone(),
        provider: provider.name().to_owned(),
        expires: tokens.expires,
        renewable: tokens.refresh.is_some(),
    })
}

/// A random text of [`RANDOM_BYTES`], safe in a URL.
fn random_text() -> Result<String, LoginError> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| LoginError::NoRandom(error.to_string()))?;
    Ok(data_encoding::BASE64URL_NOPAD.encode(&bytes))
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A provider's words as a terminal may show them.
fn plain(words: &str) -> String {
    const WORDS_MAX: usize = 500;
    words.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect()
}
