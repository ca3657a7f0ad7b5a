//! Every subject, stream, bucket and consumer name. Nothing else in the project spells one.

use data_encoding::HEXLOWER;

use super::server_config::SCHEDULER_USER;
use crate::job::wire::BlobClass;
use crate::job::{ActionKey, ClientId, Digest, JobId, Lane, Party, Pool, Space, Tenant, WorkerId};

/// Work queue of jobs.
pub const JOBS: &str = "JOBS";
/// Results, kept for clients that reconnect and for the recorder.
pub const RESULTS: &str = "RESULTS";
/// Bucket of action records.
pub const ACTIONS: &str = "actions";
/// Bucket of live workers.
pub const WORKERS: &str = "workers";
/// Bucket of those who are kept out.
pub const DENIED: &str = "denied";
/// Advisories of jobs that were given up.
pub const DEAD: &str = "DEAD";
/// Durable consumer on [`RESULTS`] that records them.
pub const RECORDER: &str = "recorder";
/// Durable consumer on [`DEAD`] that answers for lost jobs.
pub const UNDERTAKER: &str = "undertaker";
/// Queue group of schedulers.
pub const SCHEDULERS: &str = "schedulers";
/// Where the server asks who may connect.
pub const AUTH_CALLOUT: &str = "$SYS.REQ.USER.AUTH";
/// Asks every server who is connected to it.
pub const SYSTEM_PING_CONNECTIONS: &str = "$SYS.REQ.SERVER.PING.CONNZ";
/// Everything that clients ask of schedulers.
pub const CLIENT_REQUESTS: &str = "farm.c.*.*";
/// Everything that workers report to schedulers.
pub const WORKER_REPORTS: &str = "farm.w.*.wrong";
/// Who waits for jobs that others asked for first.
pub const FLIGHTS: &str = "FLIGHTS";
/// All of them.
pub const FLIGHTS_OF_ALL: &str = "flights.*.>";
/// Bucket of audits under way.
pub const AUDITS: &str = "audits";
/// Every result.
pub const RESULTS_OF_ALL: &str = "results.*.*.*";
/// Every worker's report.
pub const PROGRESS_OF_ALL: &str = "progress.*.*";
/// Everything that workers say of jobs in their hands.
pub const HOLDINGS: &str = "farm.w.*.hold";
/// Every job that nobody waits for any more.
pub const CANCELLATIONS: &str = "farm.cancel.*";
/// What stands in an audit's subject where other jobs have their lane.
pub const AUDIT_TOKEN: &str = "a";
/// Group name of prioritised pulls.
pub const PULL_GROUP: &str = "g";

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Where am I?
    Hello,
    /// Run a job.
    Submit,
    /// What became of a job?
    Result,
    /// Nobody waits for a job any more.
    Cancel,
    /// Who is there?
    Status,
    /// Look at a blob that has wrong bytes.
    Wrong,
}

impl Question {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Hello, "hello"),
        (Self::Submit, "submit"),
        (Self::Result, "result"),
        (Self::Cancel, "cancel"),
        (Self::Status, "status"),
        (Self::Wrong, "wrong"),
    ];

    fn token(self) -> &'static str {
        Self::ALL.iter().find(|(question, _)| *question == self).map_or("", |(_, token)| token)
    }
}

/// Subject on which `client` asks `question`.
pub fn request(client: &ClientId, question: Question) -> String {
    format!("farm.c.{client}.{}", question.token())
}

/// Reads [`request`] back.
pub fn parse_request(subject: &str) -> Option<(ClientId, Question)> {
    let mut parts = subject.strip_prefix("farm.c.")?.splitn(2, '.');
    let client = parts.next()?.parse().ok()?;
    let token = parts.next()?;
    let (question, _) = Question::ALL.iter().find(|(_, name)| *name == token)?;
    Some((client, *question))
}

/// Where `worker` reports a blob that has wrong bytes.
pub fn worker_report(worker: &WorkerId) -> String {
    format!("farm.w.{worker}.wrong")
}

