//! Parts of the farm that are not there: a build costs what one attempt costs, not one a file.

use std::time::Instant;

use jetcc::exec::Ended;
use rustix::process::Signal;

use crate::harness::farm::Farm;
use crate::harness::project::{Project, many_sources};
use crate::harness::wait::until;

/// What the client logs when it gives the farm a rest.
const REST: &str = "compiling locally for a while";
/// Files of the builds here.
const FILES: u64 = 12;

#[tokio::test]
async fn without_a_server() {
    let mut farm = Farm::builder().workers(0).start().await;
    farm.kill("nats-server").await;
    build_is_local(&farm, "no-server", "Connection refused").await;
    farm.finish().await;
}

#[tokio::test]
async fn without_a_scheduler() {
    let mut farm = Farm::builder().workers(0).start().await;
    farm.kill("scheduler").await;
    build_is_local(&farm, "no-scheduler", "no-scheduler").await;
    farm.finish().await;
}

#[tokio::test]
async fn without_a_worker() {
    let farm = Farm::builder().workers(0).start().await;
    build_is_local(&farm, "no-worker", "no-worker").await;
    farm.finish().await;
}

#[tokio::test]
async fn with_a_wrong_client_token() {
    let farm = Farm::builder().workers(0).start().await;
    farm.set("client", "dist.auth.token = 'guessed'");
    build_is_local(&farm, "refused", "token is wrong").await;
    assert!(farm.member("scheduler").said("turned away"));
    farm.finish().await;
}

#[tokio::test]
async fn a_worker_with_a_wrong_token_is_turned_away_and_keeps_trying() {
    let mut farm = Farm::builder().start().await;
    farm.stop("worker-1").await;
    let right = farm.setting("worker", "scheduler_auth.token");
    farm.set("worker", "scheduler_auth.token = 'no.token.at-all'");
    farm.start_unready("worker-1");
    until("the worker was turned away twice", async || {
        (farm.member("worker-1").count_said("turned `worker-1` away") > 1).then_some(())
    })
    .await;
    assert!(farm.member("scheduler").said("turned away"));
    let project = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 0);
    assert_eq!(farm.stats().await.local_for("no-worker"), 1);
    farm.stop("worker-1").await;

    farm.set("worker", &format!("scheduler_auth.token = '{right}'"));
    farm.start_again("worker-1").await;
    farm.finish().await;
}

#[tokio::test]
async fn a_worker_whose_token_has_expired_is_turned_away() {
    let mut farm = Farm::builder().start().await;
    farm.stop("worker-1").await;
    let key = farm.setting("scheduler", "server_auth.secret_key");
    let token = crate::harness::farm::worker_token(&key, 1_000_000_000);
    farm.set("worker", &format!("scheduler_auth.token = '{token}'"));
    farm.start_unready("worker-1");
    until("the scheduler says that the token has expired", async || {
        farm.member("scheduler").said("ExpiredSignature").then_some(())
    })
    .await;
    farm.signal("worker-1", Signal::TERM);
    farm.finish().await;
}

/// Builds some files: all local for `reason` (with `detail`), all right, and the farm was asked no
/// more often than the rests allow, which begin with a second and double.
async fn build_is_local(farm: &Farm, reason: &str, detail: &str) {
    let project = Project::new(&many_sources(FILES));
    let commands: Vec<String> = (0..FILES).map(|n| format!("gcc -c f{n}.c")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let local = project.locally(farm, &commands).await;
    let begun = Instant::now();
    let through = project.through(farm, &commands).await;
    let seconds = begun.elapsed().as_secs();
    local.assert_same(&through, &[]);
    assert!(through.runs.iter().all(|run| run.status == Ended::Code(0)));

    let stats = farm.stats().await;
    assert_eq!(stats.local(), [(reason.to_owned(), FILES)].into());
    let explained = farm.explain("f0.c").await;
    assert!(explained.contains(detail), "{explained}");
    let attempts = farm.client_log().matches(REST).count();
    assert!(attempts >= 1 && (1 << (attempts - 1)) - 1 <= seconds, "{attempts} in {seconds} s");
}
