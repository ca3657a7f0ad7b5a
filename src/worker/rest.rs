//! A worker that could not do a job for reasons of its own machine takes none for a while, so that
//! the others get them and a full disk does not swallow a whole build. Pure: the clock is an
//! argument.

use std::time::{Duration, Instant};

/// First rest.
const REST_MIN: Duration = Duration::from_secs(1);
/// Longest rest; it doubles with each failure in a row.
const REST_MAX: Duration = Duration::from_secs(30);

/// Until when no job is taken.
#[derive(Debug, Default)]
pub(super) struct Rest {
    length: Duration,
    until: Option<Instant>,
}

impl Rest {
    /// A job failed for reasons of this machine.
    pub(super) fn begin(&mut self, now: Instant) {
        // Jobs that were under way together fail together: that is one failure.
        if !self.is_on(now) {
            self.length = (self.length * 2).clamp(REST_MIN, REST_MAX);
            self.until = Some(now + self.length);
        }
    }

    /// A job was done: the next failure begins with a short rest again.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Whether no job shall be taken now.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_until_a_job_is_done() {
        let (mut rest, mut now) = (Rest::default(), Instant::now());
        assert!(!rest.is_on(now));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            rest.begin(now);
            rest.begin(now);
            now += Duration::from_secs(seconds);
            assert!(rest.is_on(now - Duration::from_millis(1)) && !rest.is_on(now));
        }
        rest.end();
        rest.begin(now);
        assert!(!rest.is_on(now + REST_MIN));
    }
}
