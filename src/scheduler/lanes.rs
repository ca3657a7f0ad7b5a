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
    pub tenants: HashMap<Tenant, u32>,
}

impl Load {
    /// Outstanding jobs of all tenants.
    pub fn total(&self) -> u32 {
        self.tenants.values().sum()
    }

    /// Outstanding jobs of `tenant`.
    pub fn of(&self, tenant: &Tenant) -> u32 {
        self.tenants.get(tenant).copied().unwrap_or(0)
    }

    /// Counts a job that was just queued.
    pub fn add(&mut self, tenant: &Tenant) {
        *self.tenants.entry(tenant.clone()).or_default() += 1;
    }
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
        Load { tenants: jobs.iter().map(|(name, n)| (name.parse().unwrap(), *n)).collect() }
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
