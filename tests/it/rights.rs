//! What somebody with a valid token can do beyond its rights: raw connections, every attack.

use jetcc::job::wire::{self, HoldWord, Holding};
use jetcc::job::{ActionKey, Digest, JobId, Pool, Proof, Space};
use jetcc::queue::server_config::SCHEDULER_USER;

use crate::harness::attacker::Attacker;
use crate::harness::farm::{Farm, worker_token};
use crate::harness::project::{Project, SLOW};

/// The attacker's name.
const MALLORY: &str = "mallory";
/// Unix time at which tokens of these tests end.
const FAR: u64 = 4_000_000_000;
/// Streams that an attack could change.
const STREAMS: [&str; 7] = [
    "JOBS",
    "RESULTS",
    "BLOBS_IN_shared",
    "BLOBS_OUT_shared",
    "BLOBS_TC_shared",
    "KV_actions",
    "KV_denied",
];
/// Subjects that neither clients nor workers may listen to.
const EARS: [&str; 20] = [
    ">",
    "*",
    "*.>",
    "_INBOX.>",
    "_INBOX.*.>",
    "_INBOX.alice.>",
    "results.>",
    "results.*.*",
    "results.*.*.*",
    "jobs.>",
    "blobs.>",
    "farm.>",
    "farm.c.alice.*",
    "farm.w.>",
    "$KV.>",
    "$JS.>",
    "$JS.EVENT.ADVISORY.>",
    "$SYS.>",
    "$SYS.REQ.USER.AUTH",
    "results.alice.*",
];

/// What nobody but schedulers may say.
fn forbidden() -> Vec<String> {
    let (pool, digest) = (Pool::of_this_machine(), Digest::of(b"evil"));
    let mut subjects = vec![
        format!("jobs.{pool}.n.default"),
        format!("jobs.{pool}.u.alice"),
        format!("jobs.{pool}.a.worker-1"),
        format!("$KV.actions.shared.{digest}"),
        "$KV.workers.worker-1".to_owned(),
        "farm.c.alice.submit".to_owned(),
        "farm.c.alice.result".to_owned(),
        "farm.c.alice.cancel".to_owned(),
        "farm.c.alice.wrong".to_owned(),
        "farm.w.worker-1.wrong".to_owned(),
        "$KV.denied.worker.worker-1".to_owned(),
        "farm.cancel.00000000000000000000000000000000".to_owned(),
        "farm.w.worker-1.hold".to_owned(),
        "farm.over.alice".to_owned(),
        "flights.1.mallory.2".to_owned(),
        "flights.1.left".to_owned(),
        "_INBOX.alice.1".to_owned(),
        "_INBOX.worker-1.pull.sweep.1".to_owned(),
        "$SYS.REQ.USER.AUTH".to_owned(),
        "$SYS.REQ.SERVER.PING".to_owned(),
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.JOBS.x".to_owned(),
    ];
    for stream in STREAMS.into_iter().chain(["KV_audits", "DEAD", "FLIGHTS"]) {
        for call in ["INFO", "CREATE", "UPDATE", "DELETE", "PURGE", "MSG.GET", "MSG.DELETE"] {
            subjects.push(format!("$JS.API.STREAM.{call}.{stream}"));
        }
        for call in ["CREATE", "DURABLE.CREATE", "DELETE", "INFO", "MSG.NEXT"] {
            subjects.push(format!("$JS.API.CONSUMER.{call}.{stream}.mine"));
        }
        // By sequence, or of streams that are not theirs.
        subjects.push(format!("$JS.API.DIRECT.GET.{stream}"));
    }
    subjects.push(format!("$JS.API.DIRECT.GET.KV_actions.$KV.actions.shared.{digest}"));
    subjects.push("$JS.API.DIRECT.GET.RESULTS.results.alice.1".to_owned());
    subjects.push(format!("$JS.API.DIRECT.GET.JOBS.jobs.{pool}.n.default"));
    subjects
        .extend(["$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES"].map(Into::into));
    subjects
}

