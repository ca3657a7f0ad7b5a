//! What workers say of jobs in their hands, passed on to the queue: a job leaves it when its result is
//! read here, stays while its worker is at it, and comes again when its worker gives it back.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use super::reception::Office;
use crate::job::WorkerId;
use crate::job::wire::{HoldWord, JobResult};
use crate::queue::QueueError;
use crate::queue::holdings::{Heard, Hold};

/// Words of workers that are passed on at once.
const HEARD_AT_ONCE: usize = 64;

/// Passes on words until the connection is closed.
pub async fn hear_workers(office: Arc<Office>, heard: BoxStream<'static, Heard>) {
    let pass_on = async |heard: Heard| tell(&heard.worker, office.desk.pass_on(&heard).await);
    heard.for_each_concurrent(HEARD_AT_ONCE, pass_on).await;
}

/// Takes the job of a stored result out of the queue.
pub async fn finish(office: &Office, worker: &WorkerId, result: &JobResult) {
    if let Some(delivery) = &result.delivery {
        tell(worker, office.desk.hold(delivery, &result.proof, HoldWord::Finish).await);
    }
}

fn tell(worker: &WorkerId, passed: Result<Hold, QueueError>) {
    match passed {
        Ok(Hold::Real) => {}
        Ok(Hold::Gone) => tracing::debug!(%worker, "word about a job that is gone"),
        Ok(Hold::Unproved) => {
            tracing::warn!(%worker, "worker spoke for a job that it was not given");
        }
        Err(error) => tracing::warn!(%worker, %error, "word was not passed on"),
    }
}
