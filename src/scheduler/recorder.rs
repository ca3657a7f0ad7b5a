//! Records results in the action cache: only with a valid proof and before the job's deadline, only
//! the first answer for each job, only when every blob exists, and only of workers that are not denied.

use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use crate::job::outcome::{Content, Outcome};
use crate::job::reads::Reads;
use crate::job::wire::{self, ActionRecord, BlobClass, CacheUse, JobEnd, JobResult};
use crate::job::{ActionKey, Exit, WorkerId};
use crate::queue::QueueError;
use crate::queue::records::Written;
use crate::queue::serve::Letter;
use crate::queue::server_config::SCHEDULER_USER;
use crate::store::Blobs;

use super::door::reserved_client;
use super::reception::{Office, unix_ms};
use super::{audit, flight, holds};

/// Results that are recorded at once.
const LETTERS_AT_ONCE: usize = 16;

/// Records results until the consumer breaks.
pub async fn record_all(office: &Office, blobs: &Blobs, letters: BoxStream<'static, Letter>) {
    let record = async |letter: Letter| {
        read(office, blobs, &letter).await;
        letter.finish().await;
    };
    letters.for_each_concurrent(LETTERS_AT_ONCE, record).await;
}

async fn read(office: &Office, blobs: &Blobs, letter: &Letter) {
    let Some((client, worker)) = letter.result_parties() else { return };
    let result = match wire::decode::<JobResult>(letter.payload()) {
        Ok(result) => result,
        Err(error) => {
            return tracing::warn!(%client, %worker, %error, "unreadable result passed over");
        }
    };
    if !office.door.denies(&worker) {
        holds::finish(office, &worker, &result).await;
    }
    if client == reserved_client() {
        return match worker.as_str() {
            SCHEDULER_USER => audit::given_up(office, &result).await,
            _ => audit::settle(office, &worker, &result).await,
        };
    }
    if worker.as_str() == SCHEDULER_USER && result.worker != worker {
        // Passed on to somebody who waited; it was recorded for whom it was made.
        return;
    }
    office.busy.notify_one();
    let vouched = vouch(office, &worker, &result);
    let is_in_time = result.deadline_unix_ms >= unix_ms();
    if vouched.is_ok() && is_in_time {
        flight::pass_on(office, &result).await;
    }
    let JobEnd::Done(outcome) = &result.end else { return };
    let recordable = async {
        vouched?;
        office.pace().ended(result.job, result.times.run_ms, Instant::now());
        if !is_in_time {
            return Err("it comes after the job's deadline");
        }
        recordable(blobs, &result, outcome).await
    };
    match recordable.await {
        Err(why) => {
            tracing::warn!(job = %result.job, %worker, why, "result not recorded")
        }
        Ok(Verdict::Pass) => {}
        Ok(Verdict::Record) => {
            let record = ActionRecord {
                outcome: outcome.clone(),
                worker: worker.clone(),
                recorded_unix_ms: unix_ms(),
                run_ms: result.times.run_ms,
                reads: result.reads.as_ref().map(|reads| reads.paths.clone()),
            };
            let (space, action) = (&result.space, &result.action);
            match office.desk.write_record(space, action, result.job, &record).await {
                Ok(Written::First) => {
                    record_precisely(office, &result, &record).await;
                    audit::begin(office, &worker, &result, outcome).await;
                }
                // A job may run twice. What was recorded first is what audits compare.
                Ok(Written::Before) => {
                    tracing::info!(job = %result.job, %worker, "second answer not recorded");
                }
                Err(error) => tracing::warn!(job = %result.job, %error, "result not recorded"),
            }
        }
    }
}

/// Records a result under the precise action too, and what it read under its command.
///
/// The worker is believed about what it read as it is believed about what it wrote. It cannot speak
/// of another command than that of the job which it was given.
async fn record_precisely(office: &Office, result: &JobResult, record: &ActionRecord) {
    let Some(reads) = &result.reads else { return };
    let (whole, precise) = reads.keys();
    if whole != result.action {
        tracing::warn!(job = %result.job, worker = %record.worker, "it read for another command");
        return;
    }
    if let Err(error) = write_reads(office, result, reads, precise, record).await {
        tracing::warn!(job = %result.job, %error, "what it read is not recorded");
    }
}

async fn write_reads(
    office: &Office,
    result: &JobResult,
    reads: &Reads,
    precise: ActionKey,
    record: &ActionRecord,
) -> Result<(), QueueError> {
    let (desk, space) = (&office.desk, &result.space);
    if precise != result.action {
        desk.write_precise_record(space, &precise, result.job, record).await?;
    }
    let mut lists = desk.read_lists(space, &reads.command).await?;
    if lists.renew(&reads.paths) {
        desk.write_read_lists(space, &reads.command, &record.worker, &lists).await?;
    }
    Ok(())
}

enum Verdict {
    Record,
    Pass,
}

/// Whether `result`, which stands under the name of `worker`, comes from a worker that was given the
/// job and is not kept out, or from a scheduler that gave the job up.
fn vouch(office: &Office, worker: &WorkerId, result: &JobResult) -> Result<(), &'static str> {
    if !office.proves(result) {
        return Err("its proof does not hold");
    }
    if result.worker != *worker {
        return Err("it names another worker");
    }
    if office.door.denies(worker) {
        return Err("its worker is denied");
    }
    Ok(())
}

async fn recordable(
    blobs: &Blobs,
    result: &JobResult,
    outcome: &Outcome,
) -> Result<Verdict, &'static str> {
    let wanted = result.cache != CacheUse::Off
        && outcome.exit == Exit::Code(0)
        && outcome.unexpected.is_empty();
    if !wanted {
        return Ok(Verdict::Pass);
    }
    let blobs = blobs.of(&result.space);
    for content in outcome.contents() {
        if let Content::Blob { digest, .. } = content {
            match blobs.has(BlobClass::Output, *digest).await {
                Ok(true) => {}
                Ok(false) => return Err("a blob that it names does not exist"),
                Err(_) => return Err("the blob store does not answer"),
            }
        }
    }
    Ok(Verdict::Record)
}
