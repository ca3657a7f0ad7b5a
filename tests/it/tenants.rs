//! What tenants have of each other: nothing, unless the farm says that they share; and what each may
//! use. Every row by real connections with valid tokens.

use std::time::Duration;

use futures_util::future::join_all;
use jetcc::job::wire::{HelloReply, JobEnd, Submit, SubmitReply, Trouble};
use jetcc::job::{Digest, Exit, JobId, Outcome};
use jetcc::queue::Connection;
use jetcc::queue::submit::{self, Word};

use crate::harness::attacker::Attacker;
use crate::harness::farm::{Builder, Farm, worker_token};
use crate::harness::project::{Project, SLOW};
use crate::harness::requests;
use crate::harness::wait::until;

/// Three tenants; the client is one of acme's unless a test says otherwise.
const TENANTS: &str = "client_auth = [
    { type = 'token', token = 'of acme', tenant = 'acme' },
    { type = 'token', token = 'of umbrella', tenant = 'umbrella' },
    { type = 'token', token = 'of initech', tenant = 'initech' },
]";
/// A header that is a source too.
const HEADER: &str = "int secret_of_acme = 42;\n";
/// Unix time at which tokens of these tests end.
const FAR: u64 = 4_000_000_000;
const COMMAND: &str = "gcc -c a.c";

fn tenants() -> Builder {
    Farm::builder()
        .setting("scheduler", TENANTS)
        .setting("client", "dist.auth.token = 'of acme'")
        .setting("worker", "inline_bytes_max = 0\nupload_wait_seconds = 1")
}

fn project() -> Project {
    Project::new(&[("a.c", "#include \"a.h\"\nint more = 1;\n"), ("a.h", HEADER)])
}

/// The client's next compile is one of `tenant`.
async fn act_as(farm: &Farm, tenant: &str) {
    farm.stop_daemon().await;
    farm.set("client", &format!("dist.auth.token = 'of {tenant}'"));
}

/// A client that keeps to the protocol and nothing else.
struct Stranger(submit::Farm, Connection);

impl Stranger {
    async fn of(farm: &Farm, tenant: &str, name: &str) -> Self {
        let (joined, connection) = requests::join(farm, name, &format!("of {tenant}")).await;
        let hello = joined.hello().await.unwrap();
        let space = tenant.parse().unwrap();
        assert_eq!(hello, HelloReply::Welcome { space, over_quota: None });
        Self(joined, connection)
    }

    /// Compiles the file that has `digest`, whoever's it is.
    async fn compile(&self, digest: Digest, size: u64) -> JobEnd {
        let submit = request(digest, size).await;
        let mut following = self.0.follow(submit.job);
        let told = self.0.submit(&submit).await.unwrap();
        assert!(matches!(told, SubmitReply::Accepted { .. }), "{told:?}");
        loop {
            let word = tokio::time::timeout(Duration::from_secs(60), following.next()).await;
            if let Some(Word::Result(result)) = word.unwrap() {
                return result.end;
            }
        }
    }

    async fn leave(self) {
        self.1.close().await;
    }
}

/// Asks to compile the file that has `digest` with this machine's gcc.
async fn request(digest: Digest, size: u64) -> Submit {
    let within = Duration::from_secs(60);
    requests::request("gcc -c a.c -o a.o", "a.c", (digest, size), "a.o", within).await
}

