//! What workers report to schedulers, outside of any job.

use async_nats::Subscriber;
use futures_util::StreamExt as _;

use super::connect::QueueError;
use super::serve::{Desk, asker};
use super::subjects;
use crate::job::WorkerId;
use crate::job::wire::{self, WrongBlob};

/// What workers report, as it comes.
#[derive(Debug)]
pub struct Reports(Subscriber);

impl Reports {
    /// The next report and who makes it; `None` when the connection is closed for good.
    pub async fn next(&mut self) -> Option<(WorkerId, WrongBlob)> {
        loop {
            let message = self.0.next().await?;
            let worker = subjects::parse_worker_report(&message.subject);
            match (worker, asker(&message), wire::decode(&message.payload)) {
                (Some(worker), Some(user), Ok(report)) if worker.as_str() == user => {
                    return Some((worker, report));
                }
                (worker, user, _) => {
                    tracing::warn!(?worker, ?user, "unreadable or false report dropped");
                }
            }
        }
    }
}

impl Desk {
    /// Reports of all workers, shared with the other schedulers.
    ///
    /// # Errors
    /// [`QueueError::Disconnected`] when the connection is gone.
    pub async fn reports(&self) -> Result<Reports, QueueError> {
        self.connection().share(subjects::WORKER_REPORTS).await.map(Reports)
    }
}