/// Reads [`worker_report`] back.
pub fn parse_worker_report(subject: &str) -> Option<WorkerId> {
    subject.strip_prefix("farm.w.")?.strip_suffix(".wrong")?.parse().ok()
}

/// Subject of a queued job.
pub fn job(pool: &Pool, lane: Lane, tenant: &Tenant) -> String {
    format!("jobs.{pool}.{}.{tenant}", lane.token())
}

/// Tenant and lane token of a job's subject.
pub fn parse_job(subject: &str) -> Option<(&str, &str)> {
    let mut parts = subject.strip_prefix("jobs.")?.split('.').skip(1);
    Some((parts.next()?, parts.next()?))
}

/// All jobs of a pool's lane.
pub fn lane_filter(pool: &Pool, lane: Lane) -> String {
    format!("jobs.{pool}.{}.*", lane.token())
}

/// Name of the consumer that serves a pool's lane. The policy is part of the name: the server
/// cannot change it on an existing consumer.
pub fn lane_consumer(pool: &Pool, lane: Lane, prioritized: Order) -> String {
    match prioritized {
        Order::RoundRobin => format!("{pool}-{}", lane.token()),
        Order::ByPriority => format!("{pool}-{}-p", lane.token()),
    }
}

/// Subject of a job that `worker` shall run again: in no lane, and for nobody else.
pub fn audit(pool: &Pool, worker: &WorkerId) -> String {
    format!("jobs.{pool}.{AUDIT_TOKEN}.{worker}")
}

/// All audits that `worker` shall run.
pub fn audit_filter(worker: &WorkerId) -> String {
    format!("jobs.*.{AUDIT_TOKEN}.{worker}")
}

/// Name of the consumer that serves them; no pool's name has capitals.
pub fn audit_consumer(worker: &WorkerId) -> String {
    format!("AUDIT-{worker}")
}

/// Where a worker asks `consumer` for its next job; `*` is every consumer.
pub fn pull(consumer: &str) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{JOBS}.{consumer}")
}

/// Where `worker` says what becomes of a job that it was given.
pub fn holding(worker: &WorkerId) -> String {
    format!("farm.w.{worker}.hold")
}

/// The worker in the middle of [`holding`].
pub fn parse_holding(subject: &str) -> Option<WorkerId> {
    subject.strip_prefix("farm.w.")?.strip_suffix(".hold")?.parse().ok()
}

/// A job's delivery as the queue names it: `$JS.ACK.<stream>.<consumer>.<deliveries>.<place>` and three
/// more numbers, or the form with domain and account hash before and a random token behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// Who delivered it.
    pub consumer: &'a str,
    /// How often it has been delivered, this time included.
    pub deliveries: u64,
    /// The job's place in the queue.
    pub place: u64,
}

/// Reads the name of a delivery; `None` for every other subject.
pub fn parse_delivery(subject: &str) -> Option<Delivery<'_>> {
    let tokens: Vec<&str> = subject.strip_prefix("$JS.ACK.")?.split('.').collect();
    let tokens = match tokens.len() {
        7 => &tokens[..],
        // Old servers have no random token.
        9 | 10 => &tokens[2..9],
        _ => return None,
    };
    let number = |index: usize| tokens[index].parse::<u64>().ok();
    let numbers = (2..7).map(number).collect::<Option<Vec<u64>>>()?;
    (tokens[0] == JOBS).then(|| Delivery {
        consumer: tokens[1],
        deliveries: numbers[0],
        place: numbers[1],
    })
}

/// The consumers that deliver a job that was queued on `subject`.
pub fn consumers_of(subject: &str) -> Option<Vec<String>> {
    let pool = subject.strip_prefix("jobs.")?.split('.').next()?.parse().ok()?;
    let (token, last) = parse_job(subject)?;
    if token == AUDIT_TOKEN {
        return Some(vec![audit_consumer(&last.parse().ok()?)]);
    }
    let lane = Lane::ALL.into_iter().find(|lane| lane.token() == token)?;
    let orders = [Order::RoundRobin, Order::ByPriority];
    Some(orders.map(|order| lane_consumer(&pool, lane, order)).into())
}

