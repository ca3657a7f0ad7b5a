//! Results are checked by running some jobs again elsewhere: a liar is found and put out, and nobody
//! else is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use jetcc::config::Environment;
use jetcc::job::{Audit, Digest, WorkerId};
use jetcc::queue::audits::Audits;
use rustix::process::Signal;

use crate::harness::farm::Farm;
use crate::harness::project::{Project, SLOW, slow_source};
use crate::harness::wait::until;
use crate::revocation::auth;
use crate::seeds::job_message;

const EVERY_RESULT: &str = "audit.sample_rate = 1";
/// gcc names the sections of such an object by chance.
const NOT_REPEATABLE: &str = "gcc -O1 -flto -c lto.c";
/// Compiles in which a liar has its turn for sure.
const TURNS: u32 = 40;

/// A worker's bubblewrap that changes some objects after the compiler has written them, and leaves
/// the toolchain's references alone.
fn lying_bubblewrap(farm: &Farm) -> PathBuf {
    let bwrap = Environment::capture().find_program("bwrap").unwrap();
    let script = format!(
        "#!/bin/sh\n\
         {} \"$@\"\n\
         code=$?\n\
         while [ $# -gt 1 ]; do\n\
           if [ \"$1\" = --bind ]; then\n\
             for file in \"$2\"/victim*.o; do [ -f \"$file\" ] && printf lie >> \"$file\"; done\n\
           fi\n\
           shift\n\
         done\n\
         exit $code\n",
        bwrap.display()
    );
    program(farm, "lying-bwrap", &script)
}

