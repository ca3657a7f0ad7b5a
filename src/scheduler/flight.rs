//! The story of equal requests: one job runs, everybody who asked gets its result.
//!
//! 1. A job is published under the claim of its space and action. Taken before? Then the job that has it
//!    is looked at.
//! 2. It waits or runs: the new request waits for its result, and costs no slot.
//! 3. It has ended: its result is recorded now, or the claim that follows is tried.
//! 4. The recorder passes the result on to everybody who waits, with a proof for each one's own job.
//!
//! Whoever waits and hears nothing asks again, as for a job of its own; so a scheduler that dies in the
//! middle, a word that is lost, or a first job that vanished cost some seconds and no build.
//!
//! Who reads no recorded result does not wait for one that is just being made either.

use super::reception::Office;
use crate::job::Lane;
use crate::job::wire::{ActionRecord, CacheUse, JobMessage, JobResult};
use crate::job::{ActionKey, JobId, Proof};
use crate::queue::QueueError;
use crate::queue::flights::{Claim, Place};

/// How often a request that keeps ending without a record is followed; then a request is alone.
const CLAIMS_MAX: u32 = 8;
/// Most who get the result of one job.
const WAITING_MAX: u32 = 10_000;

/// What became of a request.
#[derive(Debug)]
pub enum Boarded {
    /// It has this place in the queue.
    Queued(u64),
    /// It had this place in the queue before.
    Again(u64),
    /// It waits for the job at this place.
    Joined(u64),
    /// Its result has just been recorded.
    Known(Box<ActionRecord>),
}

/// Queues `job`, unless an equal one is there.
///
/// # Errors
/// As [`Desk::enqueue`](crate::queue::serve::Desk::enqueue).
pub async fn board(
    office: &Office,
    job: &JobMessage,
    action: &ActionKey,
    lane: Lane,
) -> Result<Boarded, QueueError> {
    let desk = &office.desk;
    if job.submit.cache == CacheUse::ReadWrite {
        let mut claim = Claim::shared(&job.space, action);
        for tried in 0..CLAIMS_MAX {
            let place = match desk.enqueue(job, lane, &claim).await? {
                Place::New(place) => return Ok(Boarded::Queued(place)),
                Place::Taken(place) => place,
            };
            match join(office, job, action, place).await? {
                Joined::Ours => return Ok(Boarded::Again(place)),
                Joined::Theirs => return Ok(Boarded::Joined(place)),
                Joined::Unfit => break,
                Joined::Ended => {}
            }
            if tried == 0 {
                desk.recorder_caught_up().await?;
                if let Some(record) = desk.record(&job.space, action).await? {
                    return Ok(Boarded::Known(Box::new(record)));
                }
            }
            claim = claim.after(place);
        }
    }
    Ok(match desk.enqueue(job, lane, &Claim::alone(job.submit.job)).await? {
        Place::New(place) => Boarded::Queued(place),
        Place::Taken(place) => Boarded::Again(place),
    })
}

enum Joined {
    /// It is this very request, asked again.
    Ours,
    /// It is another's, and we wait for it.
    Theirs,
    /// Nobody can wait for it.
    Unfit,
    /// It has ended.
    Ended,
}

/// Waits for the job at `place`.
async fn join(
    office: &Office,
    job: &JobMessage,
    action: &ActionKey,
    place: u64,
) -> Result<Joined, QueueError> {
    let (desk, own) = (&office.desk, job.submit.job);
    let Some(first) = desk.job_at(place).await? else { return Ok(Joined::Ended) };
    if first.submit.job == own && first.client == job.client {
        return Ok(Joined::Ours);
    }
    if first.space != job.space || first.submit.action.key() != *action {
        return Ok(Joined::Unfit);
    }
    let name = first.submit.job;
    if let Err(error) = desk.wait_for(name, &job.client, own, job.submit.deadline_unix_ms).await {
        tracing::warn!(job = %own, %error, "request does not wait for an equal one");
        return Ok(Joined::Unfit);
    }
    // Whoever passes results on may have looked just before.
    let (result, queued) =
        tokio::join!(desk.stored_result(&first.client, name), desk.job_at(place));
    if result?.is_none() && queued?.is_some() {
        tracing::debug!(job = %own, first = %name, "request waits for an equal one");
        return Ok(Joined::Theirs);
    }
    desk.wait_no_more(name, &job.client, own).await?;
    Ok(Joined::Ended)
}

/// Passes a result on to everybody who waits for it.
pub async fn pass_on(office: &Office, result: &JobResult) {
    for passed in 0..WAITING_MAX {
        let waiting = match office.desk.waiting_for(result.job).await {
            Ok(Some(waiting)) => waiting,
            // Who leaves alone leaves no mark.
            Ok(None) if passed == 0 => return,
            Ok(None) => match office.desk.landed(result.job).await {
                Ok(()) => return,
                Err(error) => return tracing::debug!(%error, "a mark stays until it ages out"),
            },
            // They ask again.
            Err(error) => {
                return tracing::warn!(job = %result.job, %error, "result was not passed on");
            }
        };
        if let Some((client, job)) = &waiting.who {
            let theirs = for_job(office, result, *job, waiting.deadline_unix_ms);
            if let Err(error) = office.desk.publish_result(client, &theirs).await {
                tracing::warn!(%job, %client, %error, "result was not passed on");
            }
        }
        office.desk.answered(&waiting).await;
    }
}

fn for_job(office: &Office, result: &JobResult, job: JobId, deadline_unix_ms: u64) -> JobResult {
    let JobResult { action, space, .. } = result;
    let proof = Proof::new(&office.rules.proof_key, job, action, space, deadline_unix_ms);
    JobResult { job, proof, deadline_unix_ms, delivery: None, ..result.clone() }
}
