//! Waiting for events: looked for until they are there, and a failure when they do not come.

use std::time::{Duration, Instant};

/// Longest wait for anything; generous, since many tests share a machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until `look` finds something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain: {what}", DEADLINE.as_secs());
        tokio::time::sleep(LOOK).await;
    }
}
