//! Which lane a job takes, and whether its wait is worth it. Pure: values in, values out.

use std::collections::HashMap;

use crate::job::{Lane, Tenant};

/// Jobs of a tenant that always count as its fair share.
const SHARE_MIN: u32 = 4;
/// An interactive tenant may hold one in this many slots in the urgent lane.
const INTERACTIVE_PART: u32 = 8;

/// How many jobs wait or run, by tenant.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Outstanding jobs by tenant; tenants without any are not listed.
    tenants: HashMap<Tenant, u32>,
    /// Jobs that are just being queued, which no count of the queue has seen.
    coming: HashMap<Tenant, u32>,
    /// Places of jobs that were queued here since the last count, which one under way may not have seen.
    fresh: Vec<(u64, Tenant)>,
}

impl Load {
    /// Outstanding jobs of all tenants.
    pub fn total(&self) -> u32 {
        self.tenants.values().sum()
    }

    /// Outstanding jobs of `tenant`.
    pub fn of(&self, tenant: &Tenant) -> u32 {
        let of = |jobs: &HashMap<Tenant, u32>| jobs.get(tenant).copied().unwrap_or(0);
        of(&self.tenants).saturating_add(of(&self.coming))
    }

    /// Whether `tenant` may have one more job with at most `limit`; if so it is coming, until it
    /// [`Load::came`].
    pub fn let_come(&mut self, tenant: &Tenant, limit: u32) -> bool {
        let fits = self.of(tenant) < limit;
        if fits {
            *self.coming.entry(tenant.clone()).or_default() += 1;
        }
        fits
    }

    /// A job that was coming is in the queue, or will not come.
    pub fn came(&mut self, tenant: &Tenant, queued: Queued) {
        if let Some(coming) = self.coming.get_mut(tenant) {
            *coming -= 1;
            if *coming == 0 {
                self.coming.remove(tenant);
            }
        }
        if let Queued::At(place) = queued {
            *self.tenants.entry(tenant.clone()).or_default() += 1;
            self.fresh.push((place, tenant.clone()));
        }
    }

    /// The queue held so many jobs of `tenants` when `last` was the last place that it had given. Counts
    /// come one after another.
    pub fn counted(&mut self, tenants: HashMap<Tenant, u32>, last: u64) {
        self.tenants = tenants;
        for (place, tenant) in std::mem::take(&mut self.fresh) {
            if place > last {
                *self.tenants.entry(tenant).or_default() += 1;
            }
        }
    }
}

/// Whether a job that was coming is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It is, at this place.
    At(u64),
    /// The queue did not take it.
    No,
}

/// The lane for one more job of `tenant` on a farm of `slots` slots.
pub fn lane(load: &Load, tenant: &Tenant, slots: u32, urgency: Urgency) -> Lane {
    let mine = load.of(tenant);
    if urgency == Urgency::Interactive && mine <= slots / INTERACTIVE_PART {
        return Lane::Interactive;
    }
    let others = load.tenants.keys().filter(|other| *other != tenant).count();
    let active = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
    if mine < SHARE_MIN.max(slots / active) { Lane::Normal } else { Lane::Bulk }
}

/// Whether somebody sits in front of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A single file after an edit.
    Interactive,
    /// Part of a build.
    Build,
}

/// Expected wait of one more job in seconds: the jobs before it, shared by the slots.
pub fn wait_seconds(outstanding: u32, slots: u32, job_ms: f64) -> u32 {
    let rounds = f64::from(outstanding.saturating_sub(slots)) / f64::from(slots.max(1));
    let seconds = rounds * job_ms / 1_000.0;
    // A cast from float saturates; a wait of years needs no precision.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = seconds as u32;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(jobs: &[(&str, u32)]) -> Load {
        let tenants = jobs.iter().map(|(name, n)| (name.parse().unwrap(), *n)).collect();
        Load { tenants, ..Load::default() }
    }

    #[test]
    fn a_flood_does_not_bury_a_small_tenant() {
        let (flood, small): (Tenant, Tenant) = ("a".parse().unwrap(), "b".parse().unwrap());
        let load = load(&[("a", 200), ("b", 3)]);
        assert_eq!(lane(&load, &flood, 16, Urgency::Build), Lane::Bulk);
        assert_eq!(lane(&load, &small, 16, Urgency::Build), Lane::Normal);
        assert_eq!(lane(&load, &flood, 16, Urgency::Interactive), Lane::Bulk);
        assert_eq!(lane(&load, &"c".parse().unwrap(), 16, Urgency::Interactive), Lane::Interactive);
    }

    #[test]
    fn jobs_that_are_coming_count_whatever_was_counted_meanwhile() {
        let (mut load, tenant) = (load(&[("a", 1)]), "a".parse().unwrap());
        assert!(load.let_come(&tenant, 3) && load.let_come(&tenant, 3));
        assert!(!load.let_come(&tenant, 3));
        load.tenants.clear();
        assert!(load.let_come(&tenant, 3) && !load.let_come(&tenant, 3));
        load.came(&tenant, Queued::No);
        load.came(&tenant, Queued::At(7));
        assert_eq!((load.of(&tenant), load.total()), (2, 1));
        load.came(&tenant, Queued::No);
        assert!(load.coming.is_empty());
    }

    #[test]
    fn a_job_that_came_while_the_queue_was_counted_counts_once() {
        let (mut load, tenant): (_, Tenant) = (Load::default(), "a".parse().unwrap());
        let held = |jobs| HashMap::from([("a".parse().unwrap(), jobs)]);
        for place in [7, 8] {
            assert!(load.let_come(&tenant, 9));
            load.came(&tenant, Queued::At(place));
        }
        load.counted(held(1), 7);
        assert_eq!(load.of(&tenant), 2);
        load.counted(held(2), 8);
        assert_eq!(load.of(&tenant), 2);
        load.counted(HashMap::new(), 8);
        assert_eq!(load.of(&tenant), 0);
    }

    #[test]
    fn alone_one_may_fill_the_farm() {
        assert_eq!(
            lane(&load(&[("a", 15)]), &"a".parse().unwrap(), 16, Urgency::Build),
            Lane::Normal
        );
    }

    #[test]
    fn waits_grow_with_the_queue() {
        assert_eq!(wait_seconds(2, 2, 500.0), 0);
        assert_eq!(wait_seconds(42, 2, 500.0), 10);
        assert_eq!(wait_seconds(10, 0, 1_000.0), 10);
    }
}
