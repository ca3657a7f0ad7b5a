//! Answers for jobs that were given up: delivered too often, buried by a worker, or audits of a worker that
//! was put out.
//!
//! The stream of advisories keeps them while no scheduler is up. The client gets a result that
//! sends it home to compile locally.

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use crate::job::StepTimes;
use crate::job::WorkerId;
use crate::job::wire::{CacheUse, JobEnd, JobMessage, JobResult, Trouble};
use crate::queue::QueueError;
use crate::queue::serve::Letter;

use super::reception::Office;

/// Answers for given-up jobs until the consumer breaks.
pub async fn bury_all(office: &Office, mut letters: BoxStream<'static, Letter>) {
    while let Some(letter) = letters.next().await {
        if let Err(error) = bury(office, letter.payload()).await {
            tracing::warn!(%error, "given-up job was not answered for");
        }
        letter.finish().await;
    }
}

async fn bury(office: &Office, advisory: &[u8]) -> Result<(), QueueError> {
    let Some(job) = office.desk.exhume(advisory).await? else { return Ok(()) };
    tracing::warn!(job = %job.submit.job, client = %job.client, "job given up after too many tries");
    give_up(office, job).await
}

/// Gives up what `worker`, who was put out, was asked to run for audits: nobody else takes that.
pub async fn give_up_audits_of(office: &Office, worker: &WorkerId) -> Result<(), QueueError> {
    for job in office.audits.take_back(worker).await? {
        give_up(office, job).await?;
    }
    Ok(())
}

async fn give_up(office: &Office, job: JobMessage) -> Result<(), QueueError> {
    let JobMessage { submit, client, space, proof, .. } = job;
    let result = JobResult {
        job: submit.job,
        action: submit.action.key(),
        proof,
        space,
        deadline_unix_ms: submit.deadline_unix_ms,
        worker: nobody(),
        end: JobEnd::Undone(Trouble::Sandbox("no worker could finish it".into())),
        times: StepTimes::default(),
        cache: CacheUse::Off,
        reads: None,
        delivery: None,
    };
    office.desk.publish_result(&client, &result).await
}

/// The name under which schedulers answer.
fn nobody() -> WorkerId {
    WorkerId::try_from("scheduler".to_owned()).unwrap_or_else(|_| unreachable!("a valid name"))
}
