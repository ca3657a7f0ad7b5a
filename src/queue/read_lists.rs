//! What compiles of a command were seen to read, in the bucket of action records: each space has its
//! own, only schedulers write them, and they are withdrawn with the records of the worker that told.

use super::connect::QueueError;
use super::serve::Desk;
use super::subjects;
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
        let message = self.kept(&subjects::read_lists(space, command)).await?;
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
        self.keep(key, worker, None, wire::encode(lists)).await.map(drop)
    }
}