/// How the server chooses among waiting pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In turn.
    RoundRobin,
    /// Lowest priority number first (server 2.12 or later).
    ByPriority,
}

/// Where `worker` puts the result of `job`. A worker has the right to its own name alone: whose
/// result it is, the server vouches for.
pub fn result(client: &ClientId, job: JobId, worker: &WorkerId) -> String {
    format!("results.{client}.{job}.{worker}")
}

/// Where schedulers themselves put one.
pub fn result_by_schedulers(client: &ClientId, job: JobId) -> String {
    format!("results.{client}.{job}.{SCHEDULER_USER}")
}

/// Where it stands that `job` of `client` waits for the result of `first`.
pub fn waiting(first: JobId, client: &ClientId, job: JobId) -> String {
    format!("flights.{first}.{client}.{job}")
}

/// Reads [`waiting`] back: who waits, with which job.
pub fn parse_waiting(subject: &str) -> Option<(ClientId, JobId)> {
    let mut parts = subject.strip_prefix("flights.")?.split('.').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Everybody who waits for the result of `first` without having asked first.
pub fn waiting_for(first: JobId) -> String {
    format!("flights.{first}.*.*")
}

/// Where it stands that who asked for `first` waits no more, but others do.
pub fn left(first: JobId) -> String {
    format!("flights.{first}.left")
}

/// Results of `job`, whoever ran it.
pub fn results_of_job(client: &ClientId, job: JobId) -> String {
    format!("results.{client}.{job}.*")
}

/// All results of `client`.
pub fn results_of(client: &ClientId) -> String {
    format!("results.{client}.*.*")
}

/// All results of `worker`.
pub fn results_by(worker: &WorkerId) -> String {
    format!("results.*.*.{worker}")
}

/// Where a worker reports on `job`.
pub fn progress(client: &ClientId, job: JobId) -> String {
    format!("progress.{client}.{job}")
}

/// All reports for `client`.
pub fn progress_of(client: &ClientId) -> String {
    format!("progress.{client}.*")
}

/// The job id in the subject of a result, a progress report or a cancellation.
pub fn parse_job_id(subject: &str) -> Option<JobId> {
    subject.split('.').nth(2)?.parse().ok()
}

/// Client and worker of a result's subject.
pub fn parse_result(subject: &str) -> Option<(ClientId, WorkerId)> {
    let mut parts = subject.strip_prefix("results.")?.split('.');
    let client = parts.next()?.parse().ok()?;
    Some((client, parts.nth(1)?.parse().ok()?))
}

/// Tells workers to stop working on `job`.
pub fn cancel(job: JobId) -> String {
    format!("farm.cancel.{job}")
}

/// Every worker's entry in the registry.
pub fn worker_keys() -> String {
    format!("$KV.{WORKERS}.*")
}

/// A worker's entry in the registry.
pub fn worker_key(worker: &WorkerId) -> String {
    format!("$KV.{WORKERS}.{worker}")
}

/// Key of somebody who is kept out, in their bucket. Users have names that no key could carry.
pub fn denied_key(party: &Party) -> String {
    match party {
        Party::User(user) => format!("user.{}", HEXLOWER.encode(user.as_str().as_bytes())),
        other => format!("{}.{}", other.kind(), other.name()),
    }
}

/// Reads [`denied_key`] back.
pub fn parse_denied_key(key: &str) -> Option<Party> {
    let (kind, name) = key.split_once('.')?;
    match kind {
        "user" => {
            let name = String::from_utf8(HEXLOWER.decode(name.as_bytes()).ok()?).ok()?;
            Party::read(kind, &name).ok()
        }
        _ => Party::read(kind, name).ok(),
    }
}

/// Subject of an action's record: each space has records of its own.
pub fn action_record(space: &Space, action: &ActionKey) -> String {
    format!("$KV.{ACTIONS}.{space}.{}", action.digest())
}

/// Subject of what compiles of a command were seen to read, beside the records of its space.
pub fn read_lists(space: &Space, command: &Digest) -> String {
    format!("$KV.{ACTIONS}.{space}.reads.{command}")
}

/// Which spaces a right or a share is for.
#[derive(Clone, Copy, Debug)]
pub enum Spaces<'a> {
    /// This one.
    One(&'a Space),
    /// Every one there is or will be.
    Every,
}

impl Spaces<'_> {
    fn token(&self) -> &str {
        match self {
            Self::One(space) => space.as_str(),
            Self::Every => "*",
        }
    }
}