/// Where an answer of the server's would do harm.
fn reflections() -> Vec<String> {
    let pool = Pool::of_this_machine();
    let mut targets = vec![
        format!("$KV.actions.shared.{}", Digest::of(b"key")),
        "$KV.workers.ghost".to_owned(),
        "$KV.denied.worker.worker-1".to_owned(),
        "farm.w.worker-1.wrong".to_owned(),
        format!("jobs.{pool}.n.default"),
        "farm.c.alice.submit".to_owned(),
        "farm.cancel.00000000000000000000000000000000".to_owned(),
        format!("blobs.out.shared.{}.0", Digest::of(b"another")),
    ];
    for stream in STREAMS {
        targets.push(format!("$JS.API.STREAM.DELETE.{stream}"));
        targets.push(format!("$JS.API.STREAM.PURGE.{stream}"));
    }
    targets
}

/// What an attack could change.
fn state(farm: &Farm) -> [u64; 7] {
    STREAMS.map(|stream| farm.held(stream).messages)
}

/// Lets an honest client compile, so that there is something to attack, and again afterwards. What
/// is said after the client has its result was said when this is over.
async fn an_honest_compile(farm: &Farm, name: &str) {
    let source = format!("{name}.c");
    let project = Project::new(&[(source.as_str(), format!("int {name};\n"))]);
    assert_eq!(project.same(farm, &[&format!("gcc -c {source}")]).await, 1);
    farm.wait_until_queue_is_empty().await;
}

/// Stores a blob of its own of `class`, and reads it and asks `questions` with a forged address for
/// each answer: nothing changes, and nothing comes back but what was asked honestly.
async fn mallory_forges_replies(
    farm: &Farm,
    mallory: &mut Attacker,
    class: &str,
    questions: &[&str],
) {
    let stream = format!("BLOBS_{}_shared", class.to_uppercase());
    let blob = format!("blobs.{class}.shared.{}.0", Digest::of(b"evil"));
    let kept = mallory.answer(&blob, b"evil").await;
    assert!(kept.contains(&stream), "{kept}");
    let before = state(farm);
    let read = format!("$JS.API.DIRECT.GET.{stream}.{blob}");
    for target in reflections() {
        for question in questions.iter().copied().chain([read.as_str()]) {
            mallory.ask(question, &target, b"").await;
        }
    }
    assert_eq!(mallory.answer(&read, b"").await, "evil");
    mallory.hears_nothing().await;
    assert_eq!(state(farm), before);
}

#[tokio::test]
async fn a_client_reaches_nothing_but_its_own() {
    let farm = Farm::builder().start().await;
    an_honest_compile(&farm, "before").await;
    let before = state(&farm);
    let token = farm.setting("client", "dist.auth.token");
    let mut mallory = Attacker::connect(&farm, MALLORY, &token).await;
    let mut attacks = forbidden();
    attacks.extend(
        [
            "results.alice.1",
            "results.alice.1.worker-1",
            "results.mallory.1.mallory",
            "progress.alice.1",
            "progress.mallory.1",
            "$JS.ACK.JOBS.x.1.1.1.1.0",
            "$JS.ACK._.hash.JOBS.x.1.1.1.1.0.random",
        ]
        .map(Into::into),
    );
    attacks.push(format!("blobs.out.shared.{}.0", Digest::of(b"evil")));
    mallory.is_refused(&attacks, b"evil").await;
    mallory.is_deaf_to(&EARS).await;
    mallory.is_deaf_to(&["progress.alice.*", "progress.>", "farm.cancel.*"]).await;
    assert_eq!(state(&farm), before);

    let questions = ["farm.c.mallory.status", "farm.c.mallory.wrong"];
    mallory_forges_replies(&farm, &mut mallory, "in", &questions).await;
    an_honest_compile(&farm, "after").await;
    farm.finish().await;
}

