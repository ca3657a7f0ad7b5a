//! The same request of several clients at once: one job runs, and everybody gets its result, whoever
//! dies or leaves meanwhile. By real connections of clients that keep to the protocol.

use std::time::Duration;

use futures_util::future::join_all;
use jetcc::job::wire::{CacheUse, CallOff, HelloReply, JobEnd, Submit, SubmitReply};
use jetcc::job::{Digest, JobId, Outcome};
use jetcc::queue::Connection;
use jetcc::queue::submit::{self, Following, Word};
use jetcc::store::Compressed;

use crate::harness::farm::Farm;
use crate::harness::project::{Project, SLOW, slow_source};
use crate::harness::requests;
use crate::harness::wait::until;

/// Clients that ask for the same.
const CLIENTS: usize = 8;
/// Two tenants.
const TENANTS: &str = "client_auth = [
    { type = 'token', token = 'of acme', tenant = 'acme' },
    { type = 'token', token = 'of umbrella', tenant = 'umbrella' },
]";
/// How long a client of these tests waits for one word.
const WORD: Duration = Duration::from_secs(120);

/// One client and its request.
struct Client {
    farm: submit::Farm,
    connection: Connection,
    submit: Submit,
    following: Following,
    place: u64,
    /// It came too late to wait.
    known: Option<Outcome>,
}

impl Client {
    /// Connects with `token`.
    async fn connect(farm: &Farm, name: &str, token: &str, request: &Submit) -> Self {
        let (joined, connection) = requests::join(farm, name, token).await;
        assert!(matches!(joined.hello().await.unwrap(), HelloReply::Welcome { .. }));
        let submit = Submit { job: JobId::random().unwrap(), ..request.clone() };
        let following = joined.follow(submit.job);
        Self { farm: joined, connection, submit, following, place: 0, known: None }
    }

    /// Asks for its job; asked again, as a client does that heard nothing.
    async fn ask(&mut self) {
        loop {
            match self.farm.submit(&self.submit).await {
                Ok(SubmitReply::Accepted { place, .. }) => break self.place = place,
                Ok(SubmitReply::Cached(record)) => break self.known = Some(record.outcome),
                Ok(other) => panic!("{other:?}"),
                Err(error) => eprintln!("asking again: {error}"),
            }
        }
    }

    /// Its result. It asks for it again after some silence, as clients do.
    async fn outcome(&mut self) -> Outcome {
        if let Some(known) = self.known.take() {
            return known;
        }
        let begun = std::time::Instant::now();
        while begun.elapsed() < WORD {
            let word = tokio::time::timeout(Duration::from_secs(3), self.following.next()).await;
            match word {
                Ok(Some(Word::Result(result))) => {
                    assert_eq!(result.job, self.submit.job);
                    let JobEnd::Done(outcome) = result.end else { panic!("{:?}", result.end) };
                    return outcome;
                }
                Ok(_) => {}
                Err(_) => match self.farm.submit(&self.submit).await {
                    Ok(SubmitReply::Accepted { place, .. }) => self.place = place,
                    Ok(SubmitReply::Cached(record)) => return record.outcome,
                    other => eprintln!("asking again: {other:?}"),
                },
            }
        }
        panic!("no result");
    }

    async fn call_off(&self) {
        self.farm.cancel(&CallOff { job: self.submit.job, place: self.place }).await;
        // Behind this answer, the word was sent.
        self.farm.status().await.unwrap();
    }
}

/// Asks for a compile that takes some seconds; `salt` makes it unique.
async fn request(salt: u32) -> Submit {
    let source = slow_source(salt);
    let file = (Digest::of(source.as_bytes()), source.len() as u64);
    Submit {
        files_zstd: vec![Compressed::new(source.as_bytes()).zstd],
        cache: CacheUse::ReadWrite,
        ..requests::request(SLOW, "slow.cc", file, "slow.o", Duration::from_secs(300)).await
    }
}

/// A farm that has the toolchain, with two schedulers, and how many jobs it was given so far.
async fn farm(workers: u32) -> (Farm, String, u64) {
    let mut farm = Farm::builder().workers(workers).start().await;
    farm.add("scheduler", "scheduler-2").await;
    let project = Project::new(&[("a.cc", "int a;\n")]);
    assert_eq!(project.same(&farm, &["g++ -c a.cc"]).await, 1);
    let token = farm.setting("client", "dist.auth.token");
    let jobs = farm.ever_held("JOBS");
    (farm, token, jobs)
}

