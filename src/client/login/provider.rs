//! A provider: its addresses, from the settings or from its discovery document, and the questions
//! that both grants and the renewal ask at its token address.

use serde::Deserialize;
use url::Url;

use super::http::{self, Http};
use super::tokens::{Answer, Expected, Tokens};
use super::{LoginError, now, plain};
use crate::client::settings::OauthClient;
use crate::queue::Secret;

/// Where the discovery document is below the issuer, OpenID Connect Discovery section 4.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// A provider that was found, and our place there.
#[derive(Clone, Debug)]
pub(super) struct Provider {
    pub(super) client: OauthClient,
    pub(super) http: Http,
    token_url: Url,
    auth_url: Option<Url>,
    device_auth_url: Option<Url>,
}

/// The part of the discovery document that we read.
#[derive(Default, Deserialize)]
struct Discovered {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
}

impl Provider {
    /// The provider of the settings; asks for the addresses that they do not give.
    ///
    /// # Errors
    /// When it does not answer, is another one, or names an address that tokens must not travel to.
    pub(super) async fn find(client: OauthClient) -> Result<Self, LoginError> {
        let http = Http::new()?;
        let discovered = match &client.issuer {
            Some(issuer) => discover(&http, issuer).await?,
            None => Discovered::default(),
        };
        let pick = |ours: &Option<String>, theirs: Option<String>| {
            let text = ours.clone().or(theirs);
            text.map(|text| http::address(&text)).transpose()
        };
        let token_url = pick(&client.token_url, discovered.token_endpoint)?;
        Ok(Self {
            token_url: token_url.ok_or(LoginError::NoAddress("token_url"))?,
            auth_url: pick(&client.auth_url, discovered.authorization_endpoint)?,
            device_auth_url: pick(
                &client.device_auth_url,
                discovered.device_authorization_endpoint,
            )?,
            http,
            client,
        })
    }

    /// What the user knows it by.
    pub(super) fn name(&self) -> &str {
        name(&self.client)
    }

    /// The address where users log in.
    pub(super) fn auth_url(&self) -> Result<&Url, LoginError> {
        self.auth_url.as_ref().ok_or(LoginError::NoAddress("auth_url"))
    }

    /// The address where devices get their codes.
    pub(super) fn device_auth_url(&self) -> Result<&Url, LoginError> {
        self.device_auth_url.as_ref().ok_or(LoginError::NoAddress("device_auth_url"))
    }

    /// Whether devices can log in here.
    pub(super) fn serves_devices(&self) -> bool {
        self.device_auth_url.is_some()
    }

    /// Asks for tokens by a grant (its type and what belongs to it).
    ///
    /// # Errors
    /// When the provider refuses, or gives tokens that are not for us.
    pub(super) async fn grant(
        &self,
        grant: &[(&str, &str)],
        nonce: Option<&str>,
    ) -> Result<Tokens, LoginError> {
        let client = ("client_id", self.client.client_id.as_str());
        let form: Vec<_> = grant.iter().copied().chain([client]).collect();
        let asked = now();
        let answer: Answer = self.http.post(&self.token_url, &form).await?;
        let expected = Expected { client: &self.client, asked, nonce };
        Tokens::from_answer(answer, &expected)
            .map_err(|message| LoginError::BadAnswer { host: http::host(&self.token_url), message })
    }

    /// Asks for fresh tokens. A provider that gives no new refresh token means the old one.
    ///
    /// # Errors
    /// As [`Provider::grant`].
    pub(super) async fn renew(&self, refresh: &Secret) -> Result<Tokens, LoginError> {
        let grant = [("grant_type", "refresh_token"), ("refresh_token", refresh.reveal())];
        let mut tokens = self.grant(&grant, None).await?;
        tokens.refresh.get_or_insert_with(|| refresh.clone());
        Ok(tokens)
    }
}

/// What names the provider of a client: its issuer, else where its tokens come from.
pub(super) fn name(client: &OauthClient) -> &str {
    client.issuer.as_ref().or(client.token_url.as_ref()).map_or("", String::as_str)
}

async fn discover(http: &Http, issuer: &str) -> Result<Discovered, LoginError> {
    let url = http::address(&format!("{}{DISCOVERY}", issuer.trim_end_matches('/')))?;
    let found: Discovered = http.get(&url).await?;
    if found.issuer == issuer {
        return Ok(found);
    }
    let message = format!("it is the issuer `{}`, wanted `{issuer}`", plain(&found.issuer));
    Err(LoginError::BadAnswer { host: http::host(&url), message })
}
