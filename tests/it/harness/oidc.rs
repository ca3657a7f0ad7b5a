//! A real OpenID provider, `django-oauth-toolkit`, on a free port of this machine, with two users:
//! alice, who is in the group `compilers`, and bob, who is in none. Its settings are in
//! `tests/data/oidc`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jetcc::exec::{self, Ended, Spec};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use url::Url;
use url::form_urlencoded::Serializer;

use super::members::{Member, Variables};

/// The public client that the provider knows; audience of ID tokens.
pub(crate) const CLIENT_ID: &str = "jetcc";
/// Audience of access tokens.
pub(crate) const AUDIENCE: &str = "jetcc-farm";
/// The grant of devices, RFC 8628.
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// What the provider says when it serves, before its issuer.
const READY: &str = "listening at ";

/// A running provider; ends when dropped.
pub(crate) struct Provider {
    member: Member,
    folder: TempDir,
    issuer: String,
}

impl Provider {
    /// A provider whose tokens live for minutes.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A provider with these variables: `TOKEN_SECONDS` (lifetime of access and ID tokens),
    /// `REFRESH_SECONDS`, `TLS` (speaks https).
    pub(crate) async fn start_with(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("jetcc-oidc-").tempdir().unwrap();
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut member = member(folder.path(), None, variables);
        member.start_until(READY).await;
        let log = member.log();
        let issuer = log.split_once(READY).unwrap().1.lines().next().unwrap().to_owned();
        Self { member, folder, issuer }
    }

    /// The issuer: `http://127.0.0.1:PORT` (`https:` with `TLS`), which every path of the provider begins with.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Starts anew at the same address with another signing key; users and grants stay.
    pub(crate) async fn rotate_key(&mut self) {
        fs::remove_file(self.folder.path().join("key.pem")).unwrap();
        self.restart_with(&[]).await;
    }

    /// Starts anew at the same address with other variables.
    pub(crate) async fn restart_with(&mut self, variables: &[(&str, &str)]) {
        if self.member.is_running() {
            self.stop().await;
        }
        let port = Url::parse(&self.issuer).unwrap().port();
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.member = member(self.folder.path(), port, variables);
        self.member.start_until(READY).await;
    }

    /// The provider is away until [`Provider::restart_with`].
    pub(crate) async fn stop(&mut self) {
        self.member.end(Signal::TERM).await;
    }

    /// Sends a signal to the provider: `STOP` makes it hang, `CONT` wakes it up.
    pub(crate) fn signal(&self, signal: Signal) {
        self.member.signal(signal);
    }

    /// With `TLS`: the file of the certificate that it signed itself.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// A program that opens the URL which it is given and does there what `user` would do.
    pub(crate) fn browser(&self, user: &str) -> PathBuf {
        let file = self.folder.path().join(format!("browser-of-{user}"));
        let (python, browser) = (python(), data("browser.py"));
        let text = format!(
            "#!/bin/sh\nexec '{}' -B '{}' {user} \"$1\"\n",
            python.display(),
            browser.display()
        );
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    /// Opens `url` in the browser of `user` and waits until nothing is left to do there.
    pub(crate) async fn browse(&self, user: &str, url: &str) {
        let spec = Spec { arguments: vec![url.into()], ..Spec::of(&self.browser(user)) };
        let done = exec::run(spec).await.unwrap();
        assert_eq!(done.status, Ended::Code(0), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Logs `user` in by a device code; gives the provider's answer with `access_token`, `id_token`
    /// (when the scope `openid` is asked for and the grant is a refresh) and `refresh_token`.
    pub(crate) async fn log_in(&self, user: &str) -> Value {
        let asked = [("client_id", CLIENT_ID), ("scope", "openid groups")];
        let (_, codes) = self.post("/device-authorization/", &asked).await;
        self.browse(user, codes["verification_uri_complete"].as_str().unwrap()).await;
        let code = codes["device_code"].as_str().unwrap();
        let grant = [("client_id", CLIENT_ID), ("grant_type", DEVICE_CODE), ("device_code", code)];
        let (status, tokens) = self.post("/token/", &grant).await;
        assert_eq!(status, 200, "{tokens}");
        tokens
    }

    /// Revokes a refresh token.
    pub(crate) async fn revoke(&self, token: &str) {
        let form = [("client_id", CLIENT_ID), ("token", token)];
        assert_eq!(self.post("/revoke_token/", &form).await.0, 200);
    }

    /// Posts a form; status and JSON of the answer.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let body = Serializer::new(String::new()).extend_pairs(form).finish();
        let answer = http()
            .post(format!("{}{path}", self.issuer))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    /// How often the provider answered `request`, such as `POST /token/ 200`, since it was started.
    pub(crate) fn answered(&self, request: &str) -> usize {
        self.member.count_said(request)
    }
}

/// The status with which a page is answered.
pub(crate) async fn visited(page: &str) -> u16 {
    http().get(page).send().await.unwrap().status().as_u16()
}

fn http() -> reqwest::Client {
    // Fails when another test was first, which chose the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

fn member(folder: &Path, port: Option<u16>, variables: Variables) -> Member {
    let mut arguments = vec!["-B".into(), data("provider.py").into(), folder.into()];
    arguments.extend(port.map(|port| port.to_string().into()));
    let log = folder.join("provider.log");
    Member::new("provider", python(), arguments, variables, log)
}

/// The Python of the provider's own environment.
pub(crate) fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/tools/oidc/bin/python");
    assert!(python.exists(), "no `{}`\nhint: run `make test-tools`", python.display());
    python
}

pub(crate) fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/oidc").join(file)
}
