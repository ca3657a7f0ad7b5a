//! Settings of the client's daemon: `config.toml`.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use crate::queue::{Secret, TlsSettings};
use crate::store::StoreSettings;

/// `~/.config/jetcc/config.toml`; everything has a default, and without `[dist]` all compiles are
/// local.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The farm.
    pub dist: Dist,
    /// Where the daemon keeps its files; the user's cache folder when absent.
    pub cache_dir: Option<PathBuf>,
    /// Where the tokens of logins are kept; the user's state folder when absent.
    pub login_dir: Option<PathBuf>,
    /// The daemon leaves after so many seconds without a compile; 0 means never.
    pub idle_timeout_seconds: Option<u64>,
    /// Local compiles at once on this machine, all users together; the number of cores when absent.
    pub local_slots: Option<usize>,
    /// Most bytes of results that are kept in `cache_dir`; 0 keeps none.
    pub cache_size: Option<CacheSize>,
    /// Folders that checkouts are in: results that do not depend on which one are shared.
    pub base_dirs: Vec<PathBuf>,
    /// Whether results are only read from `cache_dir`, and none are kept.
    pub cache_readonly: bool,
}

/// A number of bytes, as a number or as text with `K`, `M`, `G` or `T` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSize(pub u64);

impl FromStr for CacheSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const UNITS: [char; 4] = ['K', 'M', 'G', 'T'];
        let wrong = || "wanted a number of bytes, or one with K, M, G or T".to_owned();
        let unit = text.chars().next_back().map(|last| last.to_ascii_uppercase());
        let (number, shift) = match UNITS.iter().position(|known| Some(*known) == unit) {
            Some(at) => (&text[..text.len() - 1], 10 * (at + 1)),
            None => (text, 0),
        };
        let number: u64 = number.trim_end().parse().map_err(|_| wrong())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for CacheSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// `[dist]`: where the farm is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dist {
    /// The farm's NATS server, `tls://host:4222`, on this machine also `nats://`; several separated
    /// by commas.
    pub scheduler_url: Option<String>,
    /// Encryption of the connection.
    pub tls: TlsSettings,
    /// How the client shows who it is.
    pub auth: Option<Auth>,
    /// Where blobs are kept; the same as in the scheduler's and workers' settings.
    pub store: StoreSettings,
    /// Whether a remote failure is final. By default the local compiler has the last word.
    pub trust_remote_failures: bool,
    /// Whether includes are followed without asking the compiler; by default they are.
    pub scan: Option<bool>,
    /// Longest wait in the queue, in seconds, before the compile runs locally.
    pub queue_wait_seconds_max: Option<u32>,
    /// Longest silence of a worker that took a compile, in seconds, before it runs locally.
    pub silence_seconds_max: Option<u32>,
    /// Longest time a remote compile may take, in seconds, before it runs locally.
    pub job_seconds_max: Option<u64>,
    /// Longest wait, in seconds, for the first upload of a toolchain; meanwhile compiles are local
    /// and the upload goes on.
    pub toolchain_wait_seconds_max: Option<u64>,
}

/// `[dist.auth]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// A token that all clients share.
    Token {
        /// The token.
        token: Secret,
    },
    /// A token that somebody else keeps fresh in a file, as CI systems do.
    TokenFile {
        /// The file; read at each connect.
        token_file: PathBuf,
    },
    /// A login through a browser on this machine: authorization code grant with PKCE (RFC 7636).
    Oauth2CodeGrantPkce(OauthClient),
    /// A login through a browser on any machine: device authorization grant (RFC 8628).
    Oauth2DeviceAuthorizationGrant(OauthClient),
    /// The seed's preset: Mozilla's provider.
    Mozilla,
}

/// A client that is registered at an OAuth 2 or OpenID provider, without a secret (public).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct OauthClient {
    /// The client's id at the provider.
    pub client_id: String,
    /// The provider; the addresses that are not given here are asked for there.
    pub issuer: Option<String>,
    /// Where the user logs in. A query is kept and goes over ours (`audience=…`, `scope=…`).
    pub auth_url: Option<String>,
    /// Where codes become tokens, and tokens are renewed.
    pub token_url: Option<String>,
    /// Where devices get their codes.
    pub device_auth_url: Option<String>,
    /// What is asked for, words separated by spaces.
    #[serde(default = "openid")]
    pub scope: String,
    /// Which token the farm is shown.
    #[serde(default)]
    pub bearer: BearerKind,
    /// Where the browser comes back to on this machine, several separated by commas, the first
    /// free one is taken; without a port any.
    #[serde(default = "any_port")]
    pub redirect_uri: String,
}

/// Which of the provider's tokens the farm is shown.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum BearerKind {
    /// The access token: made for a farm, where the provider writes it as a JWT.
    #[default]
    AccessToken,
    /// The ID token, whose audience is the client id.
    IdToken,
}

fn openid() -> String {
    "openid".into()
}

fn any_port() -> String {
    "http://127.0.0.1/redirect".into()
}

impl OauthClient {
    /// Mozilla's provider, with the ports that are registered there for sccache.
    pub fn mozilla() -> Self {
        let url = |path: &str| Some(format!("https://auth.mozilla.auth0.com/{path}"));
        let redirects = [12_731, 32_492, 56_909].map(|p| format!("http://localhost:{p}/redirect"));
        Self {
            client_id: "F1VVD6nRTckSVrviMRaOdLBWIk1AvHYo".into(),
            issuer: None,
            auth_url: url("authorize?audience=sccache"),
            token_url: url("oauth/token"),
            device_auth_url: None,
            scope: "openid profile".into(),
            bearer: BearerKind::AccessToken,
            redirect_uri: redirects.join(","),
        }
    }
}

impl Settings {
    /// Default of [`Settings::cache_size`], in bytes.
    pub const CACHE_SIZE: u64 = 10 << 30;
    /// Idle time after which the daemon leaves, in seconds.
    pub const IDLE_TIMEOUT_SECONDS: u64 = 600;
    /// Default of [`Dist::queue_wait_seconds_max`].
    pub const QUEUE_WAIT_SECONDS_MAX: u32 = 30;
    /// Default of [`Dist::silence_seconds_max`]: longer than the queue needs to give the job of a dead
    /// worker to the next one.
    pub const SILENCE_SECONDS_MAX: u32 = 9;
    /// Default of [`Dist::job_seconds_max`].
    pub const JOB_SECONDS_MAX: u64 = 1_200;
    /// Default of [`Dist::toolchain_wait_seconds_max`].
    pub const TOOLCHAIN_WAIT_SECONDS_MAX: u64 = 10;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let size = |text: &str| text.parse().map(|CacheSize(bytes)| bytes);
        assert_eq!(size("10G"), Ok(10 << 30));
        assert_eq!(size("5 m"), Ok(5 << 20));
        assert_eq!(size("0"), Ok(0));
        for wrong in ["", "G", "-1", "1GB", "99999999999T", "1.5G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
