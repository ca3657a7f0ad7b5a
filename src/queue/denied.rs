//! The bucket of those who are kept out: written by operators and schedulers, watched by schedulers.

use async_nats::jetstream::kv::{Operation, Store, Watch};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::connect::{Connection, QueueError};
use super::{streams, subjects};
use crate::job::{Denial, DeniedBy, Party, wire};

/// The list of those who are kept out.
#[derive(Clone, Debug)]
pub struct Denied(Store);

/// A change of the list.
#[derive(Debug)]
pub enum DeniedChange {
    /// Somebody is kept out, from now on or for another reason.
    Denied(Party, Denial),
    /// Somebody may come again.
    Allowed(Party),
}

/// Changes of the list.
pub struct DeniedWatch(Watch);

impl Denied {
    /// The list behind `connection`, which a scheduler has declared.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when there is no such bucket.
    pub async fn open(connection: &Connection) -> Result<Self, QueueError> {
        let store = streams::context(connection).get_key_value(subjects::DENIED).await;
        store.map(Self).map_err(|error| streams::refused(subjects::DENIED, &error))
    }

    /// Keeps `party` out.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the server does not store it.
    pub async fn deny(&self, party: &Party, denial: &Denial) -> Result<(), QueueError> {
        let put = self.0.put(subjects::denied_key(party), wire::encode(denial)).await;
        put.map(drop).map_err(|error| streams::refused(subjects::DENIED, &error))
    }

    /// Lets `party` in again.
    ///
    /// # Errors
    /// As [`Denied::deny`].
    pub async fn allow(&self, party: &Party) -> Result<(), QueueError> {
        let purged = self.0.purge(subjects::denied_key(party)).await;
        purged.map_err(|error| streams::refused(subjects::DENIED, &error))
    }

    /// Everybody on the list.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the server does not answer.
    pub async fn all(&self) -> Result<Vec<(Party, Denial)>, QueueError> {
        let trouble =
            |error: &dyn std::fmt::Display| streams::refused(subjects::DENIED, &error.to_string());
        let keys = self.0.keys().await.map_err(|error| trouble(&error))?;
        let keys: Vec<String> = keys.try_collect().await.map_err(|error| trouble(&error))?;
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            let value = self.0.get(key.as_str()).await.map_err(|error| trouble(&error))?;
            all.extend(value.and_then(|value| entry(&key, &value)));
        }
        Ok(all)
    }

    /// Follows the list: first what is on it, then every change.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the bucket cannot be watched.
    pub async fn watch(&self) -> Result<DeniedWatch, QueueError> {
        let watch = self.0.watch_with_history(">").await;
        watch.map(DeniedWatch).map_err(|error| streams::refused(subjects::DENIED, &error))
    }
}

impl DeniedWatch {
    /// The next change; `None` when the watch broke and has to be opened again.
    pub async fn next(&mut self) -> Option<DeniedChange> {
        loop {
            let found = match self.0.next().await? {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, "watch of the deny list broke");
                    return None;
                }
            };
            if !matches!(found.operation, Operation::Put) {
                match subjects::parse_denied_key(&found.key) {
                    Some(party) => return Some(DeniedChange::Allowed(party)),
                    None => continue,
                }
            }
            if let Some((party, denial)) = entry(&found.key, &found.value) {
                return Some(DeniedChange::Denied(party, denial));
            }
        }
    }
}

/// An entry that cannot be read still keeps out.
fn entry(key: &str, value: &[u8]) -> Option<(Party, Denial)> {
    let Some(party) = subjects::parse_denied_key(key) else {
        tracing::warn!(key, "entry of the deny list names nobody, passed over");
        return None;
    };
    let denial = wire::decode(value).unwrap_or_else(|error| Denial {
        reason: format!("its entry cannot be read: {error}"),
        since_unix_ms: 0,
        by: DeniedBy::Operator,
        until_unix_ms: None,
    });
    Some((party, denial))
}
