//! What each tenant may use, and how much its clients have sent within the hour. Pure: values in,
//! values out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::job::{Space, Tenant};

/// Room for the blobs of the space that is shared, in bytes; 46 GiB.
const SHARED_BLOB_BYTES_MAX: u64 = 46 << 30;
/// Room for the blobs of a tenant's own space, in bytes; 3 GiB.
const BLOB_BYTES_MAX: u64 = 3 << 30;
/// How long what was sent counts.
pub const HOUR: Duration = Duration::from_secs(3_600);
/// What was sent within this time is forgotten together.
const STEP: Duration = Duration::from_secs(60);

/// `[quota]`: limits of every tenant, and those of tenants that have their own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Most jobs of a tenant that wait or run; no limit when absent.
    pub outstanding_jobs_max: Option<u32>,
    /// Most bytes that a tenant's clients send within an hour; no limit when absent.
    pub upload_bytes_per_hour_max: Option<u64>,
    /// Room for the blobs of a tenant's own space, in bytes.
    pub blob_bytes_max: Option<u64>,
    /// Room for the blobs of the space that is shared, in bytes.
    pub shared_blob_bytes_max: Option<u64>,
    /// Tenants with limits of their own; what these leave out is as above.
    pub tenants: BTreeMap<Tenant, Quota>,
}

/// Limits of one tenant.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// As in [`Quotas`].
    pub outstanding_jobs_max: Option<u32>,
    /// As in [`Quotas`].
    pub upload_bytes_per_hour_max: Option<u64>,
    /// As in [`Quotas`].
    pub blob_bytes_max: Option<u64>,
}

impl Quotas {
    /// The limits of `tenant`.
    pub fn of(&self, tenant: &Tenant) -> Quota {
        let own = self.tenants.get(tenant).copied().unwrap_or_default();
        Quota {
            outstanding_jobs_max: own.outstanding_jobs_max.or(self.outstanding_jobs_max),
            upload_bytes_per_hour_max: own
                .upload_bytes_per_hour_max
                .or(self.upload_bytes_per_hour_max),
            blob_bytes_max: own.blob_bytes_max.or(self.blob_bytes_max),
        }
    }

    /// Room for the blobs of `space`, in bytes; a space that is not shared bears its tenant's name.
    pub fn blob_bytes(&self, space: &Space) -> u64 {
        if *space == Space::shared() {
            return self.shared_blob_bytes_max.unwrap_or(SHARED_BLOB_BYTES_MAX);
        }
        let own = space.as_str().parse().ok().and_then(|tenant| self.of(&tenant).blob_bytes_max);
        own.unwrap_or(BLOB_BYTES_MAX)
    }

    /// Whether any tenant's uploads are limited: only then are they counted.
    pub fn limit_uploads(&self) -> bool {
        self.upload_bytes_per_hour_max.is_some()
            || self.tenants.values().any(|quota| quota.upload_bytes_per_hour_max.is_some())
    }
}

/// A connection, as the server that holds it numbers it.
pub type Key = (String, u64);

/// What the clients of each tenant have sent within the hour, out of what the servers say that each
/// connection has sent since it began.
#[derive(Debug, Default)]
pub struct Meter {
    tenants: HashMap<Tenant, Sent>,
    /// What each connection has sent, and when that was last heard.
    connections: HashMap<Key, (u64, Instant)>,
}

#[derive(Debug, Default)]
struct Sent {
    /// Bytes of each step, the latest last.
    steps: VecDeque<(Instant, u64)>,
    is_over: bool,
}

impl Meter {
    /// A connection has sent `total` bytes so far, which count for nobody.
    pub fn know(&mut self, key: Key, total: u64, now: Instant) {
        self.connections.insert(key, (total, now));
    }

    /// A connection of `tenant` has sent `total` bytes so far.
    pub fn count(&mut self, key: Key, tenant: &Tenant, total: u64, now: Instant) {
        let before = self.connections.insert(key, (total, now)).map_or(0, |(before, _)| before);
        self.add(tenant, total.saturating_sub(before), now);
    }

    /// A connection ended, having sent `total` bytes.
    pub fn ended(&mut self, key: &Key, tenant: &Tenant, total: u64, now: Instant) {
        let before = self.connections.remove(key).map_or(0, |(before, _)| before);
        self.add(tenant, total.saturating_sub(before), now);
    }