/// A program of this text in the farm's folder.
fn program(farm: &Farm, name: &str, script: &str) -> PathBuf {
    let path = farm.path(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn add_liar(farm: &mut Farm, name: &str) {
    let bwrap = lying_bubblewrap(farm);
    add(farm, name, bwrap).await;
}

async fn add(farm: &mut Farm, name: &str, bwrap: PathBuf) {
    let own = [("JETCC_CACHE_DIR", farm.path(name)), ("JETCC_BWRAP_PATH", bwrap)];
    farm.add_with("worker", name, &own).await;
}

/// Waits until the scheduler has counted so many audits that ended in that way.
async fn audits(farm: &Farm, ended: &str, count: u64) {
    until(&format!("{count} audits have {ended}"), async || {
        let found = farm.findings().await["audits"][ended].as_u64();
        (found == Some(count)).then_some(())
    })
    .await;
}

/// A project of sources that are all alike but for a number: the liar is honest about one half.
fn sources() -> Project {
    let text = |n| format!("int number(void) {{ return {n}; }}\n");
    let file = |name: &str, n| (format!("{name}{n}.c"), text(n));
    Project::new(
        &(0..TURNS).flat_map(|n| [file("plain", n), file("victim", n)]).collect::<Vec<_>>(),
    )
}

/// Whether it is worker or auditor: it alone is put out, with everything that it gave.
#[tokio::test]
async fn a_liar_is_quarantined_and_its_results_are_withdrawn() {
    let mut farm = Farm::builder().workers(2).setting("scheduler", EVERY_RESULT).start().await;
    add_liar(&mut farm, "worker-3").await;
    farm.wait_for_workers(3).await;
    let project = sources();
    let mut turn = 0;
    while farm.stats().await.remote_on("worker-3") == 0 {
        assert_eq!(project.same(&farm, &[&format!("gcc -c plain{turn}.c")]).await, 1);
        turn += 1;
        audits(&farm, "passed", turn).await;
    }
    let plain = format!("gcc -c plain{}.c", turn - 1);
    let mut victims = Vec::new();
    for turn in 0..TURNS {
        victims.push(format!("gcc -c victim{turn}.c"));
        project.through(&farm, &[&victims[victims.len() - 1]]).await;
        if farm.finding("denied").await == 1 {
            break;
        }
    }
    audits(&farm, "failed", 1).await;
    farm.wait_for_workers(2).await;
    let scheduler = farm.member("scheduler");
    until("what it gave is withdrawn, and it does not come back", async || {
        let refused = scheduler.said("turned away user=\"worker-3\"");
        (refused && scheduler.said("known results withdrawn worker=worker-3")).then_some(())
    })
    .await;
    let findings = farm.findings().await;
    assert_eq!((&findings["denied"], &findings["suspected"]), (&1.into(), &serde_json::json!([])));
    assert!(scheduler.said("denied party=worker `worker-3` by=quarantine"));

    let before = farm.stats().await;
    assert_eq!(project.same(&farm, &[&plain]).await, 1);
    for victim in &victims {
        project.same(&farm, &[victim]).await;
    }
    assert_eq!(farm.stats().await.remote_on("worker-3"), before.remote_on("worker-3"));
    farm.finish().await;
}

#[tokio::test]
async fn what_a_worker_was_asked_is_given_up_when_it_is_put_out() {
    let farm = Farm::builder().workers(2).start().await;
    let queue = Audits::open(&farm.connect_as_scheduler().await).await.unwrap();
    let silent = WorkerId::try_from("worker-2".to_owned()).unwrap();
    farm.signal("worker-2", Signal::STOP);
    let mut job = job_message();
    job.client = "audit".to_owned().try_into().unwrap();
    let audit = Audit { job: job.clone(), asked: Some(silent.clone()), runs: Vec::new() };
    queue.keep(job.submit.job, &audit).await.unwrap();
    queue.ask(&silent, &job).await.unwrap();
    auth(&farm, &["deny", "worker", "worker-2", "--reason", "it says nothing"]).await;
    audits(&farm, "dropped", 1).await;
    farm.wait_until_queue_is_empty().await;
    farm.signal("worker-2", Signal::CONT);
    farm.finish().await;
}

#[tokio::test]
async fn honest_workers_pass_every_audit() {
    let farm = Farm::builder().workers(3).setting("scheduler", EVERY_RESULT).start().await;
    let project = Project::many(8);
    for n in 0..8 {
        assert_eq!(project.same(&farm, &[&format!("gcc -O1 -g -c f{n}.c")]).await, 1);
        audits(&farm, "passed", n + 1).await;
    }
    let findings = farm.findings().await;
    let counts = serde_json::json!({"passed": 8, "failed": 0, "unclear": 0, "dropped": 0});
    assert_eq!((&findings["audits"], &findings["denied"]), (&counts, &0.into()));
    assert_eq!(findings["withdrawn"], 0);
    farm.finish().await;
}

#[tokio::test]
async fn nobody_is_blamed_for_a_compile_that_is_not_repeatable() {
    let farm = Farm::builder().workers(3).setting("scheduler", EVERY_RESULT).start().await;
    let project = Project::new(&[("lto.c", "int f(int x) { return x + 1; }\n")]);
    assert_eq!(project.same(&farm, &[NOT_REPEATABLE]).await, 1);
    audits(&farm, "unclear", 1).await;
    until("its result is withdrawn", async || (farm.finding("withdrawn").await == 1).then_some(()))
        .await;
    let findings = farm.findings().await;
    assert_eq!((&findings["denied"], &findings["suspected"]), (&0.into(), &serde_json::json!([])));
    assert_eq!(project.same(&farm, &[NOT_REPEATABLE]).await, 1);
    assert_eq!(farm.stats().await.hits(), 0);
    audits(&farm, "unclear", 2).await;
    farm.finish().await;
}

#[tokio::test]
async fn two_workers_that_differ_are_suspected_and_keep_working() {
    let farm = Farm::builder().workers(2).setting("scheduler", EVERY_RESULT).start().await;
    let project = Project::new(&[("lto.c", "int f(int x) { return x + 1; }\n")]);
    assert_eq!(project.same(&farm, &[NOT_REPEATABLE]).await, 1);
    audits(&farm, "unclear", 1).await;
    let findings = farm.findings().await;
    let mut pair: Vec<String> = serde_json::from_value(findings["suspected"][0].clone()).unwrap();
    pair.sort();
    assert_eq!(pair, ["worker-1", "worker-2"]);
    assert_eq!(findings["denied"], 0);
    farm.wait_for_workers(2).await;
    farm.finish().await;
}

/// A worker's bubblewrap that floods us instead of compiling what is not repeatable.
fn flooding_bubblewrap(farm: &Farm) -> PathBuf {
    let bwrap = Environment::capture().find_program("bwrap").unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *-flto*) exec cat /dev/zero;; esac\nexec {} \"$@\"\n",
        bwrap.display()
    );
    program(farm, "flooding-bwrap", &script)
}