#[tokio::test]
async fn what_one_tenant_has_another_can_neither_read_nor_write() {
    let farm = tenants().start().await;
    let project = project();
    assert_eq!(project.same(&farm, &[COMMAND]).await, 1);
    let object = Digest::of(&project.locally(&farm, &[COMMAND]).await.files["a.o"].1);
    let (_, packed) = requests::compiler("gcc").await;
    let blobs =
        [("in", Digest::of(HEADER.as_bytes())), ("out", object), ("tc", packed.tree_digest)];
    let mut friend = Attacker::connect(&farm, "friend", "of acme").await;
    let mut mallory = Attacker::connect(&farm, "mallory", "of umbrella").await;
    // Makes her space.
    mallory.answer("farm.c.mallory.hello", b"").await;

    let mut attacks = Vec::new();
    for (class, digest) in blobs {
        let stream = |space| format!("BLOBS_{}_{space}", class.to_uppercase());
        let blob = |space| format!("blobs.{class}.{space}.{digest}.0");
        let read = |space| format!("$JS.API.DIRECT.GET.{}.{}", stream(space), blob(space));
        assert!(!friend.answer(&read("acme"), b"").await.is_empty(), "acme has no {class}");
        assert!(mallory.answer(&read("umbrella"), b"").await.is_empty(), "{class} is shared");
        attacks.extend([read("acme"), blob("acme"), read("shared"), blob("shared")]);
        for (one, other) in [("acme", "umbrella"), ("umbrella", "acme")] {
            attacks.push(format!("$JS.API.DIRECT.GET.{}.{}", stream(one), blob(other)));
        }
        for call in ["DIRECT.GET", "STREAM.MSG.GET", "STREAM.INFO", "STREAM.PURGE"] {
            attacks.push(format!("$JS.API.{call}.{}", stream("acme")));
        }
        attacks.push(format!("$JS.API.CONSUMER.CREATE.{}.mine", stream("acme")));
    }
    let action = format!("$KV.actions.acme.{}", Digest::of(b"action"));
    attacks.push(format!("$JS.API.DIRECT.GET.KV_actions.{action}"));
    attacks.push(action);
    attacks.extend(
        [
            "farm.c.friend.submit",
            "farm.c.friend.result",
            "farm.c.friend.cancel",
            "farm.over.acme",
            "results.friend.1",
            "progress.friend.1",
            "_INBOX.friend.heard",
        ]
        .map(Into::into),
    );
    mallory.is_refused(&attacks, b"evil").await;
    mallory
        .is_deaf_to(&[
            "blobs.in.acme.>",
            "blobs.*.*.*.*",
            "jobs.*.*.acme",
            "results.friend.*",
            "progress.friend.*",
            "_INBOX.friend.>",
            "farm.over.*",
        ])
        .await;
    friend.hears_nothing().await;
    drop((friend, mallory));
    farm.finish().await;
}

#[tokio::test]
async fn a_result_is_known_to_its_tenant_alone_unless_tenants_share() {
    let quota = "quota.shared_blob_bytes_max = 4600000000";
    let mut farm = tenants().setting("scheduler", quota).start().await;
    let project = project();
    assert_eq!(project.same(&farm, &[COMMAND]).await, 1);
    until("acme's result is known", async || {
        project.through(&farm, &[COMMAND]).await;
        (farm.stats().await.hits() > 0).then_some(())
    })
    .await;
    act_as(&farm, "umbrella").await;
    assert_eq!(project.same(&farm, &[COMMAND]).await, 1);
    assert_eq!(farm.stats().await.hits(), 0);

    farm.stop("scheduler").await;
    farm.set("scheduler", "tenants_share_results = true");
    farm.start_again("scheduler").await;
    farm.wait_for_workers(1).await;
    act_as(&farm, "acme").await;
    assert_eq!(project.same(&farm, &[COMMAND]).await, 1);
    act_as(&farm, "umbrella").await;
    until("what is known to acme is known to umbrella", async || {
        project.through(&farm, &[COMMAND]).await;
        (farm.stats().await.hits() > 0).then_some(())
    })
    .await;
    farm.finish().await;
}

