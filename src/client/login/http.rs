//! Requests to a provider: to addresses that tokens may travel to, with limits on the time and the
//! size of every answer, and without a word about them in the log.

use std::error::Error as _;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded::Serializer;
use url::{Host, Url};

use super::{LoginError, plain};

/// How long a connection to a provider may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long one question to a provider may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Size of an answer; tokens that list a user's groups are some tens of KiB.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Speaks to providers.
#[derive(Clone, Debug)]
pub(super) struct Http {
    /// Through the proxy that the environment names, if any: it sees TLS alone.
    usual: Client,
    /// To this machine, without TLS and therefore without a proxy.
    direct: Client,
}

/// A refusal, RFC 6749 section 5.2.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Http {
    /// A client that follows no redirect: a token goes where it was sent, or nowhere.
    pub(super) fn new() -> Result<Self, LoginError> {
        // Somebody else's choice of cryptography is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            Client::builder()
                .user_agent(concat!("jetcc/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_MAX)
                .timeout(ANSWER_MAX)
        };
        let trouble = |error: reqwest::Error| unreachable("this machine", &error);
        Ok(Self {
            usual: builder().https_only(true).build().map_err(trouble)?,
            direct: builder().no_proxy().build().map_err(trouble)?,
        })
    }

    fn to(&self, url: &Url) -> &Client {
        if url.scheme() == "https" { &self.usual } else { &self.direct }
    }

    /// The JSON at `url`.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T, LoginError> {
        answer(url, self.to(url).get(url.clone())).await
    }

    /// The JSON that answers a form.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        url: &Url,
        form: &[(&str, &str)],
    ) -> Result<T, LoginError> {
        let body = Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.to(url).post(url.clone()).body(body);
        let kind = ("content-type", "application/x-www-form-urlencoded");
        answer(url, request.header(kind.0, kind.1).header("accept", "application/json")).await
    }
}

/// `text` as an address that tokens may travel to.
pub(super) fn address(text: &str) -> Result<Url, LoginError> {
    let wrong = || LoginError::Address(plain(text));
    let url = Url::parse(text).map_err(|_| wrong())?;
    let safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    if safe && url.username().is_empty() && url.password().is_none() {
        Ok(url)
    } else {
        Err(wrong())
    }
}

/// Whether `url` leads to this machine, whatever the names of others say.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The part of `url` that may be shown.
pub(super) fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

async fn answer<T: DeserializeOwned>(url: &Url, request: RequestBuilder) -> Result<T, LoginError> {
    let bad = |message: &str| LoginError::BadAnswer { host: host(url), message: message.into() };
    let mut response = request.send().await.map_err(|error| unreachable(&host(url), &error))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(part) =
        response.chunk().await.map_err(|error| unreachable(&host(url), &error))?
    {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            return Err(bad(&format!("more than {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&part);
    }
    if status == StatusCode::OK {
        // What was wrong may quote the answer, which may be a token.
        return serde_json::from_slice(&body).map_err(|_| bad("not the JSON that was asked for"));
    }
    match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => Err(LoginError::Refused {
            host: host(url),
            words: plain(format!("{} {}", refusal.error, refusal.error_description).trim()),
            code: refusal.error,
        }),
        Err(_) if status.is_server_error() => {
            Err(LoginError::Unreachable { host: host(url), message: status.to_string() })
        }
        Err(_) => Err(bad(&status.to_string())),
    }
}

/// The deepest cause says most; the error itself repeats the address with its query.
fn unreachable(host: &str, error: &reqwest::Error) -> LoginError {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(|cause| cause.source()) {
        cause = Some(deeper);
    }
    let message = match cause {
        _ if error.is_timeout() => "no answer in time".to_owned(),
        Some(cause) => plain(&cause.to_string()),
        None => "the request failed".to_owned(),
    };
    LoginError::Unreachable { host: host.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_travel_by_tls_or_stay_on_this_machine() {
        for good in [
            "https://a.example/token",
            "http://127.0.0.1:1/x",
            "http://[::1]/",
            "http://localhost:5/",
        ] {
            address(good).unwrap();
        }
        for bad in [
            "http://a.example/token",
            "http://127.0.0.1.a.example/",
            "http://localhost.a.example/",
            "ftp://127.0.0.1/",
            "https://me:hush@a.example/",
            "token",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
