//! A real S3 server, `s3s-fs`, on a free port of this machine with a bucket in a temporary folder.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::{fs, io, thread};

use jetcc::store::StoreSettings;
use tempfile::TempDir;
use toml::{Table, Value};

use super::tls_end::TlsEnd;

const ACCESS_KEY: &str = "jetcc-test";
const SECRET_KEY: &str = "jetcc-test-secret";
const BUCKET: &str = "bucket";

/// A running server; ends when dropped.
pub(crate) struct S3Server {
    child: Child,
    endpoint: String,
    folder: TempDir,
}

impl S3Server {
    /// Starts a server and waits until it says where it listens.
    #[expect(clippy::disallowed_methods, reason = "a server outlives the call that starts it")]
    pub(crate) fn start() -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/tools/bin/s3s-fs");
        assert!(program.exists(), "no `{}`\nhint: run `make tools`", program.display());
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut child = std::process::Command::new(program)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(folder.path())
            .env_clear()
            .env("RUST_LOG", "s3s_fs=info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let endpoint = listening_at(&mut log);
        thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        Self { child, endpoint, folder }
    }

    /// Settings of a client that may write below `prefix`.
    pub(crate) fn settings(&self, prefix: &str) -> StoreSettings {
        settings(&self.endpoint, prefix, SECRET_KEY)
    }

    /// Settings of somebody who does not know the key.
    pub(crate) fn settings_of_a_stranger(&self) -> StoreSettings {
        settings(&self.endpoint, "", "guessed")
    }

    /// Settings of a client that may write below `prefix` and comes by way of `end`, which it believes.
    pub(crate) fn settings_over_tls(&self, end: &TlsEnd, prefix: &str) -> StoreSettings {
        let mut settings = settings(&end.endpoint(), prefix, SECRET_KEY);
        settings.options.remove("allow_http");
        settings.ca_file = Some(end.ca_file());
        settings
    }

    /// Where it listens, `127.0.0.1:PORT`.
    pub(crate) fn host_and_port(&self) -> &str {
        self.endpoint.strip_prefix("http://").unwrap()
    }

    /// Where the server keeps the object.
    pub(crate) fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// `settings` as the section `[store]` of a settings file.
pub(crate) fn section(settings: &StoreSettings) -> Table {
    let mut section = Table::new();
    section.insert("url".into(), settings.url.clone().into());
    section.insert("options".into(), Value::try_from(&settings.options).unwrap());
    if let Some(file) = &settings.ca_file {
        section.insert("ca_file".into(), file.to_str().unwrap().into());
    }
    Table::from_iter([("store".to_owned(), Value::Table(section))])
}

/// Settings for a server at `endpoint`.
pub(crate) fn settings(endpoint: &str, prefix: &str, secret_key: &str) -> StoreSettings {
    let options = [
        ("endpoint", endpoint),
        ("region", "us-east-1"),
        ("access_key_id", ACCESS_KEY),
        ("secret_access_key", secret_key),
        ("allow_http", "true"),
    ];
    StoreSettings {
        url: format!("s3://{BUCKET}/{prefix}"),
        options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ca_file: None,
    }
}

fn listening_at(log: &mut impl io::BufRead) -> String {
    for line in log.lines() {
        let line = line.unwrap();
        if let Some((_, address)) = line.split_once("http://") {
            let end = address.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
            return format!("http://{}", &address[..end.unwrap_or(address.len())]);
        }
    }
    panic!("s3s-fs ended before it listened");
}
