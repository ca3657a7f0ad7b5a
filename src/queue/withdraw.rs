//! Takes known results back: one that turned out to be wrong, or all that a worker gave lately.

use std::time::SystemTime;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use futures_util::StreamExt as _;

use super::connect::QueueError;
use super::serve::Desk;
use super::{streams, subjects};
use crate::job::{ActionKey, Space, WorkerId};

/// Header of a record that names who ran the action, so that a search reads no record.
pub(super) const HEADER_WORKER: &str = "Jetcc-Worker";

impl Desk {
    /// Takes back what is recorded for `action` in `space`: it runs again for the next who asks.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the server refuses.
    pub async fn withdraw(&self, space: &Space, action: &ActionKey) -> Result<(), QueueError> {
        let key = subjects::action_record(space, action);
        let purged = self.records().await?.purge().filter(key).await;
        purged.map(drop).map_err(|error| refused(&error))
    }

    /// Takes back everything that was recorded of `worker` since then; gives how many.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the server refuses.
    pub async fn withdraw_results_of(
        &self,
        worker: &WorkerId,
        since: SystemTime,
    ) -> Result<u64, QueueError> {
        let records = self.records().await?;
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartTime { start_time: since.into() },
            headers_only: true,
            ..pull::OrderedConfig::default()
        };
        let consumer = records.create_consumer(config).await.map_err(|error| refused(&error))?;
        let mut left = consumer.cached_info().num_pending;
        let mut found = consumer.messages().await.map_err(|error| refused(&error))?;
        let mut withdrawn = 0;
        while left > 0 {
            let Some(record) = found.next().await else { break };
            let record = record.map_err(|error| refused(&error))?;
            let info = record.info().map_err(|error| refused(&error))?;
            left = info.pending;
            let header = record.headers.as_ref().and_then(|headers| headers.get(HEADER_WORKER));
            if header.is_some_and(|name| name.as_str() == worker.as_str()) {
                // A newer record of the same action is somebody else's, and stays.
                let before = info.stream_sequence + 1;
                let purge = records.purge().filter(record.subject.as_str()).sequence(before);
                purge.await.map_err(|error| refused(&error))?;
                withdrawn += 1;
            }
        }
        Ok(withdrawn)
    }

    async fn records(&self) -> Result<Stream<()>, QueueError> {
        let stream = format!("KV_{}", subjects::ACTIONS);
        let records = streams::context(self.connection()).get_stream_no_info(stream).await;
        records.map_err(|error| refused(&error))
    }
}

fn refused(error: &impl std::fmt::Display) -> QueueError {
    streams::refused(subjects::ACTIONS, error)
}