/// Two differ, and the third gives no result: what is known is withdrawn all the same.
#[tokio::test]
async fn a_third_worker_that_gives_no_result_decides_nothing() {
    let mut farm = Farm::builder().workers(2).setting("scheduler", EVERY_RESULT).start().await;
    let bwrap = flooding_bubblewrap(&farm);
    add(&mut farm, "worker-3", bwrap).await;
    farm.wait_for_workers(3).await;
    let name = |turn| format!("lto{turn}.c");
    let text = |turn| format!("int f(int x) {{ return x + {turn}; }}\n");
    let files: Vec<_> = (0..TURNS).map(|turn| (name(turn), text(turn))).collect();
    let project = Project::new(&files);
    let mut ended = 0;
    for turn in 0..TURNS {
        // What the third one is given first comes home, and is no audit.
        ended += project.same(&farm, &[&format!("gcc -O1 -flto -c {}", name(turn))]).await;
        until("every audit has ended", async || {
            let counts = farm.findings().await["audits"].clone();
            let sum: u64 = counts.as_object()?.values().filter_map(serde_json::Value::as_u64).sum();
            (sum == ended).then_some(())
        })
        .await;
        if farm.finding("withdrawn").await > 0 {
            break;
        }
    }
    let findings = farm.findings().await;
    assert_eq!((&findings["withdrawn"], &findings["denied"]), (&1.into(), &0.into()));
    assert_eq!(findings["suspected"].as_array().map(Vec::len), Some(1));
    farm.finish().await;
}

/// Whoever runs it again finds no header in the store, and nobody who would bring it.
#[tokio::test]
async fn nobody_is_blamed_for_an_input_that_is_gone() {
    let store = tempfile::tempdir().unwrap();
    let farm = Farm::builder()
        .workers(2)
        .store(&format!("file://{}", store.path().display()))
        .setting("scheduler", EVERY_RESULT)
        .setting("worker", "upload_wait_seconds = 1")
        .start()
        .await;
    let header = "#define GONE 1\n";
    let source = format!("#include \"gone.h\"\n{}", slow_source(41));
    let project = Project::new(&[("slow.cc", source.as_str()), ("gone.h", header)]);
    let compile = project.begin(&farm, SLOW).await;
    let (_, auditor) = farm.whoever_compiles("slow.cc").await;
    let blob = Digest::of(header.as_bytes());
    fs::remove_file(store.path().join(format!("shared/in/{blob}"))).unwrap();
    compile.same().await;
    audits(&farm, "dropped", 1).await;
    let why = format!("why=\"blob `{blob}` ");
    assert!(farm.member("scheduler").said(&why), "{}", farm.member("scheduler").log());
    assert!(farm.member(auditor).said("job was not done"), "{}", farm.member(auditor).log());

    let findings = farm.findings().await;
    let counts = serde_json::json!({"passed": 0, "failed": 0, "unclear": 0, "dropped": 1});
    assert_eq!((&findings["audits"], &findings["denied"]), (&counts, &0.into()));
    assert_eq!(
        (&findings["suspected"], &findings["withdrawn"]),
        (&serde_json::json!([]), &0.into())
    );
    farm.wait_for_workers(2).await;
    // The result stands.
    assert_eq!(project.same(&farm, &[SLOW]).await, 0);
    assert_eq!(farm.stats().await.hits(), 1);
    farm.finish().await;
}

#[tokio::test]
async fn a_single_worker_is_not_audited() {
    let farm = Farm::builder().setting("scheduler", EVERY_RESULT).start().await;
    let project = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    until("its result is known", async || {
        project.same(&farm, &["gcc -c a.c"]).await;
        (farm.stats().await.hits() > 0).then_some(())
    })
    .await;
    assert_eq!(farm.held("KV_audits").messages, 0);
    let counts = serde_json::json!({"passed": 0, "failed": 0, "unclear": 0, "dropped": 0});
    assert_eq!(farm.findings().await["audits"], counts);
    farm.finish().await;
}
