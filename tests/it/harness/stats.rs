//! The client's counters as `--show-stats --stats-format json` prints them.

use std::collections::BTreeMap;

use serde_json::Value;

/// What the daemon has counted.
#[derive(Clone, Debug)]
pub(crate) struct Stats(Value);

impl Stats {
    pub(crate) fn parse(text: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(text).unwrap();
        Self(json["stats"].clone())
    }

    /// A counter by its name.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("no `{name}` in {}", self.0))
    }

    /// Compiles that ran on any worker.
    pub(crate) fn remote(&self) -> u64 {
        sum(&self.0["dist_compiles"])
    }

    /// Compiles that ran on `worker`.
    pub(crate) fn remote_on(&self, worker: &str) -> u64 {
        self.0["dist_compiles"][worker].as_u64().unwrap_or(0)
    }

    /// Compiles whose result was known.
    pub(crate) fn hits(&self) -> u64 {
        sum(&self.0["cache_hits"]["counts"])
    }

    /// Compiles whose inputs were found in this way: `remembered`, `scanned`, `exact`.
    pub(crate) fn inputs(&self, way: &str) -> u64 {
        self.0["inputs"][way].as_u64().unwrap_or(0)
    }

    /// How often a compiler was asked for inputs, for `doubt`.
    pub(crate) fn asked_for(&self, doubt: &str) -> u64 {
        self.0["exact_passes"][doubt].as_u64().unwrap_or(0)
    }

    /// Local compiles by reason.
    pub(crate) fn local(&self) -> BTreeMap<String, u64> {
        let reasons = self.0["local_reasons"].as_object().cloned().unwrap_or_default();
        reasons.into_iter().map(|(name, n)| (name, n.as_u64().unwrap_or(0))).collect()
    }

    /// Local compiles for `reason`.
    pub(crate) fn local_for(&self, reason: &str) -> u64 {
        self.local().get(reason).copied().unwrap_or(0)
    }
}

fn sum(counts: &Value) -> u64 {
    counts.as_object().map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum())
}
