//! Schedulers and the nats-server that die while clients and workers are at work.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::Signal;

use crate::harness::farm::Farm;
use crate::harness::project::{Project, SLOW, many_sources};
use crate::harness::wait::until;

#[tokio::test]
async fn a_result_arrives_without_the_scheduler_that_took_the_job() {
    let mut farm = Farm::builder().start().await;
    let project = Project::slow(21);
    let compile = project.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    farm.kill("scheduler").await;
    compile.same().await;
    assert_eq!(farm.stats().await.remote(), 1);

    // The result is recorded as soon as there is a scheduler again.
    farm.start_again("scheduler").await;
    until("the result is recorded", async || (farm.held("KV_actions").messages > 0).then_some(()))
        .await;
    farm.finish().await;
}

#[tokio::test]
async fn a_scheduler_that_was_restarted_takes_jobs_again() {
    let mut farm = Farm::builder().start().await;
    let project = Project::new(&many_sources(3));
    assert_eq!(project.same(&farm, &["gcc -c f0.c"]).await, 1);
    farm.stop("scheduler").await;
    assert_eq!(project.same(&farm, &["gcc -c f1.c"]).await, 0);
    assert_eq!(farm.stats().await.local_for("no-scheduler"), 1);
    farm.start_again("scheduler").await;
    farm.wait_for_workers(1).await;
    remote_again(&farm, &project, "gcc -c f2.c").await;
    farm.finish().await;
}

#[tokio::test]
async fn of_two_schedulers_one_may_die() {
    let mut farm = Farm::builder().start().await;
    farm.add("scheduler", "scheduler-2").await;
    let project = Project::many(40);
    let build = project.begin_build(&farm, 8).await;
    until("some objects are there", async || (project.objects() > 5).then_some(())).await;
    farm.kill("scheduler").await;
    build.same().await;
    let stats = farm.stats().await;
    assert_eq!((stats.remote(), stats.local()), (40, BTreeMap::new()));
    farm.finish().await;
}

#[tokio::test]
async fn a_server_that_is_restarted_in_a_build_costs_no_object() {
    let mut farm = Farm::builder().workers(2).start().await;
    let project = Project::many(60);
    let build = project.begin_build(&farm, 8).await;
    until("some objects are there", async || (project.objects() > 5).then_some(())).await;
    farm.kill("nats-server").await;
    farm.start_again("nats-server").await;
    build.same().await;

    farm.wait_for_workers(2).await;
    let after = Project::new(&[("after.c", "int after;\n")]);
    remote_again(&farm, &after, "gcc -c after.c").await;
    farm.finish().await;
}

#[tokio::test]
async fn a_server_that_lost_its_streams_gets_them_again() {
    let mut farm = Farm::builder().start().await;
    let project = Project::new(&[("a.c", "int a;\n"), ("b.c", "int b;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    farm.kill("nats-server").await;
    fs::remove_dir_all(farm.path("jetstream")).unwrap();
    farm.start_again("nats-server").await;
    farm.wait_for_workers(1).await;
    remote_again(&farm, &project, "gcc -c b.c").await;
    farm.finish().await;
}

#[tokio::test]
async fn a_server_that_hangs_sends_compiles_home() {
    let farm = Farm::builder().start().await;
    let project = Project::slow(22);
    let compile = project.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    farm.signal("nats-server", Signal::STOP);
    compile.same().await;
    let other = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(other.same(&farm, &["gcc -c a.c"]).await, 0);
    farm.signal("nats-server", Signal::CONT);
    remote_again(&farm, &other, "gcc -c a.c").await;
    farm.finish().await;
}

#[tokio::test]
async fn of_a_list_of_servers_one_is_enough() {
    let mut farm = Farm::builder().start().await;
    let nobody = "nats://127.0.0.1:1";
    let list = format!("{nobody},{},{nobody}", farm.nats_url());
    farm.set_variable("JETCC_DIST_SCHEDULER_URL", list);
    let project = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    farm.finish().await;
}

/// Runs `command` until it is not local any more: the client gives a farm in trouble a rest.
async fn remote_again(farm: &Farm, project: &Project, command: &str) {
    until("compiles are remote again", async || {
        let ran = project.same(farm, &[command]).await == 1;
        (ran || farm.stats().await.hits() > 0).then_some(())
    })
    .await;
}
