//! The jobs that this scheduler queued itself: a worker's word about one of them is compared with
//! what is remembered here, and costs the queue no question. Another scheduler's jobs are read from it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::job::wire::JobMessage;
use crate::job::{JobId, Proof};

/// Most jobs that are remembered, some 300 bytes each; then the table starts anew.
const JOBS_MAX: usize = 20_000;

/// What a word about a job has to fit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QueuedJob {
    /// Its subject in the queue.
    pub(super) subject: String,
    /// Its name.
    pub(super) job: JobId,
    /// What only those know who were given it.
    pub(super) proof: Proof,
}

impl QueuedJob {
    /// Of `job`, which stands on `subject`.
    pub(super) fn new(subject: String, job: &JobMessage) -> Self {
        Self { subject, job: job.submit.job, proof: job.proof.clone() }
    }
}

/// Jobs by their places in the queue.
#[derive(Debug, Default)]
pub(super) struct QueuedJobs(Mutex<HashMap<u64, QueuedJob>>);

impl QueuedJobs {
    /// `job` has got `place`.
    pub(super) fn note(&self, place: u64, job: QueuedJob) {
        let mut jobs = self.jobs();
        if jobs.len() >= JOBS_MAX {
            jobs.clear();
        }
        jobs.insert(place, job);
    }

    /// The job at `place`, if it was queued here. It may have ended.
    pub(super) fn at(&self, place: u64) -> Option<QueuedJob> {
        self.jobs().get(&place).cloned()
    }

    /// The job at `place` has ended.
    pub(super) fn forget(&self, place: u64) {
        self.jobs().remove(&place);
    }

    /// The queue may count places from the beginning again.
    pub(super) fn forget_all(&self) {
        self.jobs().clear();
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<u64, QueuedJob>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ActionKey, Digest, Space};

    fn job() -> QueuedJob {
        let (job, action) = (JobId::random().unwrap(), ActionKey::from(Digest::of(b"a")));
        let proof = Proof::new(&[7; 32], job, &action, &Space::shared(), 1);
        QueuedJob { subject: "jobs.x".into(), job, proof }
    }

    #[test]
    fn jobs_are_remembered_by_place_until_they_end_or_the_table_is_full() {
        let (jobs, first, second) = (QueuedJobs::default(), job(), job());
        jobs.note(1, first);
        jobs.note(1, second.clone());
        assert_eq!(jobs.at(1), Some(second), "a place that is given again is another job's");
        jobs.forget(1);
        assert_eq!(jobs.at(1), None);
        for place in 0..JOBS_MAX as u64 + 1 {
            jobs.note(place, job());
        }
        assert_eq!((jobs.at(1), jobs.jobs().len()), (None, 1));
        jobs.forget_all();
        assert_eq!(jobs.jobs().len(), 0);
    }
}
