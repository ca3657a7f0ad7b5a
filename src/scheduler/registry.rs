//! Live workers, as the registry bucket tells. Pure: the clock is an argument.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::job::wire::WorkerState;
use crate::job::{Pool, WorkerId};

/// Workers that said something lately.
#[derive(Debug)]
pub struct Registry {
    age_max: Duration,
    workers: HashMap<WorkerId, (Instant, WorkerState)>,
}

/// Whether a worker was in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was.
    Already,
    /// It came, or came back.
    New,
}

impl Registry {
    /// An empty registry that forgets workers which were silent for `age_max`.
    pub fn new(age_max: Duration) -> Self {
        Self { age_max, workers: HashMap::new() }
    }

    /// A worker said something of itself; whether it had before, and lately enough.
    pub fn said(&mut self, state: WorkerState, now: Instant) -> Known {
        match self.workers.insert(state.worker.clone(), (now, state)) {
            Some((before, _)) if now.duration_since(before) <= self.age_max => Known::Already,
            _ => Known::New,
        }
    }

    /// A worker took itself out.
    pub fn gone(&mut self, worker: &WorkerId) {
        self.workers.remove(worker);
    }

    /// Workers alive at `now`, by name.
    pub fn live(&self, now: Instant) -> Vec<&WorkerState> {
        let mut live: Vec<_> = self
            .workers
            .values()
            .filter(|(said, _)| now.duration_since(*said) <= self.age_max)
            .map(|(_, state)| state)
            .collect();
        live.sort_by(|one, other| one.worker.cmp(&other.worker));
        live
    }

    /// Slots of live workers of `pool` that take jobs.
    pub fn slots(&self, pool: &Pool, now: Instant) -> u32 {
        self.live(now)
            .into_iter()
            .filter(|state| state.pool == *pool && !state.draining)
            .fold(0, |slots, state| slots.saturating_add(state.slots))
    }

    /// Pools that any worker ever named.
    pub fn pools(&self) -> HashSet<Pool> {
        self.workers.values().map(|(_, state)| state.pool.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(worker: &str, slots: u32) -> WorkerState {
        WorkerState {
            worker: worker.parse().unwrap(),
            pool: Pool::of_this_machine(),
            slots,
            free: slots,
            running: 0,
            cores: slots,
            version: "1".into(),
            draining: false,
        }
    }

    #[test]
    fn silent_and_draining_workers_give_no_slots() {
        let (start, pool) = (Instant::now(), Pool::of_this_machine());
        let mut registry = Registry::new(Duration::from_secs(6));
        assert_eq!(registry.said(state("a", 2), start), Known::New);
        assert_eq!(registry.said(state("a", 2), start), Known::Already);
        registry.said(state("b", 4), start + Duration::from_secs(5));
        assert_eq!(registry.slots(&pool, start + Duration::from_secs(5)), 6);
        assert_eq!(registry.slots(&pool, start + Duration::from_secs(7)), 4);
        registry
            .said(WorkerState { draining: true, ..state("b", 4) }, start + Duration::from_secs(7));
        assert_eq!(registry.slots(&pool, start + Duration::from_secs(7)), 0);
        registry.gone(&"b".parse().unwrap());
        assert!(registry.live(start + Duration::from_secs(7)).is_empty());
    }

    #[test]
    fn workers_that_claim_everything_are_counted_all_the_same() {
        let (now, pool) = (Instant::now(), Pool::of_this_machine());
        let mut registry = Registry::new(Duration::from_secs(6));
        registry.said(state("a", u32::MAX), now);
        registry.said(state("b", u32::MAX), now);
        assert_eq!(registry.slots(&pool, now), u32::MAX);
    }
}
