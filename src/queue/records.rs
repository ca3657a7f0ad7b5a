//! The action cache: what is known of an action in a space.

use async_nats::{HeaderMap, Message};
use bytes::Bytes;

use super::connect::QueueError;
use super::serve::{Desk, MESSAGE_ID, direct_get};
use super::{streams, subjects, withdraw};
use crate::job::wire::{self, ActionRecord};
use crate::job::{ActionKey, JobId, Space, WorkerId};

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
        let message = self.kept(&subjects::action_record(space, action)).await?;
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
        self.keep(key, &record.worker, Some(id), wire::encode(record)).await
    }

    /// What stands under `key` in the bucket of records.
    pub(super) async fn kept(&self, key: &str) -> Result<Option<Message>, QueueError> {
        direct_get(self.connection(), &format!("KV_{}", subjects::ACTIONS), key).await
    }

    /// Writes `payload` under `key` of that bucket, to be withdrawn with `worker`; once for each `id`.
    pub(super) async fn keep(
        &self,
        key: String,
        worker: &WorkerId,
        id: Option<String>,
        payload: Bytes,
    ) -> Result<Written, QueueError> {
        let mut headers = HeaderMap::new();
        headers.insert(withdraw::HEADER_WORKER, worker.as_str());
        if let Some(id) = id {
            headers.insert(MESSAGE_ID, id);
        }
        let sent = self.context.publish_with_headers(key.clone(), headers, payload).await;
        let acked = sent.map_err(|error| streams::refused(&key, &error))?.await;
        let acked = acked.map_err(|error| streams::refused(&key, &error))?;
        Ok(if acked.duplicate { Written::Before } else { Written::First })
    }
}
