//! How long compiles take, so far as a scheduler can vouch for it. Pure: the clock is an argument.

use std::collections::HashMap;
use std::time::Instant;

use crate::job::JobId;

/// What a compile takes before any was seen, in ms.
const FIRST_GUESS_MS: f64 = 1_000.0;
/// How much one result moves the mean of all.
const SMOOTHING: f64 = 0.05;
/// Most jobs that are remembered; then the table starts anew, and their times are not learned.
const BEGUN_MAX: usize = 65_536;

/// The mean time of a compile, and when the jobs began that will change it.
#[derive(Debug)]
pub struct Pace {
    mean_ms: f64,
    begun: HashMap<JobId, Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { mean_ms: FIRST_GUESS_MS, begun: HashMap::new() }
    }
}

impl Pace {
    /// `job` is queued by this scheduler.
    pub fn begun(&mut self, job: JobId, now: Instant) {
        if self.begun.len() >= BEGUN_MAX {
            self.begun.clear();
        }
        self.begun.entry(job).or_insert(now);
    }

    /// A worker says that `job` took `claimed_ms`. It counts once, for a job that was queued here, and
    /// for no longer than that is ago: one worker cannot make the farm look slow.
    pub fn ended(&mut self, job: JobId, claimed_ms: f64, now: Instant) {
        let Some(begun) = self.begun.remove(&job) else { return };
        let longest_ms = now.duration_since(begun).as_secs_f64() * 1_000.0;
        self.mean_ms += (claimed_ms.min(longest_ms) - self.mean_ms) * SMOOTHING;
    }

    /// The mean time of a compile, in ms.
    pub fn job_ms(&self) -> f64 {
        self.mean_ms
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_worker_that_claims_long_times_does_not_make_the_farm_look_slow() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        for _ in 0..1_000 {
            let job = JobId::random().unwrap();
            pace.begun(job, start);
            // Again and again, too: it counts once.
            for _ in 0..10 {
                pace.ended(job, 1e9, start + Duration::from_secs(2));
            }
        }
        assert!((1_999.0..=2_000.0).contains(&pace.job_ms()), "{}", pace.job_ms());
        pace.ended(JobId::random().unwrap(), 1e9, start + Duration::from_secs(9_000));
        assert!(pace.job_ms() <= 2_000.0);
        assert!(pace.begun.is_empty());
    }

    #[test]
    fn what_honest_workers_say_is_learned() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        for _ in 0..1_000 {
            let job = JobId::random().unwrap();
            pace.begun(job, start);
            pace.ended(job, 250.0, start + Duration::from_secs(2));
        }
        assert!((250.0..251.0).contains(&pace.job_ms()), "{}", pace.job_ms());
        for _ in 0..=BEGUN_MAX {
            pace.begun(JobId::random().unwrap(), start);
        }
        assert_eq!(pace.begun.len(), 1);
    }
}
