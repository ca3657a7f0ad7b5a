//! Takes known results back: one that turned out to be wrong.

use super::connect::QueueError;
use super::serve::Desk;
use super::{streams, subjects};
use crate::job::{ActionKey, Space};

impl Desk {
    /// Takes back what is recorded for `action` in `space`: it runs again for the next who asks.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the server refuses.
    pub async fn withdraw(&self, space: &Space, action: &ActionKey) -> Result<(), QueueError> {
        let stream = format!("KV_{}", subjects::ACTIONS);
        let context = streams::context(self.connection());
        let records = context.get_stream_no_info(&stream).await;
        let records = records.map_err(|error| streams::refused(&stream, &error))?;
        let purged = records.purge().filter(subjects::action_record(space, action)).await;
        purged.map(drop).map_err(|error| streams::refused(&stream, &error))
    }
}
