//! Answers about tokens, believed for a while. The tokens themselves are not kept, only their
//! digests.

use std::collections::HashMap;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use crate::queue::Secret;

/// Most answers of one kind that are kept.
const ENTRIES_MAX: usize = 10_000;

/// Answers by token.
pub(super) struct Remembered<T>(HashMap<[u8; 32], (T, Instant)>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone> Remembered<T> {
    /// The answer about a token, if it still holds at `now`.
    pub(super) fn get(&self, token: &Secret, now: Instant) -> Option<T> {
        let (answer, until) = self.0.get(&name(token))?;
        (*until > now).then(|| answer.clone())
    }

    /// Keeps an answer until then. When there are too many, the ones that end first go.
    pub(super) fn keep(&mut self, token: &Secret, answer: T, until: Instant, now: Instant) {
        if self.0.len() >= ENTRIES_MAX {
            self.0.retain(|_, (_, until)| *until > now);
        }
        if self.0.len() >= ENTRIES_MAX {
            let first = self.0.iter().min_by_key(|(_, (_, until))| *until).map(|(name, _)| *name);
            first.and_then(|first| self.0.remove(&first));
        }
        self.0.insert(name(token), (answer, until));
    }
}

fn name(token: &Secret) -> [u8; 32] {
    Sha256::digest(token.reveal().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_ends_and_there_is_room_for_the_next() {
        let (mut answers, now) = (Remembered::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        answers.keep(&Secret::new("a"), 1, after(10), now);
        assert_eq!(answers.get(&Secret::new("a"), after(9)), Some(1));
        assert_eq!(answers.get(&Secret::new("a"), after(10)), None);
        assert_eq!(answers.get(&Secret::new("b"), now), None);
        for n in 0..ENTRIES_MAX {
            answers.keep(&Secret::new(&format!("t{n}")), n, after(20), now);
        }
        assert_eq!(answers.0.len(), ENTRIES_MAX);
        assert_eq!(answers.get(&Secret::new("a"), now), None);
        answers.keep(&Secret::new("last"), 7, after(50), after(30));
        assert_eq!(answers.0.len(), 1);
    }
}