    fn add(&mut self, tenant: &Tenant, bytes: u64, now: Instant) {
        if bytes == 0 {
            return;
        }
        let steps = &mut self.tenants.entry(tenant.clone()).or_default().steps;
        match steps.back_mut() {
            Some((begun, sum)) if now.duration_since(*begun) < STEP => *sum += bytes,
            _ => steps.push_back((now, bytes)),
        }
    }

    /// Tenants that have sent more than they may, now that all is counted; those that sent nothing for
    /// an hour are forgotten.
    pub fn over(&mut self, quotas: &Quotas, now: Instant) -> Vec<(Tenant, Over)> {
        // Some ends are not heard.
        self.connections.retain(|_, (_, heard)| now.duration_since(*heard) <= STEP);
        let mut over = Vec::new();
        self.tenants.retain(|tenant, sent| {
            while sent.steps.front().is_some_and(|(begun, _)| now.duration_since(*begun) > HOUR) {
                sent.steps.pop_front();
            }
            let sum: u64 = sent.steps.iter().map(|(_, bytes)| bytes).sum();
            let limit = quotas.of(tenant).upload_bytes_per_hour_max.unwrap_or(u64::MAX);
            let before = std::mem::replace(&mut sent.is_over, sum > limit);
            if sent.is_over {
                over.push((tenant.clone(), if before { Over::Still } else { Over::New }));
            }
            !sent.steps.is_empty()
        });
        over
    }
}

/// Since when a tenant is over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Since this count.
    New,
    /// Since an earlier one.
    Still,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(toml: &str) -> Quotas {
        toml::from_str(toml).unwrap()
    }

    fn key(number: u64) -> Key {
        ("server".into(), number)
    }

    #[test]
    fn a_tenants_own_limits_go_before_those_of_all() {
        let quotas = quotas(
            "outstanding_jobs_max = 9\nupload_bytes_per_hour_max = 7\n\
             [tenants.acme]\noutstanding_jobs_max = 2\nblob_bytes_max = 5",
        );
        let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
        assert_eq!(quotas.of(&acme).outstanding_jobs_max, Some(2));
        assert_eq!(quotas.of(&acme).upload_bytes_per_hour_max, Some(7));
        assert_eq!(quotas.of(&other).outstanding_jobs_max, Some(9));
        assert_eq!(quotas.blob_bytes(&"acme".parse().unwrap()), 5);
        assert_eq!(quotas.blob_bytes(&"other".parse().unwrap()), BLOB_BYTES_MAX);
        assert_eq!(quotas.blob_bytes(&Space::shared()), SHARED_BLOB_BYTES_MAX);
        assert!(toml::from_str::<Quotas>("[tenants.acme]\njobs = 1").is_err());
    }

    #[test]
    fn what_all_connections_of_a_tenant_send_within_an_hour_counts() {
        let quotas = quotas("upload_bytes_per_hour_max = 100");
        let (tenant, start) = ("t".parse().unwrap(), Instant::now());
        let mut meter = Meter::default();
        meter.know(key(1), 50, start);
        meter.count(key(1), &tenant, 60, start);
        meter.count(key(1), &tenant, 70, start);
        assert_eq!(meter.over(&quotas, start), []);
        meter.ended(&key(2), &tenant, 70, start);
        meter.ended(&key(1), &tenant, 80, start);
        assert_eq!(meter.over(&quotas, start), []);
        let later = start + HOUR / 2;
        meter.count(key(3), &tenant, 1, later);
        assert_eq!(meter.over(&quotas, later), [(tenant.clone(), Over::New)]);
        assert_eq!(meter.over(&quotas, later), [(tenant.clone(), Over::Still)]);
        let hour_later = start + HOUR + Duration::from_secs(1);
        assert_eq!(meter.over(&quotas, hour_later), []);
    }

    #[test]
    fn a_silent_tenant_is_forgotten() {
        let quotas = quotas("upload_bytes_per_hour_max = 100");
        let (tenant, start) = ("t".parse().unwrap(), Instant::now());
        let mut meter = Meter::default();
        meter.count(key(1), &tenant, 101, start);
        assert_eq!(meter.over(&quotas, start).len(), 1);
        assert_eq!(meter.over(&quotas, start + HOUR * 2), []);
        assert!(meter.tenants.is_empty());
    }
}
