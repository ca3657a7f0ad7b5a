//! The authorization code grant with PKCE (RFC 6749, RFC 7636) for a program on the user's own
//! machine (RFC 8252): the browser logs in at the provider and comes back to a port of the loopback
//! that is open for this one visit.

use std::io;
use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

use super::http::is_loopback;
use super::provider::Provider;
use super::tokens::Tokens;
use super::{LoginError, plain, random_text};
use crate::exec;
use crate::queue::Secret;

/// Size of the first line of a browser's request, which holds the code, and of all its headers.
const REQUEST_BYTES_MAX: usize = 32 << 10;
/// How long a browser may take to send its request; it may open connections that it does not use.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Connections at once.
const VISITORS_MAX: usize = 16;

/// How to open a page, as `$BROWSER` has it: the first of several separated by colons, `%s` is the
/// page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Browser<'a>(pub(super) &'a str);

/// What one login keeps to itself.
struct Secrets {
    verifier: Secret,
    state: String,
    nonce: String,
}

/// The port that the browser comes back to.
struct Landing {
    listener: TcpListener,
    uri: Url,
}

/// Sends the user to the provider and waits until he is back.
///
/// # Errors
/// [`LoginError`]; the port is closed in any case.
pub(super) async fn ask(
    provider: &Provider,
    browser: Option<Browser<'_>>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Tokens, LoginError> {
    let landing = Landing::open(&provider.client.redirect_uri).await?;
    let secrets = Secrets {
        verifier: Secret::new(&random_text()?),
        state: random_text()?,
        nonce: random_text()?,
    };
    let page = page(provider, &landing.uri, &secrets)?;
    match browser.map(|browser| browser.open(&page)) {
        Some(Ok(())) => {
            say(&format!("your browser shows the login; if it does not, open\n  {page}"))
        }
        Some(Err(error)) => {
            say(&format!("the browser does not start ({error}); open on this machine\n  {page}"));
        }
        None => say(&format!("open in a browser on this machine\n  {page}")),
    }
    let code = landing.visit(provider, &secrets).await?;
    let grant = [
        ("grant_type", "authorization_code"),
        ("code", code.reveal()),
        ("redirect_uri", landing.uri.as_str()),
        ("code_verifier", secrets.verifier.reveal()),
    ];
    provider.grant(&grant, Some(&secrets.nonce)).await
}

/// The provider's page for this login. What the settings' address asks for already stays as it is.
fn page(provider: &Provider, landing: &Url, secrets: &Secrets) -> Result<Url, LoginError> {
    let mut page = provider.auth_url()?.clone();
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(secrets.verifier.reveal()));
    let given: Vec<String> = page.query_pairs().map(|(name, _)| name.into_owned()).collect();
    let ours = [
        ("response_type", "code"),
        ("client_id", &provider.client.client_id),
        ("redirect_uri", landing.as_str()),
        ("scope", &provider.client.scope),
        ("state", &secrets.state),
        ("nonce", &secrets.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let missing = ours.iter().filter(|(name, _)| !given.iter().any(|given| given == name));
    page.query_pairs_mut().extend_pairs(missing);
    Ok(page)
}

impl Browser<'_> {
    /// Opens `page` and does not wait for the browser's end.
    fn open(self, page: &Url) -> io::Result<()> {
        let command = self.0.split(':').next().unwrap_or_default();
        let mut words: Vec<String> =
            command.split_whitespace().map(|word| word.replace("%s", page.as_str())).collect();
        if !command.contains("%s") {
            words.push(page.as_str().to_owned());
        }
        let mut words = words.into_iter();
        let program = words.next().unwrap_or_default();
        let arguments: Vec<_> = words.map(Into::into).collect();
        exec::launch(Path::new(&program), &arguments)
    }
}

impl Landing {
    /// Listens on the first of these addresses that is free.
    async fn open(uris: &str) -> Result<Self, LoginError> {
        let mut message = String::new();
        for text in uris.split(',').map(str::trim) {
            match Self::open_one(text).await {
                Ok(landing) => return Ok(landing),
                Err(error) => message = error.to_string(),
            }
        }
        Err(LoginError::Redirect { uri: uris.to_owned(), message })
    }