/// So many clients that have asked for the same, the first one first.
async fn clients(farm: &Farm, token: &str, count: usize, salt: u32) -> Vec<Client> {
    let request = request(salt).await;
    let names: Vec<String> = (0..count).map(|number| format!("c-{number}")).collect();
    let connect = names.iter().map(|name| Client::connect(farm, name, token, &request));
    let mut clients = join_all(connect).await;
    let (first, others) = clients.split_first_mut().unwrap();
    first.ask().await;
    join_all(others.iter_mut().map(Client::ask)).await;
    clients
}

async fn same(clients: &mut [Client]) {
    let outcomes = join_all(clients.iter_mut().map(Client::outcome)).await;
    assert!(outcomes[0].exit.is_success());
    for outcome in &outcomes {
        assert_eq!(outcome.fingerprint(), outcomes[0].fingerprint());
    }
}

async fn leave(clients: Vec<Client>) {
    for client in clients {
        client.connection.close().await;
    }
}

#[tokio::test]
async fn eight_clients_get_one_runs_result() {
    let (farm, token, jobs) = farm(1).await;
    let request = request(60).await;
    let names: Vec<String> = (0..CLIENTS).map(|number| format!("c-{number}")).collect();
    let connect = names.iter().map(|name| Client::connect(&farm, name, &token, &request));
    let mut clients = join_all(connect).await;
    join_all(clients.iter_mut().map(Client::ask)).await;
    same(&mut clients).await;
    assert_eq!(farm.ever_held("JOBS"), jobs + 1);
    until("nobody waits", async || (farm.held("FLIGHTS").messages == 0).then_some(())).await;
    leave(clients).await;
    farm.finish().await;
}

#[tokio::test]
async fn the_first_may_leave_while_others_wait_and_the_last_takes_the_job_along() {
    let (farm, token, jobs) = farm(1).await;
    let mut clients = clients(&farm, &token, 3, 61).await;
    farm.compiles("worker-1", "slow.cc").await;
    let first = clients.remove(0);
    first.call_off().await;
    first.connection.close().await;
    same(&mut clients).await;
    assert_eq!(farm.ever_held("JOBS"), jobs + 1);
    leave(clients).await;

    let gone = self::clients(&farm, &token, 3, 62).await;
    farm.compiles("worker-1", "slow.cc").await;
    for client in &gone {
        client.call_off().await;
    }
    until("the job is called off", async || (farm.held("JOBS").messages == 0).then_some(())).await;
    let stopped = || farm.member("worker-1").said("called off");
    until("the worker has stopped", async || stopped().then_some(())).await;
    leave(gone).await;
    farm.finish().await;
}

#[tokio::test]
async fn a_worker_or_a_scheduler_may_die_under_them() {
    let (mut farm, token, jobs) = farm(2).await;
    let mut clients = clients(&farm, &token, 4, 63).await;
    let (runs, _) = farm.whoever_compiles("slow.cc").await;
    farm.kill(runs).await;
    farm.kill("scheduler-2").await;
    same(&mut clients).await;
    assert_eq!(farm.ever_held("JOBS"), jobs + 1);
    leave(clients).await;
    farm.finish().await;
}

#[tokio::test]
async fn requests_of_two_spaces_are_two_jobs() {
    let farm = Farm::builder()
        .setting("scheduler", TENANTS)
        .setting("client", "dist.auth.token = 'of acme'")
        .start()
        .await;
    let request = request(64).await;
    let mut one = Client::connect(&farm, "one", "of acme", &request).await;
    let mut other = Client::connect(&farm, "other", "of umbrella", &request).await;
    one.ask().await;
    other.ask().await;
    assert_ne!(one.place, other.place);
    assert_eq!(farm.ever_held("JOBS"), 2);
    // No toolchain is there, and nobody waits for what is theirs alone.
    one.call_off().await;
    other.call_off().await;
    leave(vec![one, other]).await;
    farm.finish().await;
}
