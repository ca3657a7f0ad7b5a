//! Whoever is denied loses a live connection, does not come back, and works again when allowed.

use jetcc::exec::Ended;
use jetcc::queue::permissions::{CLIENT_ACCOUNT, WORKER_ACCOUNT};

use crate::harness::farm::Farm;
use crate::harness::project::{Project, SLOW};
use crate::harness::wait::until;

/// `jetcc auth WORDS` with the scheduler's settings; asserts that it succeeds and gives its words.
pub(crate) async fn auth(farm: &Farm, words: &[&str]) -> String {
    let config = farm.path("farm/scheduler.toml").display().to_string();
    let arguments: Vec<&str> = ["auth"].iter().chain(words).copied().collect();
    let done = farm.jetcc(&farm.path(""), &[&arguments[..], &["--config", &config]].concat()).await;
    assert_eq!(done.status, Ended::Code(0), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// Waits until nobody is connected to `account` under a name that has `part` in it.
async fn is_gone(farm: &Farm, account: &str, part: &str) {
    until(&format!("`{part}` has no connection"), async || {
        let peers = farm.peers(account).await;
        (!peers.iter().any(|name| name.contains(part))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_denied_client_is_cut_off_compiles_locally_and_comes_back_when_allowed() {
    let farm = Farm::builder().start().await;
    let project = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    let name = farm.peers(CLIENT_ACCOUNT).await.pop().unwrap();
    let client = name.split('/').nth(2).unwrap().to_owned();
    let before = farm.stats().await.local_for("refused");

    auth(&farm, &["deny", "client", &client, "--reason", "its laptop was stolen"]).await;
    is_gone(&farm, CLIENT_ACCOUNT, &client).await;
    assert!(farm.member("scheduler").said("connection ended"));
    until("compiles are local because the client is refused", async || {
        assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 0);
        (farm.stats().await.local_for("refused") > before).then_some(())
    })
    .await;
    let listed = auth(&farm, &["denied"]).await;
    assert!(listed.contains(&client) && listed.contains("its laptop was stolen"), "{listed}");
    assert_eq!(farm.stats().await.hits(), 0);

    auth(&farm, &["allow", "client", &client]).await;
    assert_eq!(auth(&farm, &["denied"]).await, "");
    until("its results are known again", async || {
        project.same(&farm, &["gcc -c a.c"]).await;
        (farm.stats().await.hits() > 0).then_some(())
    })
    .await;
    farm.finish().await;
}

#[tokio::test]
async fn a_denied_worker_is_cut_off_and_its_job_ends_elsewhere() {
    let farm = Farm::builder().workers(2).start().await;
    let project = Project::slow(40);
    let compile = project.begin(&farm, SLOW).await;
    let (denied, other) = farm.whoever_compiles("slow.cc").await;
    auth(&farm, &["deny", "worker", denied, "--reason", "wrong objects", "--hours", "1"]).await;
    is_gone(&farm, WORKER_ACCOUNT, denied).await;
    farm.wait_for_workers(1).await;
    compile.same().await;
    let stats = farm.stats().await;
    assert_eq!((stats.remote_on(denied), stats.remote_on(other)), (0, 1));
    assert_eq!(farm.status().await["SchedulerStatus"][1]["findings"]["denied"], 1);

    auth(&farm, &["allow", "worker", denied]).await;
    farm.wait_for_workers(2).await;
    farm.finish().await;
}

#[tokio::test]
async fn a_tenant_and_a_user_are_denied_with_all_their_clients() {
    let farm = Farm::builder().workers(0).start().await;
    for kind in ["user", "tenant"] {
        let token = farm.setting("client", "dist.auth.token");
        let alice = crate::harness::attacker::Attacker::connect(&farm, "alice", &token).await;
        auth(&farm, &["deny", kind, "alice", "--reason", "left the company"]).await;
        is_gone(&farm, CLIENT_ACCOUNT, "alice").await;
        drop(alice);
        auth(&farm, &["allow", kind, "alice"]).await;
    }
    farm.finish().await;
}