    async fn open_one(text: &str) -> io::Result<Self> {
        let wrong = || io::Error::other("wanted `http://127.0.0.1/…`, with a port or without");
        let mut uri = Url::parse(text).map_err(|_| wrong())?;
        if uri.scheme() != "http" || !is_loopback(&uri) || uri.query().is_some() {
            return Err(wrong());
        }
        let host = match uri.host_str() {
            Some("[::1]") => "::1",
            _ => "127.0.0.1",
        };
        let listener = TcpListener::bind((host, uri.port().unwrap_or(0))).await?;
        uri.set_port(Some(listener.local_addr()?.port())).map_err(|()| wrong())?;
        Ok(Self { listener, uri })
    }

    /// Waits for the visit that brings the code of this login. Others are turned away: anybody on
    /// this machine, and any page in the browser, can knock.
    async fn visit(&self, provider: &Provider, secrets: &Secrets) -> Result<Secret, LoginError> {
        let mut visitors = JoinSet::new();
        loop {
            let (stream, target) = tokio::select! {
                Ok((stream, _)) = self.listener.accept(), if visitors.len() < VISITORS_MAX => {
                    visitors.spawn(tokio::time::timeout(REQUEST_MAX, hear(stream)));
                    continue;
                }
                Some(Ok(Ok(Ok(heard)))) = visitors.join_next() => heard,
                else => continue,
            };
            match self.judge(&target, provider, secrets) {
                Visit::Stranger(status, words) => drop(tokio::spawn(reply(stream, status, words))),
                Visit::Code(code) => {
                    reply(stream, "200 OK", "Back to the terminal: it says how the login went.")
                        .await;
                    return Ok(code);
                }
                Visit::Refusal(error) => {
                    reply(stream, "200 OK", "The login was refused: the terminal says why.").await;
                    return Err(error);
                }
            }
        }
    }

    fn judge(&self, target: &str, provider: &Provider, secrets: &Secrets) -> Visit {
        let Ok(url) = self.uri.join(target) else {
            return Visit::Stranger("400 Bad Request", "This is no address.");
        };
        if url.path() != self.uri.path() {
            return Visit::Stranger("404 Not Found", "Nothing is here.");
        }
        let given = |wanted: &str| {
            let mut pairs = url.query_pairs().filter(|(name, _)| name == wanted);
            pairs.next().map(|(_, value)| value.into_owned())
        };
        let right = given("state").as_deref() == Some(&secrets.state);
        // RFC 9207: a provider that names itself must be the one that was asked.
        let issuer = &provider.client.issuer;
        let mixed_up =
            given("iss").is_some_and(|iss| issuer.as_ref().is_some_and(|own| *own != iss));
        if !right || mixed_up {
            return Visit::Stranger("400 Bad Request", "This is not the login that was begun.");
        }
        match (given("code"), given("error")) {
            (Some(code), None) => Visit::Code(Secret::new(&code)),
            (_, Some(code)) => {
                let words = given("error_description").unwrap_or_default();
                Visit::Refusal(LoginError::Refused {
                    host: provider.name().to_owned(),
                    words: plain(format!("{code} {words}").trim()),
                    code,
                })
            }
            (None, None) => Visit::Stranger("400 Bad Request", "There is no code."),
        }
    }
}

/// What a visit to the port is.
enum Visit {
    /// Not for us: the status and words that it gets.
    Stranger(&'static str, &'static str),
    /// The user, logged in.
    Code(Secret),
    /// The user, refused.
    Refusal(LoginError),
}

/// Reads a request; gives its target.
async fn hear(mut stream: TcpStream) -> io::Result<(TcpStream, String)> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Err(bad());
        }
    }
    let text = String::from_utf8(head).map_err(|_| bad())?;
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    match (words.next(), words.next()) {
        (Some("GET"), Some(target)) if target.starts_with('/') => Ok((stream, target.to_owned())),
        _ => Err(bad()),
    }
}

/// Answers with a page of one sentence; who does not stay to read it is not missed.
async fn reply(mut stream: TcpStream, status: &'static str, words: &'static str) {
    let page = format!("<!doctype html><title>jetcc</title><p>{words}</p>\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{page}",
        page.len()
    );
    let answered = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(REQUEST_MAX, answered).await;
}