#[tokio::test]
async fn a_digest_gives_nothing_of_another_tenants_file_from_a_workers_disk() {
    let farm = tenants().start().await;
    let project = project();
    assert_eq!(project.same(&farm, &[COMMAND]).await, 1);
    let (digest, size) = (Digest::of(HEADER.as_bytes()), HEADER.len() as u64);
    let friend = Stranger::of(&farm, "acme", "friend").await;
    let end = friend.compile(digest, size).await;
    assert!(matches!(end, JobEnd::Done(Outcome { exit: Exit::Code(0), .. })), "{end:?}");

    // The same file at the same path, which lies in the worker's cache and in a root that waits.
    act_as(&farm, "umbrella").await;
    let own = Project::new(&[("b.c", "int b;\n")]);
    assert_eq!(own.same(&farm, &["gcc -c b.c"]).await, 1);
    let mallory = Stranger::of(&farm, "umbrella", "mallory").await;
    assert_eq!(mallory.compile(digest, size).await, JobEnd::Undone(Trouble::MissingBlob(digest)));

    // A toolchain that the worker has proved for others.
    let trudy = Stranger::of(&farm, "initech", "trudy").await;
    let missing = Trouble::MissingBlob(requests::compiler("gcc").await.1.tree_digest);
    assert_eq!(trudy.compile(digest, size).await, JobEnd::Undone(missing));
    for stranger in [friend, mallory, trudy] {
        stranger.leave().await;
    }
    farm.finish().await;
}

#[tokio::test]
async fn a_tenant_has_no_more_jobs_than_it_may() {
    let quota = "quota.tenants.acme.outstanding_jobs_max = 1";
    let farm = tenants().setting("scheduler", quota).start().await;
    // Its compiler is known before: the next compile is there while the slow one runs.
    let warm = Project::new(&[("warm.c", "int warm;\n")]);
    assert_eq!(warm.same(&farm, &["gcc -c warm.c"]).await, 1);
    let slow = Project::slow(88);
    let under_way = slow.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    let project = project();
    assert_eq!(project.same(&farm, &[COMMAND]).await, 0);
    assert_eq!(farm.stats().await.local_for("over-quota"), 1);
    assert!(farm.explain("a.c").await.contains("tenant `acme` has 1 jobs"));
    under_way.same().await;
    // A job that ended leaves room at once.
    assert_eq!(project.same(&farm, &[COMMAND]).await, 1);
    farm.finish().await;
}

#[tokio::test]
async fn jobs_that_come_at_once_are_no_more_than_those_that_come_one_by_one() {
    let quota = "quota.tenants.acme.outstanding_jobs_max = 2";
    let farm = tenants().setting("scheduler", quota).start().await;
    let stranger = Stranger::of(&farm, "acme", "friend").await;
    let one = request(Digest::of(b"nowhere"), 1).await;
    let all: Vec<Submit> =
        (0..20).map(|_| Submit { job: JobId::random().unwrap(), ..one.clone() }).collect();
    let told = join_all(all.iter().map(|submit| stranger.0.submit(submit))).await;
    let count = |wanted: fn(&SubmitReply) -> bool| {
        told.iter().filter(|told| wanted(told.as_ref().unwrap())).count()
    };
    assert_eq!(count(|told| matches!(told, SubmitReply::Accepted { .. })), 2, "{told:?}");
    assert_eq!(count(|told| matches!(told, SubmitReply::OverQuota(_))), 18, "{told:?}");
    stranger.leave().await;
    farm.finish().await;
}

#[tokio::test]
async fn a_full_space_stops_its_own_tenant_alone() {
    let quota = "quota.tenants.acme.blob_bytes_max = 460000";
    let farm = tenants().setting("scheduler", quota).start().await;
    let mut mallory = Attacker::connect(&farm, "mallory", "of acme").await;
    mallory.answer("farm.c.mallory.hello", b"").await;
    let mut put = async |byte: u8| {
        let blob = format!("blobs.in.acme.{}.0", Digest::of(&[byte]));
        mallory.answer(&blob, &vec![byte; 60_000]).await
    };
    assert!(put(1).await.contains("BLOBS_IN_acme"));
    let full = put(2).await;
    assert!(full.contains("maximum bytes exceeded"), "{full}");
    let project = project();
    assert_eq!(project.same(&farm, &[COMMAND]).await, 0);
    assert_eq!(farm.stats().await.local_for("store"), 1);
    act_as(&farm, "umbrella").await;
    assert_eq!(project.same(&farm, &[COMMAND]).await, 1);
    drop(mallory);
    farm.finish().await;
}

