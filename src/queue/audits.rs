//! Audits under way: the bucket that keeps them, and the queue to the worker that is asked.

use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::jetstream::{Context, kv::Store};

use super::connect::{Connection, QueueError};
use super::{streams, subjects};
use crate::job::wire::{self, JobMessage};
use crate::job::{Audit, JobId, WorkerId};

/// Audits under way; schedulers themselves keep none.
#[derive(Clone, Debug)]
pub struct Audits {
    store: Store,
    context: Context,
}

impl Audits {
    /// The audits behind `connection`, whose bucket was declared.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when there is no such bucket.
    pub async fn open(connection: &Connection) -> Result<Self, QueueError> {
        let context = streams::context(connection);
        let store =
            context.get_key_value(subjects::AUDITS).await.map_err(|error| refused(&error))?;
        Ok(Self { store, context })
    }

    /// Keeps `audit` until the result of `job` comes, or for half an hour.
    ///
    /// # Errors
    /// [`QueueError::Refused`], also when the bucket is full.
    pub async fn keep(&self, job: JobId, audit: &Audit) -> Result<(), QueueError> {
        let put = self.store.put(job.to_string(), wire::encode(audit)).await;
        put.map(drop).map_err(|error| refused(&error))
    }

    /// The audit that the result of `job` belongs to.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the server does not answer. An unreadable one counts as none.
    pub async fn of(&self, job: JobId) -> Result<Option<Audit>, QueueError> {
        let value = self.store.get(job.to_string()).await.map_err(|error| refused(&error))?;
        Ok(value.and_then(|value| wire::decode(&value).ok()))
    }

    /// Forgets the audit.
    pub async fn forget(&self, job: JobId) {
        // The store's own way leaves a mark of each.
        let bucket = &self.store.stream;
        let key = format!("$KV.{}.{job}", subjects::AUDITS);
        if let Err(error) = bucket.purge().filter(key).await {
            tracing::debug!(%job, %error, "audit was not forgotten; it ages out");
        }
    }

    /// Queues `job` for `worker` alone.
    ///
    /// # Errors
    /// [`QueueError::Refused`], also when the worker has its most audits already.
    pub async fn ask(&self, worker: &WorkerId, job: &JobMessage) -> Result<(), QueueError> {
        let subject = subjects::audit(&job.submit.action.pool, worker);
        let sent = self.context.publish(subject.clone(), wire::encode(job)).await;
        let acked = sent.map_err(|error| streams::refused(&subject, &error))?.await;
        acked.map(drop).map_err(|error| streams::refused(&subject, &error))
    }

    /// Takes what `worker` was asked and has not answered out of the queue.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the server does not answer.
    pub async fn take_back(&self, worker: &WorkerId) -> Result<Vec<JobMessage>, QueueError> {
        let filter = subjects::audit_filter(worker);
        let queue = self.context.get_stream_no_info(subjects::JOBS).await;
        let queue = queue.map_err(|error| refused(&error))?;
        let (mut asked, mut place) = (Vec::new(), 1);
        loop {
            match queue.get_first_raw_message_by_subject(&filter, place).await {
                Ok(message) => {
                    place = message.sequence + 1;
                    asked.extend(wire::decode(&message.payload));
                }
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => break,
                Err(error) => return Err(refused(&error)),
            }
        }
        let purged = queue.purge().filter(filter).await;
        purged.map(|_| asked).map_err(|error| refused(&error))
    }
}

fn refused(error: &impl std::fmt::Display) -> QueueError {
    streams::refused(subjects::AUDITS, error)
}
