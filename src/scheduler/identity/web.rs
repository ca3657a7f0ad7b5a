//! Asking a web page: bounded in time and bytes, never sent elsewhere, nothing secret in an error.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};

use super::settings::WebUrl;
use crate::queue::Secret;

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Longest time for one page.
const PAGE_MAX: Duration = Duration::from_secs(5);
/// Largest page, in bytes.
const PAGE_BYTES_MAX: usize = 256 << 10;

/// A page as it was answered.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// Asks pages of one service.
pub(super) struct Web(Client);

impl Web {
    /// For pages at or below `url`.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub(super) fn of(url: &WebUrl) -> Result<Self, String> {
        // Somebody else's choice of cryptography is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_MAX)
            .timeout(PAGE_MAX)
            .user_agent(concat!("jetcc/", env!("CARGO_PKG_VERSION")));
        builder = match url.is_loopback() {
            true => builder.no_proxy(),
            false => builder.https_only(true),
        };
        builder.build().map(Self).map_err(|error| error.to_string())
    }

    /// The page at `url`; with a token, the page as its bearer sees it.
    ///
    /// # Errors
    /// When the service does not answer, not in time or at too great length.
    pub(super) async fn get(&self, url: &str, bearer: Option<&Secret>) -> Result<Page, String> {
        // The library's own words name the address, whose query may be an operator's secret.
        let trouble = |error: reqwest::Error| cause(&error.without_url());
        let mut request = self.0.get(url).header("accept", "application/json");
        if let Some(token) = bearer {
            request = request.bearer_auth(token.reveal());
        }
        let mut answer = request.send().await.map_err(trouble)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(trouble)? {
            if body.len() + part.len() > PAGE_BYTES_MAX {
                return Err(format!("the page has more than {PAGE_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&part);
        }
        Ok(Page { status, body })
    }
}

/// The innermost error: the outer ones only say that a request failed.
fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), cause)
}
