//! The story of a request: read it, look whether the result is known, queue it, answer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::audit;
use super::door::Door;
use super::examiner::{self, Examiner};
use super::flight::{self, Boarded};
use super::lanes::{self, Load, Queued, Urgency};
use super::pace::Pace;
use super::quota::Quotas;
use super::registry::Registry;
use super::settings::{Rate, Settings};
use super::spaces::Spaces;
use crate::job::reads::ReadLists;
use crate::job::wire::{
    self, CacheUse, CallOff, FarmStatus, Findings, HelloReply, JobMessage, JobResult, Submit,
    SubmitReply, WrongBlob,
};
use crate::job::{JobId, Principal, Proof, Space, Tenant};
use crate::queue::audits::Audits;
use crate::queue::serve::{Desk, Request};
use crate::queue::streams::DEADLINE_MAX;
use crate::queue::subjects::Question;
use crate::queue::{QueueError, streams};

/// Largest input tree, and most bytes of all files, inside a request, in bytes of zstd.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// Most arguments and outputs of one command.
const LIST_MAX: usize = 20_000;
/// A count of outstanding jobs is exact enough for a quota for this long.
const COUNT_FRESH: Duration = Duration::from_millis(20);
/// A tenant is over its limit as long as any scheduler has said so within this time.
const OVER_HOLDS: Duration = Duration::from_secs(3);

/// What settings and secrets say about every job.
#[derive(Clone)]
pub struct Rules {
    /// Key of the proofs.
    pub proof_key: [u8; 32],
    /// Longest expected wait, in seconds, that a job is queued for.
    pub wait_seconds_max: u32,
    /// Share of results that are audited.
    pub sample_rate: Rate,
}

/// What all tasks of a scheduler share.
pub struct Office {
    /// The way to clients, workers and JetStream.
    pub desk: Desk,
    /// Who is kept out.
    pub door: Door,
    /// Who looks at blobs.
    pub examiner: Examiner,
    /// Audits under way.
    pub audits: Audits,
    /// What its settings say.
    pub rules: Rules,
    /// What each tenant may use.
    pub quotas: Quotas,
    /// Where their blobs are.
    pub spaces: Spaces,
    registry: Mutex<Registry>,
    load: Mutex<Load>,
    counted: AsyncMutex<Option<Instant>>,
    /// When it was last said of a tenant that it has sent too much.
    over: Mutex<HashMap<Tenant, Instant>>,
    pace: Mutex<Pace>,
    findings: Mutex<Findings>,
    /// Wakes whoever refreshes the load.
    pub busy: Notify,
}

impl Office {
    /// A scheduler's shared state.
    pub fn new(
        desk: Desk,
        door: Door,
        examiner: Examiner,
        audits: Audits,
        rules: Rules,
        settings: &Settings,
    ) -> Self {
        let quotas = settings.quota.clone();
        Self {
            spaces: Spaces::new(desk.connection().clone(), quotas.clone(), &settings.store),
            desk,
            door,
            examiner,
            audits,
            rules,
            quotas,
            registry: Mutex::new(Registry::new(streams::PRESENCE_AGE)),
            load: Mutex::default(),
            counted: AsyncMutex::default(),
            over: Mutex::default(),
            pace: Mutex::default(),
            findings: Mutex::default(),
            busy: Notify::new(),
        }
    }

    /// The registry of workers.
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jobs that wait or run.
    pub fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found to be wrong.
    pub fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the jobs that wait or run, unless that was just done; JetStream has the truth. One at a time,
    /// so that no count overtakes a later one; who waited for one that failed does not wait for another.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer; the load stays as it was.
    pub async fn count_jobs(&self) -> Result<(), QueueError> {
        let mut counted = self.counted.lock().await;
        if counted.is_some_and(|last| last.elapsed() <= COUNT_FRESH) {
            return Ok(());
        }
        let outstanding = self.desk.outstanding().await;
        *counted = Some(Instant::now());
        let (tenants, last) = outstanding?;
        self.load().counted(tenants, last);
        Ok(())
    }

    /// Whether the proof of `result` was made here for its job, action and space.
    pub fn proves(&self, result: &JobResult) -> bool {
        let JobResult { job, action, space, deadline_unix_ms, .. } = result;
        result.proof.holds(&self.rules.proof_key, *job, action, space, *deadline_unix_ms)
    }

    /// A scheduler says that `tenant` has sent more than it may.
    pub fn is_said_to_be_over(&self, tenant: &Tenant) {
        self.over().insert(tenant.clone(), Instant::now());
    }

    /// Whether `tenant` has sent more than it may.
    pub fn has_sent_too_much(&self, tenant: &Tenant) -> bool {
        self.over().get(tenant).is_some_and(|said| said.elapsed() < OVER_HOLDS)
    }

