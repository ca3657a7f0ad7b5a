//! Of compiles with the same new flags one asks the compiler; the others wait until it has.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::job::Digest;

/// Who has it asks. The others wait until it is dropped: with the answer learned, or without one
/// when the compiler failed or nobody waits for it any more.
#[derive(Debug)]
pub struct Turn {
    /// Nothing is ever sent; that it is gone is the word.
    #[cfg_attr(not(test), expect(dead_code, reason = "it ends when it is dropped"))]
    end: watch::Sender<()>,
}

/// Turns under way, by flags.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<Digest, watch::Receiver<()>>>);

impl Turns {
    /// The turn of `key`; `None` when it was somebody else's, and has ended.
    pub(super) async fn take(&self, key: Digest) -> Option<Turn> {
        match self.begin(key) {
            Ok(turn) => Some(turn),
            Err(mut others) => {
                // An error: the sender is gone.
                let _ = others.changed().await;
                None
            }
        }
    }

    fn begin(&self, key: Digest) -> Result<Turn, watch::Receiver<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.has_changed().is_ok());
        if let Some(others) = turns.get(&key) {
            return Err(others.clone());
        }
        let (sender, receiver) = watch::channel(());
        turns.insert(key, receiver);
        Ok(Turn { end: sender })
    }
}

#[cfg(test)]
impl Turn {
    /// How many wait for its end.
    pub fn waiting(&self) -> usize {
        self.end.receiver_count() - 1
    }
}
