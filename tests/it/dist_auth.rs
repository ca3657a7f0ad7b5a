//! Logging in at a real OpenID provider with `jetcc --dist-auth`, and what the daemon shows the farm
//! afterwards.

mod farm;
mod grants;
mod renewal;
mod signer;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jetcc::client::Settings;
use jetcc::client::login::Bearer;
use jetcc::config::{self, Environment};
use jetcc::exec::{self, Ended, Finished, Spec};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::farm::JETCC;
use crate::harness::members::Variables;
use crate::harness::oidc::{CLIENT_ID, Provider};

/// How long a login may take; the command itself is more patient.
const LOGIN: Duration = Duration::from_secs(60);
/// The type of a login through a browser here, and anywhere.
const BROWSER: &str = "oauth2_code_grant_pkce";
const DEVICE: &str = "oauth2_device_authorization_grant";

/// The home of somebody who uses a client, without a daemon.
struct Home {
    folder: TempDir,
    /// A certificate that it trusts.
    certificate: Option<PathBuf>,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("jetcc-home-").tempdir().unwrap();
        Self { folder, certificate: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Settings of a client that logs in at `provider`, in a file of their own; `more` is TOML of
    /// `[dist.auth]`.
    fn settings(&self, provider: &Provider, kind: &str, more: &str) -> PathBuf {
        let issuer = provider.issuer();
        let port = issuer.rsplit(':').next().unwrap();
        let file = self.path(&format!("{kind}-{port}.toml"));
        let text = format!(
            "[dist.auth]\ntype = '{kind}'\nclient_id = '{CLIENT_ID}'\nissuer = '{issuer}'\n{more}\n"
        );
        fs::write(&file, text).unwrap();
        file
    }

    fn variables(&self, settings: &Path) -> Variables {
        let path = Environment::capture().text("PATH").unwrap();
        let home = self.folder.path().into();
        // What stays on this machine is no business of a proxy.
        let proxy = "http://127.0.0.1:1".into();
        let own = ("JETCC_CONF", settings.into());
        [("PATH", path.into()), ("HOME", home), ("HTTP_PROXY", proxy), own]
            .map(|(name, value): (&str, std::ffi::OsString)| (name.into(), value))
            .into()
    }

    /// Runs `jetcc --dist-auth ARGUMENTS`; output goes to the file `said` as it comes.
    async fn log_in(&self, settings: &Path, arguments: &str, browser: Option<&Path>) -> Finished {
        let mut environment = self.variables(settings);
        let certificate = self.certificate.as_ref();
        environment.extend(certificate.map(|file| ("SSL_CERT_FILE".into(), file.into())));
        environment.extend(browser.map(|browser| ("BROWSER".into(), browser.into())));
        let script = format!("'{JETCC}' --dist-auth{arguments} >said 2>&1");
        let spec = Spec {
            arguments: vec!["-c".into(), script.into()],
            environment,
            directory: self.folder.path().into(),
            deadline: LOGIN,
            ..Spec::of(Path::new("/bin/sh"))
        };
        exec::run(spec).await.unwrap()
    }

    /// Logs `user` in at `provider`; gives the settings.
    async fn logged_in(&self, provider: &Provider, user: &str, more: &str) -> PathBuf {
        let settings = self.settings(provider, BROWSER, more);
        let done = self.log_in(&settings, "", Some(&provider.browser(user))).await;
        assert_eq!(done.status, Ended::Code(0), "{}", self.said());
        settings
    }

    /// What the last login said.
    fn said(&self) -> String {
        fs::read_to_string(self.path("said")).unwrap_or_default()
    }

    /// The files of all logins.
    fn logins(&self) -> Vec<PathBuf> {
        let found = fs::read_dir(self.path(".local/state/jetcc/logins")).into_iter().flatten();
        let files = found.flatten().map(|entry| entry.path());
        files.filter(|file| file.extension().is_some_and(|end| end == "json")).collect()
    }

    /// What the only login's file holds.
    fn login(&self) -> Value {
        let [file] = self.logins().try_into().unwrap();
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }

    /// Changes what the only login's file holds.
    fn change_login(&self, change: impl FnOnce(&mut Value)) {
        let [file] = self.logins().try_into().unwrap();
        let mut login = self.login();
        change(&mut login);
        fs::remove_file(&file).unwrap();
        fs::write(&file, login.to_string()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// What a daemon with these settings shows.
    fn bearer(&self, settings: &Path) -> Bearer {
        let Settings { dist, login_dir, .. } =
            config::client(&Environment::from(self.variables(settings))).unwrap();
        Bearer::new(dist.auth.as_ref(), login_dir.as_deref())
    }
}

/// What a JWT says.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
