//! The spaces that this scheduler has seen clients of: where blobs are in NATS, each has streams of its
//! own for them, made before its first client is answered.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use crate::job::Space;
use crate::queue::{Connection, QueueError, streams};
use crate::store::StoreSettings;

use super::quota::Quotas;

/// Spaces whose streams are there.
#[derive(Debug)]
pub struct Spaces {
    connection: Connection,
    quotas: Quotas,
    blobs: Place,
    there: RwLock<HashSet<Space>>,
    /// Held while one is made, so that it is made once.
    making: tokio::sync::Mutex<()>,
}

/// Where blobs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In streams, to which the server gives rights by space.
    Nats,
    /// In a store whose credentials all clients have.
    Elsewhere,
}

impl Spaces {
    /// None yet; their room is as `quotas` say.
    pub fn new(connection: Connection, quotas: Quotas, store: &StoreSettings) -> Self {
        let blobs = if store.is_nats() { Place::Nats } else { Place::Elsewhere };
        let (there, making) = (RwLock::default(), tokio::sync::Mutex::default());
        Self { connection, quotas, blobs, there, making }
    }

    /// Makes the streams of `space` unless they are there.
    ///
    /// # Errors
    /// Why it has no streams; for people.
    pub async fn ensure(&self, space: &Space) -> Result<(), String> {
        if self.has(space) {
            return Ok(());
        }
        let _making = self.making.lock().await;
        if self.has(space) {
            return Ok(());
        }
        self.make(space).await?;
        self.there.write().unwrap_or_else(PoisonError::into_inner).insert(space.clone());
        Ok(())
    }

    /// Makes them all again, for a server that may have lost them.
    pub async fn make_again(&self) {
        let known = self.there.read().unwrap_or_else(PoisonError::into_inner).clone();
        for space in known {
            if let Err(error) = self.make(&space).await {
                tracing::error!(%space, error, "streams of a space were not declared again");
            }
        }
    }

    async fn make(&self, space: &Space) -> Result<(), String> {
        if self.blobs == Place::Elsewhere {
            if *space != Space::shared() {
                tracing::warn!(
                    %space,
                    "every client has the credentials of the blob store: what it holds of one tenant \
                     others can read there"
                );
            }
            return Ok(());
        }
        let bytes = self.quotas.blob_bytes(space);
        match streams::declare_space(&self.connection, space, bytes).await {
            Ok(()) => {
                tracing::info!(%space, bytes, "space has its streams");
                Ok(())
            }
            Err(QueueError::Full(what)) => {
                tracing::error!(%space, bytes, what, "the server has no room for a space");
                Err(format!("the server has no room for the {bytes} bytes of space `{space}`"))
            }
            Err(error) => {
                tracing::error!(%space, %error, "streams of a space were not declared");
                Err(format!("space `{space}` has no streams: {error}"))
            }
        }
    }

    fn has(&self, space: &Space) -> bool {
        self.there.read().unwrap_or_else(PoisonError::into_inner).contains(space)
    }
}
