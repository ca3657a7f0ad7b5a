//! What the kernel says of this machine: `/proc` and cgroup v2. The parsers are pure.

use std::fs;
use std::path::{Path, PathBuf};

/// Where cgroup v2 is mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// One reading; what cannot be read is absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// CPU seconds used since boot by all processes, on all cores.
    pub(super) cpu_seconds: Option<f64>,
    /// Percent of the last 10 s in which somebody waited for a CPU.
    pub(super) pressure: Option<f64>,
    /// Bytes available without swapping, within our cgroup's limit.
    pub(super) memory_bytes: Option<u64>,
}

impl Machine {
    pub(super) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).ok();
        let free = text("/proc/meminfo").and_then(|text| available_bytes(&text));
        let allowed = text("/proc/self/cgroup").and_then(|text| allowed_bytes(&text));
        Self {
            cpu_seconds: text("/proc/stat")
                .and_then(|text| busy_ticks(&text))
                .map(|ticks| ticks / ticks_per_second()),
            pressure: text("/proc/pressure/cpu").and_then(|text| pressure(&text)),
            memory_bytes: free.map(|free| allowed.map_or(free, |allowed| allowed.min(free))),
        }
    }

    /// Cores that are online.
    pub(super) fn cores() -> u32 {
        fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|text| u32::try_from(cores(&text)).ok())
            .unwrap_or(1)
            .max(1)
    }
}

#[expect(clippy::cast_precision_loss, reason = "usually 100")]
fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// `user nice system idle iowait irq softirq steal` of the first line, without the waiting ones.
fn busy_ticks(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<f64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let waiting = fields.get(3)? + fields.get(4)?;
    Some(fields.iter().take(8).sum::<f64>() - waiting)
}

fn cores(stat: &str) -> usize {
    let is_core = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    stat.lines().filter(is_core).count()
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

fn pressure(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

/// The smallest rest of any cgroup that we are in.
fn allowed_bytes(cgroup: &str) -> Option<u64> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = PathBuf::from(CGROUPS).join(own);
    own.ancestors().take_while(|folder| folder.starts_with(CGROUPS)).filter_map(rest_of).min()
}

/// Limit less use, where page cache does not count as used.
fn rest_of(folder: &Path) -> Option<u64> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let cache = text("memory.stat").and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("inactive_file "))?.trim().parse().ok()
    });
    let used = number("memory.current")?.saturating_sub(cache.unwrap_or(0));
    Some(number("memory.max")?.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "cpu  10 1 5 100 20 1 2 3 50 50\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n";
        assert_eq!(busy_ticks(stat), Some(22.0));
        assert_eq!(cores(stat), 2);
        assert_eq!(available_bytes("MemTotal: 9 kB\nMemAvailable:   2 kB\n"), Some(2_048));
        let text = "some avg10=12.50 avg60=1.00 avg300=0.00 total=1\nfull avg10=0.00 total=0\n";
        assert_eq!(pressure(text), Some(12.5));
        assert_eq!((busy_ticks(""), available_bytes(""), pressure("")), (None, None, None));
        assert_eq!(allowed_bytes("1:memory:/x\n"), None);
    }

    #[test]
    fn this_machine_has_cores_and_memory() {
        let machine = Machine::read();
        assert!(Machine::cores() >= 1);
        assert!(machine.cpu_seconds.unwrap() > 0.0 && machine.memory_bytes.unwrap() > 0);
    }
}