    fn over(&self) -> MutexGuard<'_, HashMap<Tenant, Instant>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long compiles take.
    pub fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one request of a client.
pub async fn answer(office: &Office, request: Request) {
    match request.question {
        Question::Hello => office.desk.answer(&request, &hello(office, &request.from).await).await,
        Question::Submit => {
            let reply = match wire::decode::<Submit>(&request.payload) {
                Ok(submit) => admit(office, &request.from, submit).await,
                Err(error) => SubmitReply::Refused(error.to_string()),
            };
            office.desk.answer(&request, &reply).await;
        }
        Question::Result => {
            let Ok(job) = wire::decode::<JobId>(&request.payload) else { return };
            match office.desk.stored_result(&request.from.client, job).await {
                Ok(result) => office.desk.answer(&request, &result).await,
                Err(error) => tracing::warn!(%job, %error, "stored result was not read"),
            }
        }
        Question::Cancel => {
            let Ok(off) = wire::decode::<CallOff>(&request.payload) else { return };
            if let Err(error) = office.desk.let_go(&request.from.client, &off).await {
                tracing::warn!(job = %off.job, %error, "job was not called off");
            }
        }
        Question::Wrong => {
            let Ok(report) = wire::decode::<WrongBlob>(&request.payload) else { return };
            let report = WrongBlob { space: request.from.space.clone(), ..report };
            let finding = examiner::examine(office, request.from.client.as_str(), &report).await;
            office.desk.answer(&request, &finding).await;
        }
        Question::Status => office.desk.answer(&request, &status(office)).await,
    }
}

fn status(office: &Office) -> FarmStatus {
    let workers = office.registry().live(Instant::now()).into_iter().cloned().collect();
    let findings = Findings { denied: office.door.count(), ..office.findings().clone() };
    FarmStatus { workers, outstanding: office.load().total(), findings }
}

/// Where the client is. Its space is there from now on.
async fn hello(office: &Office, from: &Principal) -> HelloReply {
    match office.spaces.ensure(&from.space).await {
        Err(words) => HelloReply::Refused(words),
        Ok(()) => HelloReply::Welcome {
            space: from.space.clone(),
            over_quota: upload_quota(office, &from.tenant),
        },
    }
}

/// The limit of bytes that `tenant` has reached, if it has; for people.
fn upload_quota(office: &Office, tenant: &Tenant) -> Option<String> {
    let limit = office.quotas.of(tenant).upload_bytes_per_hour_max?;
    let over = office.has_sent_too_much(tenant);
    over.then(|| format!("tenant `{tenant}` has sent more than {limit} bytes within the hour"))
}

/// A job that is just being queued; dropped, it does not come.
struct Coming<'a> {
    office: &'a Office,
    tenant: &'a Tenant,
    queued: Queued,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.office.load().came(self.tenant, self.queued);
    }
}

/// Makes place for one more job of `tenant`.
///
/// # Errors
/// The limit of jobs that it has reached; for people.
async fn let_come<'a>(office: &'a Office, tenant: &'a Tenant) -> Result<Coming<'a>, String> {
    let limit = office.quotas.of(tenant).outstanding_jobs_max.unwrap_or(u32::MAX);
    let coming = || Coming { office, tenant, queued: Queued::No };
    if office.load().let_come(tenant, limit) {
        return Ok(coming());
    }
    // Some of them may have ended since they were counted.
    if let Err(error) = office.count_jobs().await {
        tracing::warn!(%error, "length of the queue is unknown");
    }
    if office.load().let_come(tenant, limit) {
        return Ok(coming());
    }
    Err(format!("tenant `{tenant}` has {limit} jobs that wait or run"))
}

async fn admit(office: &Office, from: &Principal, submit: Submit) -> SubmitReply {
    let Principal { client, tenant, space, .. } = from;
    let now = unix_ms();
    if let Err(rule) = check(&submit, now) {
        tracing::warn!(%client, job = %submit.job, rule, "request refused");
        return SubmitReply::Refused(rule);
    }
    // A scheduler that was restarted has not greeted this client.
    if let Err(words) = office.spaces.ensure(space).await {
        return SubmitReply::Refused(words);
    }
    let action = submit.action.key();
    if submit.cache == CacheUse::ReadWrite {
        let (record, lists) =
            tokio::join!(office.desk.record(space, &action), offer(office, space, &submit));
        match (record, lists) {
            (Ok(Some(record)), _) => return SubmitReply::Cached(Box::new(record)),
            (Ok(None), Some(lists)) => return SubmitReply::Offered(lists),
            (Ok(None), None) => {}
            // The cache is a convenience: without it the job simply runs.
            (Err(error), _) => tracing::warn!(%action, %error, "action cache was not read"),
        }
    }
    if let Some(words) = upload_quota(office, tenant) {
        return SubmitReply::OverQuota(words);
    }
    let slots = office.registry().slots(&submit.action.pool, Instant::now());
    if slots == 0 {
        return SubmitReply::NoWorker;
    }
    let outstanding = office.load().total();
    let wait = lanes::wait_seconds(outstanding, slots, office.pace().job_ms());
    if wait > office.rules.wait_seconds_max {
        return SubmitReply::Busy { wait_seconds: wait };
    }
    let urgency = if submit.interactive { Urgency::Interactive } else { Urgency::Build };
    let lane = lanes::lane(&office.load(), tenant, slots, urgency);
    let mut coming = match let_come(office, tenant).await {
        Ok(coming) => coming,
        Err(words) => return SubmitReply::OverQuota(words),
    };
    let deadline = submit.deadline_unix_ms;
    let proof = Proof::new(&office.rules.proof_key, submit.job, &action, space, deadline);
    let job = JobMessage {
        client: client.clone(),
        tenant: tenant.clone(),
        space: space.clone(),
        proof: proof.clone(),
        published_unix_ms: unix_ms(),
        submit,
    };
    let boards = flight::board(office, &job, &action, lane);
    let (boarded, ()) = tokio::join!(boards, audit::keep(office, &job));
    match boarded {
        Ok(Boarded::Known(record)) => SubmitReply::Cached(record),
        Ok(Boarded::Again(place) | Boarded::Joined(place)) => {
            SubmitReply::Accepted { proof, place, outstanding, slots }
        }
        Ok(Boarded::Queued(place)) => {
            coming.queued = Queued::At(place);
            office.pace().begun(job.submit.job, Instant::now());
            office.busy.notify_one();
            SubmitReply::Accepted { proof, place, outstanding, slots }
        }
        Err(QueueError::Full(_)) => SubmitReply::Busy { wait_seconds: wait },
        Err(error) => {
            tracing::error!(%client, %error, "job was not queued");
            SubmitReply::Refused(format!("the queue does not take it: {error}"))
        }
    }
}

