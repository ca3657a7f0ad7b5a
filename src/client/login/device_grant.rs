//! The device authorization grant (RFC 8628): the user opens a page in any browser and types a code
//! there, while this machine asks whether he has.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::provider::Provider;
use super::tokens::Tokens;
use super::{LoginError, http, plain};
use crate::queue::Secret;

/// The grant's name, section 3.4.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Pause between two questions when the provider names none, section 3.2.
const INTERVAL_SECONDS: u64 = 5;
/// What "slow down" adds to it, section 3.5.
const SLOWER_SECONDS: u64 = 5;
/// Longest pause that is believed.
const INTERVAL_SECONDS_MAX: u64 = 60;

/// The provider's codes, section 3.2.
#[derive(Deserialize)]
struct Codes {
    device_code: Secret,
    user_code: String,
    // Before the standard some said `url`.
    #[serde(alias = "verification_url")]
    verification_uri: String,
    #[serde(alias = "verification_url_complete")]
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// Shows the user where to go, and waits until he has been there.
///
/// # Errors
/// [`LoginError`]; [`LoginError::TooLate`] when the code has run out.
pub(super) async fn ask(
    provider: &Provider,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Tokens, LoginError> {
    let url = provider.device_auth_url()?;
    let client = &provider.client;
    let form = [("client_id", client.client_id.as_str()), ("scope", client.scope.as_str())];
    let codes: Codes = provider.http.post(url, &form).await?;
    let page = http::address(&codes.verification_uri)?;
    say(&format!(
        "open in any browser\n  {page}\nand enter the code\n  {}",
        plain(&codes.user_code)
    ));
    if let Some(complete) = &codes.verification_uri_complete {
        say(&format!("or open\n  {}", http::address(complete)?));
    }
    let now = Instant::now();
    let end = now.checked_add(Duration::from_secs(codes.expires_in)).unwrap_or(now);
    let mut seconds = codes.interval.unwrap_or(INTERVAL_SECONDS).clamp(1, INTERVAL_SECONDS_MAX);
    let grant = [("grant_type", GRANT), ("device_code", codes.device_code.reveal())];
    while Instant::now() < end {
        sleep(Duration::from_secs(seconds)).await;
        match provider.grant(&grant, None).await {
            Err(LoginError::Refused { code, .. }) if code == "authorization_pending" => {}
            Err(LoginError::Refused { code, .. }) if code == "slow_down" => {
                seconds = (seconds + SLOWER_SECONDS).min(INTERVAL_SECONDS_MAX);
            }
            Err(LoginError::Refused { code, .. }) if code == "expired_token" => break,
            // Section 3.5: who gives no answer is asked less and less often.
            Err(LoginError::Unreachable { .. }) => {
                seconds = (seconds * 2).min(INTERVAL_SECONDS_MAX)
            }
            answered => return answered,
        }
    }
    Err(LoginError::TooLate)
}
