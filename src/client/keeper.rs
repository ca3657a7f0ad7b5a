//! Keeps what the daemon has learnt for its next start: digests of files, and inputs of commands.

use std::sync::Arc;
use std::time::Duration;

use super::daemon::Daemon;
use crate::store::Occasion;

/// How often it is looked whether there is something to be kept.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// Brings back what an earlier daemon knew while the first wrappers come, then keeps what is learnt.
/// Never ends.
pub(super) async fn now_and_then(daemon: Arc<Daemon>) {
    let loaded = daemon.clone();
    // Whoever needs it earlier waits for it or does it. A runtime that stops loads nothing.
    let _ = tokio::task::spawn_blocking(move || loaded.stamps.load()).await;
    loop {
        tokio::time::sleep(KEEP_EVERY).await;
        keep(daemon.clone(), Occasion::Tick).await;
    }
}

/// Keeps what is left to be kept.
pub(super) async fn at_the_end(daemon: Arc<Daemon>) {
    keep(daemon, Occasion::End).await;
}

/// Writes what the next daemon shall know, as far as that is worth it now.
async fn keep(daemon: Arc<Daemon>, occasion: Occasion) {
    let written = tokio::task::spawn_blocking(move || {
        daemon.memory.keep();
        daemon.stamps.keep(occasion)
    });
    match written.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "digests of files are not kept"),
        Err(error) => tracing::debug!(%error, "nothing is kept"),
    }
}
