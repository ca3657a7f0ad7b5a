//! `[client_auth]` and `[server_auth]`: how callers show who they are.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::jwks::Algorithm;
use crate::job::{Pool, Tenant};
use crate::queue::Secret;

/// Most seconds that clocks may differ.
pub(super) const LEEWAY_SECONDS_MAX: u64 = 300;
/// Most seconds that an answer about a token is believed.
pub(super) const CACHE_SECONDS_MAX: u64 = 3_600;

/// Longest web address, in bytes: an issuer's document may name any.
const WEB_URL_BYTES_MAX: usize = 2 << 10;

/// One way for clients to show who they are: a table of `client_auth`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientAuth {
    /// One token that many clients share.
    Token(TokenAuth),
    /// A JWT signed with a key that only schedulers and its maker know.
    JwtHs256(ClientJwtAuth),
    /// A JWT of an OpenID issuer, checked with the issuer's public keys.
    Oidc(OidcAuth),
    /// A token of Mozilla's identity service, which is asked whose it is.
    Mozilla(MozillaAuth),
    /// Any token; a web page is asked whether it is good.
    ProxyToken(ProxyAuth),
    /// No check at all. Only where nobody but this machine can reach the farm.
    InsecureEverybodyOnThisMachine(EverybodyAuth),
}

/// `type = "token"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenAuth {
    /// The token.
    pub token: Secret,
    /// What the scheduler's log calls it.
    pub name: Option<String>,
    /// Whose clients these are.
    pub tenant: Option<Tenant>,
}

/// `type = "jwt_hs256"` for clients.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientJwtAuth {
    /// 32 bytes in base64url without padding, from `jetcc auth generate-jwt-hs256-key`.
    pub secret_key: Secret,
    /// The token's `iss` must be this.
    pub issuer: Option<String>,
    /// The token's `aud` must hold this.
    pub audience: Option<String>,
    /// Whose clients these are.
    pub tenant: Option<Tenant>,
    /// The claim that says so instead.
    pub tenant_claim: Option<String>,
    /// Clocks may differ by so many seconds.
    #[serde(default = "leeway_seconds")]
    pub leeway_seconds: u64,
}

/// `type = "oidc"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcAuth {
    /// The issuer, exactly as it writes itself; its discovery document is found below it.
    pub issuer: WebUrl,
    /// The token's `aud` must hold this.
    pub audience: String,
    /// Groups that the user must be in, all of them.
    #[serde(default)]
    pub required_groups: Vec<String>,
    /// The claim with the user's groups.
    #[serde(default = "groups_claim")]
    pub groups_claim: String,
    /// The claim with the user's name; `email`, `preferred_username`, `sub` when absent.
    pub user_claim: Option<String>,
    /// Whose clients these are.
    pub tenant: Option<Tenant>,
    /// The claim that says so instead.
    pub tenant_claim: Option<String>,
    /// Signatures that are taken; a key is good for the one of its own kind.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Clocks may differ by so many seconds.
    #[serde(default = "leeway_seconds")]
    pub leeway_seconds: u64,
}

/// `type = "mozilla"`: the seed's preset. Everything but the groups has the service's own value.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MozillaAuth {
    /// Groups that the user must be in, all of them.
    pub required_groups: Vec<String>,
    /// The issuer of the tokens; those of others are never sent to it.
    #[serde(default = "mozilla_issuer")]
    pub issuer: String,
    /// The page that says whose token it is.
    #[serde(default = "mozilla_userinfo")]
    pub userinfo_url: WebUrl,
    /// The field with the user's groups.
    #[serde(default = "mozilla_groups")]
    pub groups_claim: String,
    /// An answer is believed so many seconds, and never longer than the token holds.
    #[serde(default = "mozilla_cache_seconds")]
    pub cache_secs: u64,
    /// Whose clients these are.
    pub tenant: Option<Tenant>,
}

/// `type = "proxy_token"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyAuth {
    /// The page that is asked, with the token as its bearer; an answer of 200 to 299 lets in.
    pub url: WebUrl,
    /// An answer is believed so many seconds.
    #[serde(default = "proxy_cache_seconds")]
    pub cache_secs: u64,
    /// Whose clients these are.
    pub tenant: Option<Tenant>,
}

/// `type = "insecure_everybody_on_this_machine"` for clients.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EverybodyAuth {
    /// Whose clients these are.
    pub tenant: Option<Tenant>,
}

/// How workers show who they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ServerAuth {
    /// A JWT signed with a key that only schedulers know.
    JwtHs256 {
        /// 32 bytes in base64url without padding, from `jetcc auth generate-jwt-hs256-key`.
        secret_key: Secret,
    },
    /// One token that all workers share; each chooses its name.
    Token {
        /// The token.
        token: Secret,
        /// Pools that they may serve; this machine's when absent.
        #[serde(default = "own_pool")]
        pools: Vec<Pool>,
    },
    /// No check but the word [`INSECURE_WORKER`](crate::job::wire::INSECURE_WORKER). Only where nobody but this machine can
    /// reach the farm.
    InsecureEverybodyOnThisMachine {
        /// Pools that they may serve; this machine's when absent.
        #[serde(default = "own_pool")]
        pools: Vec<Pool>,
    },
}

