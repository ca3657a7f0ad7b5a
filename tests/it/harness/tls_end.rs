//! A process that speaks TLS before a server that does not, with a certificate of an authority of its
//! own: `tests/data/tls_end.py`.

use std::fs;
use std::path::{Path, PathBuf};

use jetcc::setup::certificates::{Authority, Purpose, valid_for};
use jetcc::setup::put_pair;
use tempfile::TempDir;

use super::members::{Member, Variables};
use super::oidc::python;

/// What it says when it listens, before its address.
const READY: &str = "listening at ";

/// A running process; ends when dropped.
pub(crate) struct TlsEnd {
    member: Member,
    folder: TempDir,
}

impl TlsEnd {
    /// In front of the server at `host_and_port`.
    pub(crate) async fn of(host_and_port: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("jetcc-tls-").tempdir().unwrap();
        let (authority, own) = Authority::make().unwrap();
        fs::write(folder.path().join("ca.pem"), own.certificate).unwrap();
        let pair = authority.sign(Purpose::Serve, &["127.0.0.1".into()], &valid_for(3_600));
        put_pair(&folder.path().join("server"), &pair.unwrap()).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls_end.py");
        let (host, port) = host_and_port.rsplit_once(':').unwrap();
        let file = |name: &str| folder.path().join(name).into_os_string();
        let arguments = vec![
            "-B".into(),
            program.into(),
            file("server.pem"),
            file("server.key"),
            host.into(),
            port.into(),
        ];
        let log = folder.path().join("tls_end.log");
        let mut member = Member::new("tls_end", python(), arguments, Variables::new(), log);
        member.start_until(READY).await;
        Self { member, folder }
    }

    /// Where it listens: `https://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        let log = self.member.log();
        let address = log.split_once(READY).unwrap().1.lines().next().unwrap();
        format!("https://{address}")
    }

    /// The certificate of its authority.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}
