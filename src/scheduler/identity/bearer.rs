//! Tokens that only their issuer understands: a web page is asked as the token's bearer, and its
//! answer is believed for a while. `type = "proxy_token"` and `type = "mozilla"`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::claims::Claims;
use super::remembered::Remembered;
use super::settings::{MozillaAuth, ProxyAuth, WebUrl};
use super::shown::{Shown, Unchecked, quoted};
use super::web::Web;
use super::{Claimed, unix_seconds};
use crate::queue::Secret;

/// A refusal is believed so long: whoever was given a group gets in soon, and whoever tries again
/// and again costs the service little.
const REFUSED: Duration = Duration::from_secs(10);
/// Questions to one service at once.
const QUESTIONS_MAX: usize = 32;
/// A connection ends after so long, in seconds, and its token is looked at again.
const LOOK_AGAIN_SECONDS: u64 = 3_600;

/// A page that knows tokens.
struct Asked {
    url: WebUrl,
    web: Web,
    places: Semaphore,
    /// Apart from the refusals, so that a flood of bad tokens drives out no good one.
    good: Mutex<Remembered<Claimed>>,
    bad: Mutex<Remembered<String>>,
}

impl Asked {
    fn new(url: &WebUrl) -> Result<Self, String> {
        Ok(Self {
            web: Web::of(url)?,
            url: url.clone(),
            places: Semaphore::new(QUESTIONS_MAX),
            good: Mutex::default(),
            bad: Mutex::default(),
        })
    }

    /// What the page says of a token, as `judge` reads it; believed for `holds`.
    async fn ask(
        &self,
        token: &Secret,
        holds: Duration,
        judge: impl FnOnce(&[u8]) -> Result<Claimed, String>,
    ) -> Result<Claimed, String> {
        if let Some(claimed) = lock(&self.good).get(token, Instant::now()) {
            return Ok(claimed);
        }
        if let Some(refusal) = lock(&self.bad).get(token, Instant::now()) {
            return Err(refusal);
        }
        let _place = self
            .places
            .try_acquire()
            .map_err(|_| format!("{QUESTIONS_MAX} questions to `{}` are open", self.url.shown()))?;
        let page = self.web.get(self.url.as_str(), Some(token)).await?;
        let judged = match page.status {
            status if status.is_success() => judge(&page.body),
            status if status.is_client_error() => {
                Err(format!("`{}` answers {}", self.url.shown(), status.as_u16()))
            }
            // Trouble there says nothing about the token.
            status => return Err(format!("`{}` answers {}", self.url.shown(), status.as_u16())),
        };
        let now = Instant::now();
        match &judged {
            Ok(claimed) => lock(&self.good).keep(token, claimed.clone(), now + holds, now),
            Err(refusal) => lock(&self.bad).keep(token, refusal.clone(), now + REFUSED, now),
        }
        judged
    }
}

/// `type = "proxy_token"`: the page says yes or no.
pub(super) struct Proxy {
    rules: ProxyAuth,
    asked: Asked,
}

impl Proxy {
    /// # Errors
    /// When nothing can be asked over the network at all.
    pub(super) fn new(rules: &ProxyAuth) -> Result<Self, String> {
        Ok(Self { rules: rules.clone(), asked: Asked::new(&rules.url)? })
    }

    /// # Errors
    /// Why the token is not taken.
    pub(super) async fn check(&self, token: &Secret) -> Result<Claimed, String> {
        let yes = |_: &[u8]| Ok(Claimed::nameless(self.rules.tenant.as_ref()));
        let claimed =
            self.asked.ask(token, Duration::from_secs(self.rules.cache_secs), yes).await?;
        Ok(Claimed { expires: Some(unix_seconds() + LOOK_AGAIN_SECONDS), ..claimed })
    }
}

/// `type = "mozilla"`: the page says who it is, and in which groups.
pub(super) struct Userinfo {
    rules: MozillaAuth,
    asked: Asked,
}

impl Userinfo {
    /// # Errors
    /// When nothing can be asked over the network at all.
    pub(super) fn new(rules: &MozillaAuth) -> Result<Self, String> {
        Ok(Self { rules: rules.clone(), asked: Asked::new(&rules.userinfo_url)? })
    }

    /// The token, if it says that it comes from this service.
    pub(super) fn fits<'a>(&self, shown: &'a Shown<'_>) -> Option<&'a Unchecked> {
        shown.jwt_of(&self.rules.issuer)
    }

    /// # Errors
    /// Why the token is not taken.
    pub(super) async fn check(&self, token: &Secret) -> Result<Claimed, String> {
        let said = unchecked(token)?;
        let now = unix_seconds();
        let end = said.end(0, now)?;
        let holds = Duration::from_secs(self.rules.cache_secs.min(end - now));
        let claimed = self.asked.ask(token, holds, |page| read(&self.rules, &said, page)).await?;
        Ok(Claimed { expires: Some(end.min(now + LOOK_AGAIN_SECONDS)), ..claimed })
    }
}

/// What a token and the page about it say of its bearer at `now` (Unix time in seconds):
/// [`Userinfo::check`] with a page that is at hand.
///
/// # Errors
/// Why the token is not taken.
pub fn judge(
    rules: &MozillaAuth,
    token: &Secret,
    page: &[u8],
    now: u64,
) -> Result<Claimed, String> {
    let said = unchecked(token)?;
    let end = said.end(0, now)?;
    let expires = Some(end.min(now + LOOK_AGAIN_SECONDS));
    Ok(Claimed { expires, ..read(rules, &said, page)? })
}

/// What a token says: the page vouches for it, and with it for what it says.
fn unchecked(token: &Secret) -> Result<Claims, String> {
    jsonwebtoken::dangerous::insecure_decode_claims(token.reveal())
        .map_err(|error| quoted(&error.to_string()))
}

fn read(rules: &MozillaAuth, said: &Claims, page: &[u8]) -> Result<Claimed, String> {
    let profile: Claims = serde_json::from_slice(page)
        .map_err(|_| format!("`{}` is no JSON object", rules.userinfo_url.shown()))?;
    let (wanted, found) = (said.text("sub"), profile.text("sub"));
    if found.is_none() || found != wanted {
        let found = quoted(found.unwrap_or_default());
        return Err(format!("the page is about {found}, the token is not"));
    }
    profile.in_groups(&rules.groups_claim, &rules.required_groups)?;
    Ok(Claimed { user: Some(profile.user(None)?), tenant: rules.tenant.clone(), expires: None })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_about_somebody_else_lets_nobody_in() {
        let rules: MozillaAuth = toml::from_str("required_groups = ['g']").unwrap();
        let said: Claims = serde_json::from_str(r#"{"sub": "alice"}"#).unwrap();
        let groups = r#""https://sso.mozilla.com/claim/groups": ["g"]"#;
        let judge = |page: String| read(&rules, &said, page.as_bytes());
        let claimed = judge(format!(r#"{{"sub": "alice", "email": "a@b", {groups}}}"#)).unwrap();
        assert_eq!(claimed.user.unwrap().as_str(), "a@b");
        assert!(judge(format!(r#"{{"sub": "mallory", {groups}}}"#)).is_err());
        assert!(judge(format!("{{{groups}}}")).is_err());
        assert!(judge(r#"{"sub": "alice"}"#.into()).unwrap_err().contains("`g`"));
        assert!(judge("[]".into()).is_err() && judge(String::new()).is_err());
        let nobody: Claims = serde_json::from_str("{}").unwrap();
        assert!(read(&rules, &nobody, format!("{{{groups}}}").as_bytes()).is_err());
    }
}
