//! Workers that die, hang or leave in the middle of a compile.

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::harness::farm::Farm;
use crate::harness::processes;
use crate::harness::project::{Project, SLOW};
use crate::harness::wait::until;

#[tokio::test]
async fn a_killed_workers_job_is_finished_by_another() {
    let mut farm = Farm::builder().workers(2).start().await;
    let project = Project::slow(1);
    let compile = project.begin(&farm, SLOW).await;
    let (first, second) = farm.whoever_compiles("slow.cc").await;
    farm.kill(first).await;
    farm.compiles(second, "slow.cc").await;
    compile.same().await;
    assert_eq!(farm.stats().await.remote_on(second), 1);
    farm.finish().await;
}

#[tokio::test]
async fn a_killed_workers_job_comes_home_when_there_is_no_other() {
    let mut farm = Farm::builder().start().await;
    let project = Project::slow(2);
    let compile = project.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    farm.kill("worker-1").await;
    compile.same().await;
    assert_eq!(farm.stats().await.local_for("worker-lost"), 1);
    assert!(farm.explain("slow.cc").await.contains("worker-lost"));
    farm.finish().await;
}

#[tokio::test]
async fn a_hanging_workers_job_comes_home_and_its_late_result_does_no_harm() {
    let farm = Farm::builder().start().await;
    let project = Project::slow(3);
    let compile = project.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    farm.signal("worker-1", Signal::STOP);
    compile.same().await;
    assert_eq!(farm.stats().await.local_for("worker-lost"), 1);
    farm.signal("worker-1", Signal::CONT);
    farm.finish().await;
}

#[tokio::test]
async fn a_killed_worker_removes_what_it_left_when_it_starts_again() {
    let mut farm = Farm::builder().start().await;
    let project = Project::slow(4);
    let compile = project.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    farm.kill("worker-1").await;
    farm.start_again("worker-1").await;
    compile.same().await;
    assert_eq!(farm.stats().await.remote(), 1);
    farm.finish().await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_under_load_loses_no_job() {
    let mut farm = Farm::builder().workers(2).start().await;
    let project = Project::many(60);
    let build = project.begin_build(&farm, 16).await;
    until("some objects are there", async || (project.objects() > 5).then_some(())).await;
    farm.stop("worker-1").await;
    build.same().await;
    let stats = farm.stats().await;
    assert_eq!((stats.remote(), stats.local()), (60, BTreeMap::new()));
    assert!(stats.remote_on("worker-1") > 0 && stats.remote_on("worker-2") > 0, "{stats:?}");
    farm.finish().await;
}

#[tokio::test]
async fn the_last_worker_that_is_told_to_stop_finishes_what_it_has() {
    let mut farm = Farm::builder().start().await;
    let project = Project::slow(5);
    let compile = project.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    farm.stop("worker-1").await;
    compile.same().await;
    assert_eq!(farm.stats().await.remote(), 1);
    farm.finish().await;
}

#[tokio::test]
async fn a_job_that_kills_its_workers_is_given_up() {
    // The client waits for as long as the farm tries, and the other worker is there meanwhile.
    let patient = "dist.silence_seconds_max = 600";
    let mut farm = Farm::builder().workers(2).setting("client", patient).start().await;
    let project = Project::slow(6);
    let compile = project.begin(&farm, SLOW).await;
    loop {
        let victim = until("a worker compiles it, or it is given up", async || {
            let compiles = |name| processes::compiling(farm.member(name).id(), "slow.cc").is_some();
            let victim = ["worker-1", "worker-2"].into_iter().find(|name| compiles(name));
            let given_up = farm.member("scheduler").said("job given up");
            (victim.is_some() || given_up).then_some(victim)
        });
        let Some(victim) = victim.await else { break };
        farm.kill(victim).await;
        farm.start_again(victim).await;
    }
    compile.same().await;
    assert_eq!(farm.stats().await.local_for("worker-trouble"), 1);
    assert!(farm.explain("slow.cc").await.contains("no worker could finish it"));
    farm.finish().await;
}
