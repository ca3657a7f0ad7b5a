//! An OpenID issuer's keys: fetched before anybody needs them, fetched again now and then and when a
//! token names a key that is not among them, kept for a while when the issuer is away.
//!
//! One task fetches. Callers look at what it has, and at most ask it to look again; how often it
//! does so is its own decision, so that a flood of strange tokens is no flood at the issuer.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::jwks::{Algorithm, Key, Keys, NoKey};
use super::settings::WebUrl;
use super::shown::quoted;
use super::web::Web;

/// Where an issuer describes itself (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Keys are fetched again after so long: a key that the issuer withdrew is good no longer than this.
const FETCH_EVERY: Duration = Duration::from_secs(300);
/// Least time between two fetches, whoever asks for one.
const FETCH_PAUSE: Duration = Duration::from_secs(10);
/// Keys of an issuer that does not answer are believed so long.
const STALE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Callers at once that wait for a fetch.
const WAITING_MAX: usize = 32;

/// An issuer and its keys.
pub(super) struct Issuer {
    url: WebUrl,
    web: Web,
    held: watch::Sender<Held>,
    look_again: Notify,
    waiting: Semaphore,
}

/// What is known of the issuer.
#[derive(Clone, Default)]
struct Held {
    keys: Option<(Arc<Keys>, Instant)>,
    /// Why the latest fetch failed, if it did.
    trouble: Option<String>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Where the keys of `issuer` are, by its discovery document. Nothing of a document that is not
/// believed gets into the reason but short pieces.
///
/// # Errors
/// Why it is not believed.
pub fn keys_address(issuer: &WebUrl, document: &[u8]) -> Result<WebUrl, String> {
    let found: Discovery = serde_json::from_slice(document).map_err(|error| {
        format!("it is no discovery document: line {}, column {}", error.line(), error.column())
    })?;
    if found.issuer != issuer.as_str() {
        return Err(format!("it is of {}, wanted `{}`", quoted(&found.issuer), issuer.as_str()));
    }
    let keys = WebUrl::try_from(found.jwks_uri)
        .map_err(|why| format!("its `jwks_uri` is of no use: {}", quoted(&why)))?;
    if keys.is_loopback() && !issuer.is_loopback() {
        return Err("it has its keys on this machine".into());
    }
    Ok(keys)
}

impl Held {
    /// The key for a token at `now`.
    fn find(&self, id: Option<&str>, algorithm: Algorithm, now: Instant) -> Result<Key, NoKey> {
        let trouble = self.trouble.as_deref().unwrap_or("they were not fetched yet");
        match &self.keys {
            None => Err(NoKey::Unknown(format!("the issuer's keys are not known: {trouble}"))),
            Some((_, since)) if now.duration_since(*since) > STALE_MAX => {
                Err(NoKey::Unknown(format!("the issuer's keys are too old: {trouble}")))
            }
            Some((keys, _)) => keys.find(id, algorithm).cloned(),
        }
    }
}

impl Issuer {
    /// # Errors
    /// When nothing can be asked over the network at all.
    pub(super) fn new(url: WebUrl) -> Result<Self, String> {
        Ok(Self {
            web: Web::of(&url)?,
            url,
            held: watch::Sender::new(Held::default()),
            look_again: Notify::new(),
            waiting: Semaphore::new(WAITING_MAX),
        })
    }

    /// The key that a token names. One that is not known may be new: then the answer waits for the
    /// next fetch, or for word that none is due.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Key, String> {
        let mut held = self.held.subscribe();
        let look = |held: &Held| held.find(id, algorithm, Instant::now());
        let found = look(&held.borrow_and_update());
        match found {
            Ok(key) => return Ok(key),
            Err(NoKey::Unfit(why)) => return Err(why),
            Err(NoKey::Unknown(_)) => {}
        }
        let _place = self
            .waiting
            .try_acquire()
            .map_err(|_| format!("{WAITING_MAX} others wait for the issuer's keys already"))?;
        self.look_again.notify_one();
        // The sender is ours and lives.
        let _ = held.changed().await;
        look(&held.borrow()).map_err(|(NoKey::Unknown(why) | NoKey::Unfit(why))| why)
    }

