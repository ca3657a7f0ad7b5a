//! What the log has said lately, so that a party that tries again and again fills no disk.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often the log says that somebody was turned away.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Most of them that are remembered for it.
const TOLD_MAX: usize = 1_000;

/// Who was turned away lately, and why: a party that is denied tries again several times a second.
#[derive(Default)]
pub(super) struct Told(HashMap<String, Instant>);

impl Told {
    /// Whether the log has not said it lately.
    pub(super) fn is_new(&mut self, words: String) -> bool {
        if self.0.len() >= TOLD_MAX {
            self.0.clear();
        }
        let now = Instant::now();
        let lately = |last: &Instant| now.duration_since(*last) < TELL_EVERY;
        let new = !self.0.get(&words).is_some_and(lately);
        if new {
            self.0.insert(words, now);
        }
        new
    }
}
