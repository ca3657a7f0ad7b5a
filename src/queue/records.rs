//! The action cache: what is known of an action in a space.

use async_nats::HeaderMap;

use super::connect::QueueError;
use super::serve::{Desk, MESSAGE_ID, direct_get};
use super::{streams, subjects, withdraw};
use crate::job::wire::{self, ActionRecord};
use crate::job::{ActionKey, JobId, Space};

/// Whether a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was.
    First,
    /// Another one of the same job was written before, and stays.
    Before,
}

impl Desk {
    /// What is recorded for `action` in `space`.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer. An unreadable record counts as none.
    pub async fn record(
        &self,
        space: &Space,
        action: &ActionKey,
    ) -> Result<Option<ActionRecord>, QueueError> {
        let stream = format!("KV_{}", subjects::ACTIONS);
        let key = subjects::action_record(space, action);
        let message = direct_get(self.connection(), &stream, &key).await?;
        Ok(message.and_then(|message| match wire::decode(&message.payload) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(%action, %error, "unreadable action record passed over");
                None
            }
        }))
    }

    /// Records what `action` gives in `space`, as `job` found out: the first record for a job counts.
    ///
    /// # Errors
    /// [`QueueError`] when the server refuses.
    pub async fn write_record(
        &self,
        space: &Space,
        action: &ActionKey,
        job: JobId,
        record: &ActionRecord,
    ) -> Result<Written, QueueError> {
        self.publish_record(space, action, job.to_string(), record).await
    }

    /// As [`Desk::write_record`], for the precise action of the same job, which is another one.
    ///
    /// # Errors
    /// As [`Desk::write_record`].
    pub async fn write_precise_record(
        &self,
        space: &Space,
        action: &ActionKey,
        job: JobId,
        record: &ActionRecord,
    ) -> Result<Written, QueueError> {
        // The server knows messages by their id, whatever their subject.
        self.publish_record(space, action, format!("{job}-precise"), record).await
    }

    async fn publish_record(
        &self,
        space: &Space,
        action: &ActionKey,
        id: String,
        record: &ActionRecord,
    ) -> Result<Written, QueueError> {
        let key = subjects::action_record(space, action);
        let mut headers = HeaderMap::new();
        headers.insert(withdraw::HEADER_WORKER, record.worker.as_str());
        headers.insert(MESSAGE_ID, id);
        let payload = wire::encode(record);
        let context = streams::context(self.connection());
        let sent = context.publish_with_headers(key.clone(), headers, payload).await;
        let acked = sent.map_err(|error| streams::refused(&key, &error))?.await;
        let acked = acked.map_err(|error| streams::refused(&key, &error))?;
        Ok(if acked.duplicate { Written::Before } else { Written::First })
    }
}