/// Stream that keeps a space's blobs of `class`.
pub fn blob_stream(class: BlobClass, space: &Space) -> String {
    let class = match class {
        BlobClass::Input => "IN",
        BlobClass::Output => "OUT",
        BlobClass::Toolchain => "TC",
    };
    format!("BLOBS_{class}_{space}")
}

/// Token of `class` in subjects.
pub fn blob_token(class: BlobClass) -> &'static str {
    match class {
        BlobClass::Input => "in",
        BlobClass::Output => "out",
        BlobClass::Toolchain => "tc",
    }
}

/// All blobs of `class` in `spaces`.
pub fn blob_filter(class: BlobClass, spaces: Spaces<'_>) -> String {
    format!("blobs.{}.{}.>", blob_token(class), spaces.token())
}

/// Reads any blob of `class` in `spaces`.
pub fn blob_read(class: BlobClass, spaces: Spaces<'_>) -> String {
    let stream = match spaces {
        Spaces::One(space) => blob_stream(class, space),
        Spaces::Every => "*".to_owned(),
    };
    direct_get(&stream, &blob_filter(class, spaces))
}

/// Subject of a blob's head: the blob itself if it is small, else the record that names its parts.
pub fn blob_head(class: BlobClass, space: &Space, digest: Digest) -> String {
    format!("blobs.{}.{space}.{digest}.0", blob_token(class))
}

/// Subject of part `part` (from 1) of a large blob whose stored form has the digest `stored`.
/// Two encodings of the same blob thus never mix.
pub fn blob_part(
    class: BlobClass,
    space: &Space,
    digest: Digest,
    stored: &str,
    part: u64,
) -> String {
    format!("blobs.{}.{space}.{digest}.{stored}-{part}", blob_token(class))
}

/// Every message of one blob.
pub fn blob_messages(class: BlobClass, space: &Space, digest: Digest) -> String {
    format!("blobs.{}.{space}.{digest}.>", blob_token(class))
}

/// Subject that reads the last message on `subject` straight from a stream's file.
pub fn direct_get(stream: &str, subject: &str) -> String {
    format!("$JS.API.DIRECT.GET.{stream}.{subject}")
}

/// Where servers say that a connection to `account` ended.
pub fn system_disconnects(account: &str) -> String {
    format!("$SYS.ACCOUNT.{account}.DISCONNECT")
}

/// Tells all schedulers that `tenant` has sent more than it may; `*` is every tenant.
pub fn over(tenant: &str) -> String {
    format!("farm.over.{tenant}")
}

/// Reads [`over`] back.
pub fn parse_over(subject: &str) -> Option<Tenant> {
    subject.strip_prefix("farm.over.")?.parse().ok()
}

/// Asks one server of itself, or tells it to do something.
pub fn system_request(server: &str, what: &str) -> String {
    format!("$SYS.REQ.SERVER.{server}.{what}")
}

/// Prefix of a party's reply subjects.
pub fn inbox(user: &str) -> String {
    format!("_INBOX.{user}")
}

#[cfg(test)]
#[path = "subjects_tests.rs"]
mod tests;