/// The address of a web page to which tokens or trust go: `https`, or `http` on the loopback; no
/// password in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebUrl(String);

impl WebUrl {
    /// The address as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address for logs: what follows a `?` may be secret.
    pub(super) fn shown(&self) -> &str {
        self.0.split('?').next().unwrap_or_default()
    }

    /// Whether it is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|url| has_loopback_host(&url))
    }
}

impl TryFrom<String> for WebUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() > WEB_URL_BYTES_MAX {
            let length = text.len();
            return Err(format!("address has {length} bytes, wanted at most {WEB_URL_BYTES_MAX}"));
        }
        // The parser drops some of them: what is asked would not be what is shown.
        if text.contains(char::is_control) {
            return Err("a web address here has no control characters".into());
        }
        let wrong = |why| format!("`{text}` {why}: wanted `https://host/…`");
        let url = Url::parse(&text).map_err(|_| wrong("is no web address"))?;
        let safe = match url.scheme() {
            "https" => url.has_host(),
            "http" => has_loopback_host(&url),
            _ => false,
        };
        if !safe {
            return Err(wrong("would carry tokens or keys in the open"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("a web address here has neither a user, a password nor a `#`".to_owned());
        }
        Ok(Self(text))
    }
}

impl From<WebUrl> for String {
    fn from(url: WebUrl) -> Self {
        url.0
    }
}

fn has_loopback_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Reads one table, or an array of tables.
///
/// # Errors
/// The deserializer's own, about the table that is wrong.
pub fn one_or_several<'de, D>(deserializer: D) -> Result<Vec<ClientAuth>, D::Error>
where
    D: Deserializer<'de>,
{
    struct OneOrSeveral;

    impl<'de> Visitor<'de> for OneOrSeveral {
        type Value = Vec<ClientAuth>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table `[client_auth]` or several `[[client_auth]]`")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Ok(vec![ClientAuth::deserialize(MapAccessDeserializer::new(map))?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, tables: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(tables))
        }
    }

    deserializer.deserialize_any(OneOrSeveral)
}

fn own_pool() -> Vec<Pool> {
    vec![Pool::of_this_machine()]
}

fn leeway_seconds() -> u64 {
    30
}

fn groups_claim() -> String {
    "groups".into()
}

fn algorithms() -> Vec<Algorithm> {
    Algorithm::ALL.to_vec()
}

fn mozilla_issuer() -> String {
    "https://auth.mozilla.auth0.com/".into()
}

fn mozilla_userinfo() -> WebUrl {
    WebUrl("https://auth.mozilla.auth0.com/userinfo".into())
}

fn mozilla_groups() -> String {
    "https://sso.mozilla.com/claim/groups".into()
}

fn mozilla_cache_seconds() -> u64 {
    300
}

fn proxy_cache_seconds() -> u64 {
    60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_keys_travel_in_the_open_on_this_machine_alone() {
        for good in ["https://id.example/realms/a", "http://127.0.0.1:80/", "http://[::1]/x"] {
            assert!(WebUrl::try_from(good.to_owned()).is_ok(), "{good}");
        }
        let bad = [
            "http://id.example/",
            "ftp://id.example/",
            "id.example",
            "https://u:p@h/",
            "",
            "https://h/\n",
        ];
        for bad in bad.iter().chain(&["http://127.0.0.1.example/", "http://localhost.example/"]) {
            assert!(WebUrl::try_from((*bad).to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_table_or_several() {
        #[derive(Deserialize)]
        struct File {
            #[serde(deserialize_with = "one_or_several")]
            client_auth: Vec<ClientAuth>,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.client_auth);
        let one = read("[client_auth]\ntype = 'token'\ntoken = 't'\n").unwrap();
        assert!(matches!(one.as_slice(), [ClientAuth::Token(_)]));
        let several = "[[client_auth]]\ntype = 'mozilla'\nrequired_groups = []\n\
                       [[client_auth]]\ntype = 'oidc'\nissuer = 'https://i'\naudience = 'a'\n";
        let several = read(several).unwrap();
        assert!(matches!(several.as_slice(), [ClientAuth::Mozilla(_), ClientAuth::Oidc(_)]));
        let slip = "[client_auth]\ntype = 'oidc'\nissuer = 'https://i'\naudiense = 'a'\n";
        assert!(read(slip).unwrap_err().to_string().contains("unknown field `audiense`"));
        let open = "[client_auth]\ntype = 'proxy_token'\nurl = 'http://proxy.example/'\n";
        assert!(read(open).unwrap_err().to_string().contains("in the open"));
    }
}
