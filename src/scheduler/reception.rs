//! The story of a request: read it, look whether the result is known, queue it, answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::lanes::{self, Load, Urgency};
use super::registry::Registry;
use crate::job::wire::{self, CacheUse, CallOff, FarmStatus, JobMessage, Submit, SubmitReply};
use crate::job::{JobId, Principal, Proof};
use crate::queue::serve::{Desk, Request};
use crate::queue::subjects::Question;
use crate::queue::{QueueError, streams};

/// Largest input tree, and largest source, inside a request, in bytes of zstd.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// Most arguments and outputs of one command.
const LIST_MAX: usize = 20_000;
/// Furthest deadline that a client may set.
const DEADLINE_MAX: Duration = Duration::from_secs(3_600);
/// What a compile takes before any was seen, in ms.
const FIRST_GUESS_MS: f64 = 1_000.0;
/// How much one result moves the mean of all.
const SMOOTHING: f64 = 0.05;

/// What all tasks of a scheduler share.
pub struct Office {
    /// The way to clients, workers and JetStream.
    pub desk: Desk,
    proof_key: [u8; 32],
    wait_seconds_max: u32,
    registry: Mutex<Registry>,
    load: Mutex<Load>,
    job_ms: Mutex<f64>,
    /// Wakes whoever refreshes the load.
    pub busy: Notify,
}

impl Office {
    /// A scheduler's shared state.
    pub fn new(desk: Desk, proof_key: [u8; 32], wait_seconds_max: u32) -> Self {
        Self {
            desk,
            proof_key,
            wait_seconds_max,
            registry: Mutex::new(Registry::new(streams::PRESENCE_AGE)),
            load: Mutex::default(),
            job_ms: Mutex::new(FIRST_GUESS_MS),
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

    /// Whether `proof` was made here for this job and action.
    pub fn proves(&self, proof: &Proof, job: JobId, action: &crate::job::ActionKey) -> bool {
        proof.holds(&self.proof_key, job, action)
    }

    /// Learns how long a compile took.
    pub fn learn(&self, run_ms: f64) {
        let mut mean = self.job_ms.lock().unwrap_or_else(PoisonError::into_inner);
        *mean += (run_ms - *mean) * SMOOTHING;
    }

    fn job_ms(&self) -> f64 {
        *self.job_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one request of a client.
pub async fn answer(office: &Office, request: Request) {
    match request.question {
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
            if let Err(error) = office.desk.call_off(&request.from.client, &off).await {
                tracing::warn!(job = %off.job, %error, "job was not called off");
            }
        }
        Question::Status => office.desk.answer(&request, &status(office)).await,
    }
}

fn status(office: &Office) -> FarmStatus {
    let workers = office.registry().live(Instant::now()).into_iter().cloned().collect();
    FarmStatus { workers, outstanding: office.load().total() }
}

async fn admit(office: &Office, from: &Principal, submit: Submit) -> SubmitReply {
    let Principal { client, tenant, .. } = from;
    let now = unix_ms();
    if let Err(rule) = check(&submit, now) {
        tracing::warn!(%client, job = %submit.job, rule, "request refused");
        return SubmitReply::Refused(rule);
    }
    let action = submit.action.key();
    if submit.cache == CacheUse::ReadWrite {
        match office.desk.record(&action).await {
            Ok(Some(record)) => return SubmitReply::Cached(Box::new(record)),
            Ok(None) => {}
            // The cache is a convenience: without it the job simply runs.
            Err(error) => tracing::warn!(%action, %error, "action cache was not read"),
        }
    }
    let slots = office.registry().slots(&submit.action.pool, Instant::now());
    if slots == 0 {
        return SubmitReply::NoWorker;
    }
    let outstanding = office.load().total();
    let wait = lanes::wait_seconds(outstanding, slots, office.job_ms());
    if wait > office.wait_seconds_max {
        return SubmitReply::Busy { wait_seconds: wait };
    }
    let urgency = if submit.interactive { Urgency::Interactive } else { Urgency::Build };
    let lane = lanes::lane(&office.load(), tenant, slots, urgency);
    let proof = Proof::new(&office.proof_key, submit.job, &action);
    let job = JobMessage {
        client: client.clone(),
        tenant: tenant.clone(),
        proof: proof.clone(),
        published_unix_ms: unix_ms(),
        submit,
    };
    match office.desk.enqueue(&job, lane).await {
        Ok(place) => {
            office.load().add(tenant);
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

/// Rules that every request keeps.
fn check(submit: &Submit, now_unix_ms: u64) -> Result<(), String> {
    let command = &submit.action.command;
    let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let inline = length(&submit.inputs_zstd).max(length(&submit.source_zstd));
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