/// What compiles of the same command read, if the client wants to hear it and something is known.
async fn offer(office: &Office, space: &Space, submit: &Submit) -> Option<ReadLists> {
    if !submit.offers {
        return None;
    }
    match office.desk.read_lists(space, &submit.action.command_key()).await {
        Ok(lists) => (!lists.0.is_empty()).then_some(lists),
        Err(error) => {
            tracing::warn!(job = %submit.job, %error, "what the command reads was not asked");
            None
        }
    }
}

/// Rules that every request keeps.
fn check(submit: &Submit, now_unix_ms: u64) -> Result<(), String> {
    let command = &submit.action.command;
    let tree = submit.inputs_zstd.as_ref().map_or(0, bytes::Bytes::len);
    let difference = submit.inputs_difference.as_ref().map_or(0, |tree| tree.zstd.len());
    let files = submit.files_zstd.iter().map(bytes::Bytes::len).sum();
    let inline = tree.max(difference).max(files);
    let deadline_max = now_unix_ms + u64::try_from(DEADLINE_MAX.as_millis()).unwrap_or(u64::MAX);
    if submit.deadline_unix_ms <= now_unix_ms {
        Err("the deadline has passed: compare the clocks of client and scheduler".into())
    } else if submit.deadline_unix_ms > deadline_max {
        Err(format!("the deadline is more than {} s away", DEADLINE_MAX.as_secs()))
    } else if inline > INLINE_BYTES_MAX {
        Err(format!("what travels inside has {inline} bytes, wanted at most {INLINE_BYTES_MAX}"))
    } else if command.arguments.is_empty() || command.arguments.len() > LIST_MAX {
        Err(format!("{} arguments, wanted 1 to {LIST_MAX}", command.arguments.len()))
    } else if submit.action.outputs.len() > LIST_MAX {
        Err(format!("{} outputs, wanted at most {LIST_MAX}", submit.action.outputs.len()))
    } else {
        Ok(())
    }
}

/// Unix time in ms.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::job::wire::TreeDifference;
    use crate::job::{Action, Command, Digest, Pool};

    fn submit() -> Submit {
        let digest = Digest::of(b"");
        let command = Command {
            executable: "/usr/bin/gcc".into(),
            arguments: vec!["gcc".into()],
            environment: std::collections::BTreeMap::new(),
            directory: "/w".into(),
        };
        let (pool, outputs) = (Pool::of_this_machine(), Vec::new());
        Submit {
            job: JobId::random().unwrap(),
            action: Action {
                pool,
                toolchain: digest,
                command,
                inputs: digest,
                outputs,
                terminal: None,
            },
            inputs_zstd: None,
            inputs_difference: None,
            files_zstd: Vec::new(),
            references: digest,
            deadline_unix_ms: 2,
            interactive: false,
            cache: CacheUse::Off,
            reads: None,
            announced: None,
            offers: false,
        }
    }

    #[test]
    fn more_inside_a_request_than_allowed_is_refused() {
        for (bytes, is_allowed) in [(INLINE_BYTES_MAX, true), (INLINE_BYTES_MAX + 1, false)] {
            let (base, zstd) = (Digest::of(b""), Bytes::from(vec![0; bytes]));
            let files = vec![zstd.slice(..bytes / 2), zstd.slice(bytes / 2..)];
            for request in [
                Submit { inputs_zstd: Some(zstd.clone()), ..submit() },
                Submit { files_zstd: files, ..submit() },
                Submit { inputs_difference: Some(TreeDifference { base, zstd }), ..submit() },
            ] {
                assert_eq!(check(&request, 1).is_ok(), is_allowed);
            }
        }
    }
}
