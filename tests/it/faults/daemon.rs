//! The client's daemon and wrappers: killed, hanging, starting together, leaving.

use jetcc::exec::Ended;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::farm::Farm;
use crate::harness::processes;
use crate::harness::project::{Project, SLOW, many_sources};
use crate::harness::wait::until;

#[tokio::test]
async fn a_killed_daemons_wrapper_compiles_locally() {
    let farm = Farm::builder().start().await;
    let project = Project::slow(11);
    let compile = project.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    signal_daemon(&farm, Signal::KILL);
    compile.same().await;
    let other = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(other.same(&farm, &["gcc -c a.c"]).await, 1);
    farm.finish().await;
}

#[tokio::test]
async fn a_hanging_daemons_wrapper_compiles_locally() {
    let farm = Farm::builder().start().await;
    let project = Project::slow(12);
    let compile = project.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    signal_daemon(&farm, Signal::STOP);
    compile.same().await;
    signal_daemon(&farm, Signal::CONT);
    farm.finish().await;
}

#[tokio::test]
async fn a_daemon_that_is_told_to_stop_finishes_its_compiles() {
    let farm = Farm::builder().start().await;
    let project = Project::slow(13);
    let compile = project.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    farm.stop_daemon().await;
    compile.same().await;
    assert!(farm.held("RESULTS").messages == 1);
    farm.finish().await;
}

#[tokio::test]
async fn wrappers_that_start_together_start_one_daemon() {
    let farm = Farm::builder().start().await;
    let project = Project::new(&many_sources(8));
    let names: Vec<String> = (0..8).map(|n| format!("f{n}.c")).collect();
    let compiles: Vec<_> = names
        .iter()
        .map(|name| tokio::spawn(farm.jetcc(project.path(), &["gcc", "-c", name])))
        .collect();
    for compile in compiles {
        assert_eq!(compile.await.unwrap().status, Ended::Code(0));
    }
    assert_eq!(farm.daemons().len(), 1);
    assert_eq!(farm.stats().await.count("compile_requests"), 8);
    farm.finish().await;
}

#[tokio::test]
async fn an_idle_daemon_leaves() {
    let mut farm = Farm::builder().start().await;
    farm.set_variable("JETCC_IDLE_TIMEOUT", "1");
    let project = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    farm.wait_until_daemon_is_gone().await;
    assert!(!farm.path("daemon.sock").exists());
    farm.finish().await;
}

#[tokio::test]
async fn no_daemon_is_started_when_that_is_forbidden() {
    let mut farm = Farm::builder().start().await;
    farm.set_variable("JETCC_NO_DAEMON", "1");
    let project = Project::new(&[("a.c", "int a;\n"), ("b.c", "int b;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 0);
    assert!(farm.daemons().is_empty());

    farm.add_daemon().await;
    assert_eq!(project.same(&farm, &["gcc -c a.c", "gcc -c b.c"]).await, 2);
    assert!(farm.daemons().is_empty());
    farm.stop("client-daemon").await;
    farm.finish().await;
}

#[tokio::test]
async fn an_interrupted_wrapper_takes_its_job_with_it() {
    let farm = Farm::builder().start().await;
    let project = Project::slow(14);
    let words: Vec<&str> = SLOW.split_whitespace().collect();
    let compile = tokio::spawn(farm.jetcc(project.path(), &words));
    let compiler = farm.compiles("worker-1", "slow.cc").await;
    compile.abort();
    let worker = farm.member("worker-1").id();
    until("the compiler is gone", async || {
        processes::compiling(worker, "slow.cc").is_none().then_some(())
    })
    .await;
    until("the job is gone", async || (farm.held("JOBS").messages == 0).then_some(())).await;
    assert_eq!(farm.held("RESULTS").messages, 0, "it was not ended but finished: {compiler:?}");
    farm.finish().await;
}

fn signal_daemon(farm: &Farm, signal: Signal) {
    let daemons = farm.daemons();
    let [daemon] = daemons.as_slice() else { panic!("not one daemon: {daemons:?}") };
    kill_process(Pid::from_raw(daemon.id.cast_signed()).unwrap(), signal).unwrap();
}
