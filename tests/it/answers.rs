//! Answers for jobs that were really given: the first one counts, and it counts until the job's deadline.

use std::time::{SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use jetcc::job::wire::{
    self, CacheUse, CallOff, JobEnd, JobMessage, JobResult, Submit, SubmitReply, WorkerState,
};
use jetcc::job::{
    Action, Command, Content, Digest, Exit, JobId, Outcome, Pool, Proof, Space, StepTimes,
};
use jetcc::store::Compressed;

use crate::harness::attacker::Attacker;
use crate::harness::farm::{Farm, worker_token};
use crate::harness::wait::until;

/// Unix time at which tokens of these tests end.
const FAR: u64 = 4_000_000_000;
/// Longer than any of these tests, in ms.
const LONG: u64 = 600_000;

/// A farm without honest workers, and a party that has a client's and a worker's token: it knows the
/// proofs of its own jobs.
struct Scene {
    farm: Farm,
    client: Attacker,
    worker: Attacker,
    place: Option<(JobId, u64)>,
}

/// A job that stands in the queue.
struct Queued {
    submit: Submit,
    proof: Proof,
}

impl Scene {
    async fn set() -> Self {
        let farm = Farm::builder().workers(0).start().await;
        let token = farm.setting("client", "dist.auth.token");
        let client = Attacker::connect(&farm, "alice", &token).await;
        let worker = a_worker(&farm, "mallory").await;
        Self { farm, client, worker, place: None }
    }

    async fn ask(&mut self, submit: &Submit) -> SubmitReply {
        let request = wire::encode(submit);
        let reply = self.client.answer_to("farm.c.alice.submit", HeaderMap::new(), &request).await;
        wire::decode(&reply).unwrap()
    }

    /// Queues a job that compiles `source` within so many ms.
    async fn queue(&mut self, source: &str, within_ms: u64) -> Queued {
        until("the job is queued", async || {
            self.worker.ask("$KV.workers.mallory", "_INBOX.mallory.none", &presence()).await;
            let submit = request(source, within_ms);
            match self.ask(&submit).await {
                SubmitReply::Accepted { proof, place, .. } => {
                    self.place = Some((submit.job, place));
                    Some(Queued { submit, proof })
                }
                SubmitReply::NoWorker => None,
                other => panic!("{other:?}"),
            }
        })
        .await
    }

    /// Takes the job out of the queue.
    async fn call_off(&mut self) {
        let (job, place) = self.place.take().unwrap();
        let off = wire::encode(&CallOff { job, place });
        self.client.ask("farm.c.alice.cancel", "_INBOX.alice.none", &off).await;
    }

    /// What is known of the action that compiles `source`: the text that a worker gave for it.
    async fn known(&mut self, source: &str) -> Option<Outcome> {
        self.everything_was_read().await;
        // Without a worker nothing new is queued.
        match self.ask(&request(source, LONG)).await {
            SubmitReply::Cached(record) => Some(record.outcome),
            SubmitReply::Accepted { proof: _, place, .. } => panic!("queued at {place}"),
            _ => None,
        }
    }

    async fn everything_was_read(&self) {
        until("the scheduler has read all results", async || {
            let results = self.farm.held("RESULTS");
            ((results.unacknowledged, results.unseen) == (0, 0)).then_some(())
        })
        .await;
    }

    /// Takes a job out of the lane of builds, as a worker does: the queue's name for its delivery.
    async fn take(&mut self, job: &Queued) -> String {
        // The second is what servers before 2.11 have.
        for (lane, group) in [("n-p", ",\"group\":\"g\""), ("n", "")] {
            let how = format!("{{\"batch\":1,\"no_wait\":true{group}}}");
            if let Some((given, delivery)) =
                self.worker.pull(&format!("{}-{lane}", pool()), &how).await
            {
                let given: JobMessage = wire::decode(&given).unwrap();
                assert_eq!(given.proof, job.proof);
                return delivery;
            }
        }
        panic!("the queue gives no job");
    }

    fn said(&self, words: &str) -> bool {
        self.farm.member("scheduler").said(words)
    }
}

async fn a_worker(farm: &Farm, name: &str) -> Attacker {
    let token = worker_token(&farm.setting("scheduler", "server_auth.secret_key"), FAR);
    Attacker::connect(farm, name, &token).await
}

/// Gives `text` as the answer for the job, in the name of `worker`.
async fn answer(worker: &mut Attacker, name: &str, job: &Queued, text: &str) {
    let result = JobResult { worker: name.parse().unwrap(), ..result(job, text) };
    send(worker, name, &result).await;
}

async fn send(worker: &mut Attacker, name: &str, result: &JobResult) {
    let subject = format!("results.alice.{}.{name}", result.job);
    let stored = worker.answer(&subject, &wire::encode(result)).await;
    assert!(stored.contains("\"seq\""), "{stored}");
}

fn result(job: &Queued, text: &str) -> JobResult {
    JobResult {
        job: job.submit.job,
        action: job.submit.action.key(),
        proof: job.proof.clone(),
        space: Space::shared(),
        deadline_unix_ms: job.submit.deadline_unix_ms,
        worker: "mallory".parse().unwrap(),
        end: JobEnd::Done(outcome(text)),
        times: StepTimes::default(),
        // The worker's own word; the client asked for less.
        cache: CacheUse::Refresh,
        reads: None,
        delivery: None,
    }
}

fn outcome(text: &str) -> Outcome {
    let inline = |bytes: &[u8]| Content::from(Compressed::new(bytes));
    Outcome {
        exit: Exit::Code(0),
        stdout: inline(text.as_bytes()),
        stderr: inline(b""),
        outputs: Vec::new(),
        unexpected: Vec::new(),
    }
}

fn request(source: &str, within_ms: u64) -> Submit {
    let command = Command {
        executable: "/usr/bin/gcc".into(),
        arguments: ["gcc", "-c", source].map(String::from).into(),
        environment: [].into(),
        directory: "/w".into(),
    };
    Submit {
        job: JobId::random().unwrap(),
        action: Action {
            pool: pool(),
            toolchain: Digest::of(b"toolchain"),
            command,
            inputs: Digest::of(b"inputs"),
            outputs: Vec::new(),
            terminal: None,
        },
        inputs_zstd: None,
        inputs_difference: None,
        files_zstd: Vec::new(),
        references: Digest::of(b"references"),
        deadline_unix_ms: unix_ms() + within_ms,
        interactive: false,
        cache: CacheUse::ReadWrite,
        reads: None,
        announced: None,
        offers: false,
    }
}

/// A pool that a worker may serve without more words in its token.
fn pool() -> Pool {
    Pool::of_this_machine()
}

fn presence() -> Vec<u8> {
    let state = WorkerState {
        worker: "mallory".parse().unwrap(),
        pool: pool(),
        slots: 1,
        free: 1,
        running: 0,
        cores: 1,
        version: "1".into(),
        draining: false,
    };
    wire::encode(&state).to_vec()
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

#[tokio::test]
async fn a_second_answer_for_a_job_changes_nothing() {
    let mut scene = Scene::set().await;
    let job = scene.queue("a.c", LONG).await;
    answer(&mut scene.worker, "mallory", &job, "honest").await;
    assert_eq!(scene.known("a.c").await, Some(outcome("honest")));

    // Another outcome by the same worker, and by one to which the queue gave the job meanwhile.
    answer(&mut scene.worker, "mallory", &job, "lie").await;
    let mut next = a_worker(&scene.farm, "next").await;
    answer(&mut next, "next", &job, "late").await;
    assert_eq!(scene.known("a.c").await, Some(outcome("honest")));
    assert_eq!(scene.farm.member("scheduler").count_said("second answer not recorded"), 2);
    scene.call_off().await;
    scene.farm.finish().await;
}

#[tokio::test]
async fn an_answer_takes_the_job_out_of_the_queue_for_which_it_was_given_and_no_other() {
    let mut scene = Scene::set().await;
    let first = scene.queue("c.c", LONG).await;
    let of_first = scene.take(&first).await;
    let second = scene.queue("d.c", LONG).await;
    let of_second = scene.take(&second).await;

    let wrong = JobResult { delivery: Some(of_second.clone()), ..result(&first, "one") };
    send(&mut scene.worker, "mallory", &wrong).await;
    scene.everything_was_read().await;
    assert!(scene.said("worker spoke for a job that it was not given"));
    assert_eq!(scene.farm.held("JOBS").messages, 2);

    for (job, delivery, left) in [(first, of_first, 1), (second, of_second, 0)] {
        let right = JobResult { delivery: Some(delivery), ..result(&job, "one") };
        send(&mut scene.worker, "mallory", &right).await;
        let only = || (scene.farm.held("JOBS").messages == left).then_some(());
        until("the job is out of the queue", async || only()).await;
    }
    scene.farm.finish().await;
}

#[tokio::test]
async fn an_answer_after_the_jobs_deadline_is_not_recorded() {
    let mut scene = Scene::set().await;
    let job = scene.queue("b.c", 5_000).await;
    until("the deadline is over", async || (unix_ms() > job.submit.deadline_unix_ms).then_some(()))
        .await;
    answer(&mut scene.worker, "mallory", &job, "late").await;
    scene.everything_was_read().await;
    assert!(scene.said("it comes after the job's deadline"));
    // The proof covers the deadline.
    let moved = JobResult { deadline_unix_ms: unix_ms() + LONG, ..result(&job, "late") };
    send(&mut scene.worker, "mallory", &moved).await;
    scene.everything_was_read().await;
    assert!(scene.said("its proof does not hold"));
    assert_eq!(scene.farm.held("KV_actions").messages, 0);
    scene.call_off().await;
    scene.farm.finish().await;
}