    /// Keeps the keys, for ever.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            let every = match self.fetch().await {
                Ok(keys) => {
                    tracing::debug!(issuer = self.url.as_str(), "keys fetched");
                    let keys = Some((Arc::new(keys), Instant::now()));
                    self.held.send_replace(Held { keys, trouble: None });
                    FETCH_EVERY
                }
                Err(trouble) => {
                    tracing::warn!(issuer = self.url.as_str(), trouble, "keys were not fetched");
                    self.held.send_modify(|held| held.trouble = Some(trouble));
                    FETCH_PAUSE
                }
            };
            self.rest(every).await;
        }
    }

    /// Until the next fetch is due. Who asks too early is told that nothing is newer.
    async fn rest(&self, every: Duration) {
        let fetched = Instant::now();
        let due = tokio::time::sleep_until(fetched + every);
        tokio::pin!(due);
        loop {
            tokio::select! {
                () = &mut due => return,
                () = self.look_again.notified() => {
                    if fetched.elapsed() >= FETCH_PAUSE {
                        return;
                    }
                    self.held.send_modify(|_| ());
                }
            }
        }
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let issuer = self.url.as_str();
        let discovery = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
        let found = keys_address(&self.url, &self.page(&discovery).await?)
            .map_err(|why| format!("`{discovery}`: {why}"))?;
        let keys = found.as_str();
        Keys::read(&self.page(keys).await?).map_err(|error| format!("`{keys}`: {error}"))
    }

    async fn page(&self, url: &str) -> Result<Vec<u8>, String> {
        let page = self.web.get(url, None).await.map_err(|error| format!("`{url}`: {error}"))?;
        match page.status.as_u16() {
            200 => Ok(page.body),
            status => Err(format!("`{url}` answers {status}, wanted 200")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_document_of_another_or_with_keys_elsewhere_is_not_believed() {
        let issuer = WebUrl::try_from("https://id.example/".to_owned()).unwrap();
        let read = |issuer_field: &str, keys: &str| {
            let document = serde_json::json!({"issuer": issuer_field, "jwks_uri": keys});
            keys_address(&issuer, document.to_string().as_bytes())
        };
        let good = "https://id.example/keys";
        assert_eq!(read("https://id.example/", good).unwrap().as_str(), good);
        let evil = format!("https://evil.example/\n{}", "x".repeat(10_000));
        for (issuer, keys, why) in [
            ("https://id.example", good, "wanted `https://id.example/`"),
            (evil.as_str(), good, "it is of `https://evil.example/\\nxxx"),
            ("https://id.example/", "http://id.example/keys", "in the open"),
            ("https://id.example/", "http://127.0.0.1/keys", "on this machine"),
            ("https://id.example/", "https://id.example/\nkeys", "of no use"),
            ("https://id.example/", evil.as_str(), "of no use"),
        ] {
            let found = read(issuer, keys).unwrap_err();
            assert!(found.contains(why) && found.len() < 400, "{found}");
        }
        for junk in ["", "[]", "{}", "\"text\"", r#"{"issuer": 1, "jwks_uri": 2}"#] {
            let found = keys_address(&issuer, junk.as_bytes()).unwrap_err();
            assert!(found.contains("no discovery document: line 1"), "{found}");
        }
    }

    #[test]
    fn keys_of_an_absent_issuer_are_believed_for_a_day() {
        let x = "A".repeat(43);
        let set =
            format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "{x}"}}]}}"#);
        let fetched = Instant::now();
        let held = Held {
            keys: Some((Arc::new(Keys::read(set.as_bytes()).unwrap()), fetched)),
            trouble: Some("no route".into()),
        };
        let find = |after| held.find(Some("k"), Algorithm::EdDsa, fetched + after);
        assert!(find(STALE_MAX).is_ok());
        let Err(NoKey::Unknown(why)) = find(STALE_MAX + Duration::from_secs(1)) else { panic!() };
        assert!(why.contains("too old: no route"), "{why}");
    }
}
