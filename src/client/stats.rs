//! Counters of the daemon, shown as text or as JSON with sccache's field names beside ours.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::cache::State;
use super::inputs::Found;
use super::report::{Finding, Report};
use crate::job::LocalReason;

/// Everything that is counted.
#[derive(Clone, Debug, Default)]
struct Counters {
    compile_requests: u64,
    not_compile: u64,
    remote: BTreeMap<String, u64>,
    hits: BTreeMap<&'static str, u64>,
    misses: BTreeMap<&'static str, u64>,
    /// Of the hits, those from this machine's disk.
    kept_hits: u64,
    hit_ms: f64,
    forced: u64,
    local: BTreeMap<&'static str, u64>,
    not_cached: BTreeMap<String, u64>,
    dist_errors: u64,
    remote_ms: f64,
    wall_ms: f64,
    uploaded_bytes: u64,
    uploaded_blobs: u64,
    sent_bytes: u64,
    corrupt_blobs: u64,
    inputs: BTreeMap<&'static str, u64>,
    exact_passes: BTreeMap<&'static str, u64>,
}

/// The daemon's counters.
#[derive(Debug, Default)]
pub struct Stats(Mutex<Counters>);

impl Stats {
    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a compile that ended.
    pub fn count(&self, report: &Report) {
        let mut counters = self.lock();
        counters.compile_requests += 1;
        match &report.finding {
            Finding::NotACompile => counters.not_compile += 1,
            Finding::Local(reason) => counters.count_local(reason),
            Finding::Kept { .. } => {
                *counters.hits.entry(report.language).or_default() += 1;
                counters.kept_hits += 1;
                counters.hit_ms += report.wall_ms;
                counters.wall_ms += report.wall_ms;
            }
            Finding::Cached { .. } => {
                counters.hit_ms += report.wall_ms;
                *counters.hits.entry(report.language).or_default() += 1;
                counters.wall_ms += report.wall_ms;
            }
            Finding::Remote { worker, times, .. } => {
                *counters.remote.entry(worker.clone()).or_default() += 1;
                *counters.misses.entry(report.language).or_default() += 1;
                counters.remote_ms += times.run_ms;
                counters.wall_ms += report.wall_ms;
            }
        }
    }

    /// Counts a compile that runs here although its result would have been taken from this disk.
    pub fn count_miss(&self, language: &'static str) {
        *self.lock().misses.entry(language).or_default() += 1;
    }

    /// Counts how the inputs of a compile were found.
    pub fn count_inputs(&self, found: &Found) {
        let mut counters = self.lock();
        *counters.inputs.entry(found.mode.name()).or_default() += 1;
        if let Some(doubt) = &found.doubt {
            *counters.exact_passes.entry(doubt.name()).or_default() += 1;
        }
    }

    /// Counts an upload of so many bytes, uncompressed.
    pub fn count_upload(&self, bytes: u64) {
        let mut counters = self.lock();
        counters.uploaded_blobs += 1;
        counters.uploaded_bytes += bytes;
    }

    /// Counts bytes that were sent: messages of compiles and blobs, compressed.
    pub fn count_sent(&self, bytes: u64) {
        self.lock().sent_bytes += bytes;
    }

    /// Counts an output that had other bytes than its digest says.
    pub fn count_corrupt(&self) {
        self.lock().corrupt_blobs += 1;
    }

    /// Counts a compile whose known result was not to be used.
    pub fn count_forced(&self) {
        self.lock().forced += 1;
    }

    /// Back to zero.
    pub fn zero(&self) {
        *self.lock() = Counters::default();
    }

    /// As JSON; a superset of what `sccache --show-stats --stats-format json` gives.
    pub fn json(&self, farm: &str, cache: &State, base_dirs: &[PathBuf]) -> Value {
        let (kept, size) = (&cache.counters, cache.size.as_ref());
        let location = match size {
            Some(size) => format!("Local disk: {:?}, {farm}", size.path.display().to_string()),
            None => farm.to_owned(),
        };
        let counters = self.lock().clone();
        let hits: u64 = counters.hits.values().sum();
        let remote: u64 = counters.remote.values().sum();
        let local: u64 = counters.local.values().sum();
        let executed = hits + remote + local;
        let by_language =
            |counts: &BTreeMap<&'static str, u64>| json!({"counts": counts, "adv_counts": {}});
        let none = json!({"counts": {}, "adv_counts": {}});
        json!({
            "stats": {
                "compile_requests": counters.compile_requests,
                "requests_unsupported_compiler": 0,
                "requests_not_compile": counters.not_compile,
                "requests_not_cacheable": counters.not_cached.values().sum::<u64>(),
                "requests_executed": executed,
                "cache_errors": none,
                "cache_hits": by_language(&counters.hits),
                "cache_misses": by_language(&counters.misses),
                "cache_timeouts": 0,
                "cache_read_errors": kept.read_errors,
                "non_cacheable_compilations": 0,
                "forced_recaches": counters.forced,
                "cache_write_errors": kept.write_errors,
                "cache_writes": kept.writes,
                "cache_write_duration": {"secs": 0, "nanos": 0},
                "cache_read_hit_duration": duration(counters.hit_ms),
                "compilations": remote + local,
                "compiler_write_duration": duration(counters.remote_ms),
                "compile_fails": 0,
                "not_cached": counters.not_cached,
                "dist_compiles": counters.remote,
                "dist_errors": counters.dist_errors,
                "local_reasons": counters.local,
                "uploaded_bytes": counters.uploaded_bytes,
                "uploaded_blobs": counters.uploaded_blobs,
                "sent_bytes": counters.sent_bytes,
                "corrupt_blobs": counters.corrupt_blobs,
                "inputs": counters.inputs,
                "exact_passes": counters.exact_passes,
                "local_cache_hits": counters.kept_hits,
                "local_cache_damaged": kept.damaged,
                "local_cache_evicted": kept.evicted,
                "remote_run_ms": counters.remote_ms,
                "wall_ms": counters.wall_ms,
            },
            "cache_location": location,
            "cache_size": size.map(|size| size.bytes),
            "max_cache_size": size.map(|size| size.bytes_max),
            "use_preprocessor_cache_mode": false,
            "version": env!("CARGO_PKG_VERSION"),
            "basedirs": base_dirs,
        })
    }
}