#[tokio::test]
async fn a_space_without_room_for_outputs_keeps_no_worker_from_others() {
    let quota = "quota.tenants.acme.blob_bytes_max = 230000000";
    let farm = tenants().setting("scheduler", quota).start().await;
    // Makes the space, and leaves the toolchain there.
    let project = project();
    assert_eq!(project.same(&farm, &[COMMAND]).await, 1);
    let key = farm.setting("scheduler", "server_auth.secret_key");
    let mut filler = Attacker::connect(&farm, "filler", &worker_token(&key, FAR)).await;
    let mut number = 0_u64;
    for size in [900_000, 9_000, 90] {
        let mut answer = String::new();
        while !answer.contains("maximum bytes exceeded") {
            number += 1;
            let blob = format!("blobs.out.acme.{}.0", Digest::of(&number.to_le_bytes()));
            answer = filler.answer(&blob, &vec![0; size]).await;
        }
    }
    // A worker that rests takes no job: the second would have another reason.
    let others = Project::new(&[("b.c", "int b;\n"), ("c.c", "int c;\n")]);
    assert_eq!(others.same(&farm, &["gcc -c b.c", "gcc -c c.c"]).await, 0);
    assert_eq!(farm.stats().await.local_for("store"), 2);
    drop(filler);
    farm.finish().await;
}

#[tokio::test]
async fn a_space_that_the_server_has_no_room_for_is_said_to_be_so() {
    let quota = "quota.tenants.acme.blob_bytes_max = 99000000000";
    let umbrella = "dist.auth.token = 'of umbrella'";
    let builder = tenants().setting("scheduler", quota).setting("client", umbrella);
    // Umbrella is let in and sees the worker.
    let farm = builder.start().await;
    act_as(&farm, "acme").await;
    let project = project();
    assert_eq!(project.same(&farm, &[COMMAND]).await, 0);
    assert_eq!(farm.stats().await.local_for("refused"), 1);
    assert!(farm.explain("a.c").await.contains("no room for the 99000000000 bytes"));
    farm.finish().await;
}

#[tokio::test]
async fn a_tenant_that_sent_too_much_can_send_no_more_whether_it_listens_or_not() {
    let quota = "quota.tenants.acme.upload_bytes_per_hour_max = 2000000";
    let mut farm = tenants().setting("scheduler", quota).start().await;
    farm.add("scheduler", "scheduler-2").await;
    let mut mallory = Attacker::connect(&farm, "mallory", "of acme").await;
    mallory.answer("farm.c.mallory.hello", b"").await;
    for byte in 0..3 {
        let blob = format!("blobs.in.acme.{}.0", Digest::of(&[byte]));
        assert!(mallory.answer(&blob, &vec![byte; 900_000]).await.contains("BLOBS_IN_acme"));
    }
    let blob = format!("blobs.in.acme.{}.0", Digest::of(b"more"));
    until("her uploads are refused", async || {
        mallory.ask(&blob, "_INBOX.mallory.unheard", b"more").await;
        mallory.was_refused("Publish", &blob).then_some(())
    })
    .await;
    // Those who do listen are told at once, for their tenant's sake.
    let project = project();
    assert_eq!(project.same(&farm, &[COMMAND]).await, 0);
    assert_eq!(farm.stats().await.local_for("over-quota"), 1);
    assert!(farm.explain("a.c").await.contains("more than 2000000 bytes within the hour"));
    let mut other = Attacker::connect(&farm, "other", "of umbrella").await;
    other.answer("farm.c.other.hello", b"").await;
    let theirs = format!("blobs.in.umbrella.{}.0", Digest::of(b"theirs"));
    assert!(other.answer(&theirs, b"theirs").await.contains("BLOBS_IN_umbrella"));
    drop((mallory, other));
    farm.finish().await;
}
