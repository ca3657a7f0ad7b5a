//! Tokens that a program of others signed, by each signature besides the one of the provider: an issuer
//! with its own library for JWTs, `tests/data/oidc/signer.py`.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::farm::Farm;
use crate::harness::members::{Member, Variables};
use crate::harness::oidc::{AUDIENCE, data, python};
use crate::harness::project::{Project, many_sources};

/// What it says when it serves, before its issuer.
const READY: &str = "listening at ";

/// A running issuer; ends when dropped.
struct Signer {
    member: Member,
    folder: TempDir,
}

impl Signer {
    async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("jetcc-signer-").tempdir().unwrap();
        let arguments = vec!["-B".into(), data("signer.py").into(), folder.path().into()];
        let log = folder.path().join("signer.log");
        let mut member = Member::new("signer", python(), arguments, Variables::new(), log);
        member.start_until(READY).await;
        Self { member, folder }
    }

    fn issuer(&self) -> String {
        let log = self.member.log();
        log.split_once(READY).unwrap().1.lines().next().unwrap().to_owned()
    }

    /// A token that was signed by that algorithm and its key, or by another key of the same name.
    fn token(&self, by: &str) -> PathBuf {
        self.folder.path().join(format!("{by}.jwt"))
    }
}

/// The client shows what is in the file.
async fn show(farm: &Farm, token: &Path) {
    farm.stop_daemon().await;
    let token = fs::read_to_string(token).unwrap();
    farm.set("client", &format!("[dist.auth]\ntype = 'token'\ntoken = '{token}'"));
}

#[tokio::test]
async fn tokens_of_another_program_are_taken_by_their_published_keys_alone() {
    let signer = Signer::start().await;
    let way = format!(
        "[client_auth]\ntype = 'oidc'\nissuer = '{}'\naudience = '{AUDIENCE}'\n\
         required_groups = ['compilers']\n",
        signer.issuer()
    );
    // Status is asked with a token that the farm takes.
    let first = fs::read_to_string(signer.token("ES256")).unwrap();
    let client = format!("[dist.auth]\ntype = 'token'\ntoken = '{first}'");
    let builder = Farm::builder().setting("scheduler", &way).setting("client", &client);
    let farm = builder.start().await;
    let project = Project::new(&many_sources(4));
    let mut sources = 0..;
    for algorithm in ["ES256", "EdDSA"] {
        let mut compile = async || {
            let source = sources.next().unwrap();
            project.same(&farm, &[&format!("gcc -c f{source}.c")]).await
        };
        show(&farm, &signer.token(algorithm)).await;
        assert_eq!(compile().await, 1, "{algorithm}");
        show(&farm, &signer.token(&format!("{algorithm}.other"))).await;
        assert_eq!(compile().await, 0, "{algorithm}");
        assert_eq!(farm.stats().await.local_for("refused"), 1, "{algorithm}");
    }
    let scheduler = farm.member("scheduler");
    assert!(scheduler.said("alice\" account=\"CLIENTS\" by=\"oidc"), "{}", scheduler.log());
    assert!(scheduler.count_said("InvalidSignature") >= 2, "{}", scheduler.log());
    farm.finish().await;
}
