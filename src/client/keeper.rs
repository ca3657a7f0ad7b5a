//! Keeps what the daemon has learnt for its next start: digests of files, inputs of commands,
//! and where flags make compilers search.

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
        let searches = daemon.scanner.keep();
        daemon.stamps.keep(occasion).and(searches)
    });
    match written.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "what was learnt is not kept for the next start"),
        Err(error) => tracing::debug!(%error, "nothing is kept"),
    }
}