#[tokio::test]
async fn a_worker_reaches_nothing_but_its_jobs() {
    let farm = Farm::builder().start().await;
    an_honest_compile(&farm, "before").await;
    let before = state(&farm);
    let token = worker_token(&farm.setting("scheduler", "server_auth.secret_key"), FAR);
    let mut mallory = Attacker::connect(&farm, MALLORY, &token).await;
    let mut attacks = forbidden();
    attacks.push(format!("blobs.in.shared.{}.0", Digest::of(b"evil")));
    attacks.push(format!("blobs.tc.shared.{}.0", Digest::of(b"evil")));
    attacks.push("farm.c.mallory.submit".to_owned());
    // A result, an audit, and a report under another worker's name.
    attacks.push("results.alice.1.worker-1".to_owned());
    attacks.push("results.alice.1.scheduler".to_owned());
    attacks.push("$JS.API.CONSUMER.MSG.NEXT.JOBS.AUDIT-worker-1".to_owned());
    attacks.push("$JS.API.CONSUMER.MSG.NEXT.JOBS.other-pool-n".to_owned());
    attacks.push("$JS.API.CONSUMER.MSG.NEXT.RESULTS.recorder".to_owned());
    attacks.extend(
        [
            "$JS.ACK.RESULTS.recorder.1.1.1.1.0",
            "$JS.ACK.JOBS.x.1.1.1.1.0",
            "$JS.ACK._.hash.JOBS.x.1.1.1.1.0.random",
        ]
        .map(Into::into),
    );
    mallory.is_refused(&attacks, b"evil").await;
    mallory.is_deaf_to(&EARS).await;
    mallory.is_deaf_to(&["progress.>", "results.mallory.*", "farm.c.*.*"]).await;
    assert_eq!(state(&farm), before);

    mallory_forges_replies(&farm, &mut mallory, "out", &["farm.w.mallory.wrong"]).await;
    an_honest_compile(&farm, "after").await;
    farm.finish().await;
}

#[tokio::test]
async fn a_worker_cannot_answer_for_a_job_that_it_was_not_given() {
    let farm = Farm::builder().start().await;
    let token = worker_token(&farm.setting("scheduler", "server_auth.secret_key"), FAR);
    let mut mallory = Attacker::connect(&farm, MALLORY, &token).await;
    let project = Project::slow(77);
    let under_way = project.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    let (job, action) = (JobId::random().unwrap(), ActionKey::from(Digest::of(b"guessed")));
    let proof = Proof::new(&[0; 32], job, &action, &Space::shared(), FAR);
    let pool = Pool::of_this_machine();
    for consumer in ["u", "u-p", "n", "n-p", "b", "b-p"] {
        for place in 1..4 {
            for word in [HoldWord::Finish, HoldWord::GiveBack, HoldWord::Extend] {
                let delivery = format!("$JS.ACK.JOBS.{pool}-{consumer}.1.{place}.1.1700000000.0");
                let holding = Holding { delivery, proof: proof.clone(), word };
                let heard = mallory.answer("farm.w.mallory.hold", &wire::encode(&holding)).await;
                assert_eq!(heard, "");
            }
        }
    }
    let job = farm.held("JOBS");
    assert_eq!((job.messages, job.unacknowledged), (1, 1));
    assert!(farm.member("scheduler").said("spoke for a job that it was not given"));
    under_way.same().await;
    assert_eq!(farm.stats().await.remote_on("worker-1"), 1);
    farm.finish().await;
}

#[tokio::test]
async fn names_that_belong_to_others_are_not_given_away() {
    let farm = Farm::builder().start().await;
    let client = farm.setting("client", "dist.auth.token");
    let worker = worker_token(&farm.setting("scheduler", "server_auth.secret_key"), FAR);
    for name in [SCHEDULER_USER, "auth", "sys", "Alice", "a.b", "a*", ">", ""] {
        for token in [client.as_str(), worker.as_str(), ""] {
            let refused = Attacker::is_turned_away(&farm, name, token).await;
            assert!(refused, "`{name}` was let in");
        }
    }
    farm.finish().await;
}
