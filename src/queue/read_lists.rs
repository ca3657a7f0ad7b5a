//! What compiles of a command were seen to read, in the bucket of action records: each space has its
//! own, only schedulers write them, and they are withdrawn with the records of the worker that told.

use async_nats::HeaderMap;

use super::connect::QueueError;
use super::serve::{Desk, direct_get};
use super::{streams, subjects, withdraw};
use crate::job::reads::ReadLists;
use crate::job::{Digest, Space, WorkerId, wire};

impl Desk {
    /// The lists that are known of `command` in `space`.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer. Unreadable lists count as none.
    pub async fn read_lists(
        &self,
        space: &Space,
        command: &Digest,
    ) -> Result<ReadLists, QueueError> {
        let stream = format!("KV_{}", subjects::ACTIONS);
        let key = subjects::read_lists(space, command);
        let message = direct_get(self.connection(), &stream, &key).await?;
        Ok(message.and_then(|found| wire::decode(&found.payload).ok()).unwrap_or_default())
    }

    /// Writes the lists of `command` in `space`, of which `worker` told the first.
    ///
    /// # Errors
    /// [`QueueError`] when the server refuses.
    pub async fn write_read_lists(
        &self,
        space: &Space,
        command: &Digest,
        worker: &WorkerId,
        lists: &ReadLists,
    ) -> Result<(), QueueError> {
        let key = subjects::read_lists(space, command);
        let mut headers = HeaderMap::new();
        headers.insert(withdraw::HEADER_WORKER, worker.as_str());
        let context = streams::context(self.connection());
        let sent = context.publish_with_headers(key.clone(), headers, wire::encode(lists)).await;
        let acked = sent.map_err(|error| streams::refused(&key, &error))?.await;
        acked.map(drop).map_err(|error| streams::refused(&key, &error))
    }
}