impl Counters {
    fn count_local(&mut self, reason: &LocalReason) {
        *self.local.entry(reason.code()).or_default() += 1;
        if reason.is_our_trouble() {
            self.dist_errors += 1;
        } else if *reason != LocalReason::Disabled {
            let why = reason.detail().unwrap_or_else(|| reason.code().to_owned());
            let short: String = why.chars().take(100).collect();
            *self.not_cached.entry(short).or_default() += 1;
        }
    }
}

fn duration(ms: f64) -> Value {
    let duration = std::time::Duration::from_secs_f64((ms / 1_000.0).max(0.0));
    json!({"secs": duration.as_secs(), "nanos": duration.subsec_nanos()})
}

/// The JSON form as a table for people.
pub fn text(json: &Value) -> String {
    let stats = &json["stats"];
    let mut lines = String::new();
    let mut row = |name: &str, value: &Value| {
        let _ = writeln!(lines, "{name:<34} {value:>12}");
    };
    row("Compile requests", &stats["compile_requests"]);
    row("Compile requests executed", &stats["requests_executed"]);
    row("Not a compile", &stats["requests_not_compile"]);
    row("Cache hits", &total(&stats["cache_hits"]["counts"]));
    row("  of them on this machine's disk", &stats["local_cache_hits"]);
    row("Cache misses", &total(&stats["cache_misses"]["counts"]));
    row("Successful distributed compiles", &total(&stats["dist_compiles"]));
    row("Failed distributed compiles", &stats["dist_errors"]);
    row("Bytes uploaded", &stats["uploaded_bytes"]);
    row("Bytes sent, compressed", &stats["sent_bytes"]);
    row("Outputs with wrong bytes", &stats["corrupt_blobs"]);
    row("Cache size in bytes", &json["cache_size"]);
    row("Max cache size in bytes", &json["max_cache_size"]);
    for (title, key) in [
        ("by worker", "dist_compiles"),
        ("local, by reason", "local_reasons"),
        ("inputs", "inputs"),
        ("compiler asked for inputs, by reason", "exact_passes"),
    ] {
        let Some(counts) = stats[key].as_object().filter(|counts| !counts.is_empty()) else {
            continue;
        };
        let _ = writeln!(lines, "\n{title}");
        for (name, count) in counts {
            let _ = writeln!(lines, "  {name:<32} {count:>12}");
        }
    }
    let _ = writeln!(lines, "\n`jetcc explain` says why a compile ran where it did");
    lines
}

fn total(counts: &Value) -> Value {
    let counts = counts.as_object().map(|counts| counts.values().filter_map(Value::as_u64).sum());
    counts.unwrap_or(0_u64).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::report::Laps;
    use crate::client::sent::Sent;

    fn report(finding: Finding) -> Report {
        Report {
            file: "a.c".into(),
            language: "C/C++",
            wall_ms: 1.0,
            finding,
            laps: Laps::begin(),
            sent: Sent::default(),
            local_ms: None,
            kept: None,
        }
    }

    #[test]
    fn reasons_are_counted_and_named() {
        let stats = Stats::default();
        stats.count(&report(Finding::Local(LocalReason::NoWorker)));
        stats.count(&report(Finding::Local(LocalReason::Flag("-march=native".into()))));
        stats.count(&report(Finding::NotACompile));
        let json = stats.json("nats:", &State::default(), &[]);
        assert_eq!(json["stats"]["dist_errors"], 1);
        assert_eq!(json["stats"]["not_cached"]["-march=native"], 1);
        assert_eq!(json["stats"]["local_reasons"]["no-worker"], 1);
        assert_eq!(json["stats"]["compile_requests"], 3);
        assert!(text(&json).contains("no-worker"));
        stats.zero();
        assert_eq!(stats.json("", &State::default(), &[])["stats"]["compile_requests"], 0);
    }
}
