//! How many compiles this machine can take now.
//!
//! A slot is a CPU token and a memory token. Free CPU means the machine's cores minus what others
//! use; our own compiles count as one core each while they run, so that nobody has to look for
//! their processes. Pressure (`/proc/pressure/cpu`) slows growth down but never stops it.

mod machine;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use self::machine::Machine;
use super::settings::{Load, Settings};

/// Share of the last 10 s in which somebody waited for a CPU, in percent, above which this worker
/// grows by one compile at a time.
const PRESSURE_MAX: f64 = 60.0;
/// The machine is looked at no more often than this, since a look costs as much as a small job's
/// layout; also the shortest time over which CPU use is averaged.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// One look at the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Most compiles at once.
    pub slots: u32,
    /// Compiles under way now.
    pub running: u32,
    /// Compiles under way on average since the look before.
    pub running_average: f64,
    /// CPU cores of the machine.
    pub cores: f64,
    /// Cores in use on average since the look before, by anybody.
    pub busy_cores: f64,
    /// Percent of the last 10 s in which somebody waited for a CPU; `None` where the kernel does
    /// not say.
    pub pressure: Option<f64>,
    /// Bytes that further compiles may use; `None` where that is not known.
    pub memory_bytes: Option<u64>,
    /// Bytes that each further compile needs.
    pub memory_per_job_bytes: u64,
}

/// Further compiles that the machine can take. One may always run.
pub fn free_slots(sample: &Sample) -> u32 {
    let others = (sample.busy_cores - sample.running_average).max(0.0);
    let cores = whole((sample.cores - others).round());
    let mut free = cores.min(sample.slots).saturating_sub(sample.running);
    if sample.pressure.is_some_and(|percent| percent > PRESSURE_MAX) {
        free = free.min(1);
    }
    if let Some(bytes) = sample.memory_bytes {
        let jobs = bytes / sample.memory_per_job_bytes.max(1);
        free = free.min(u32::try_from(jobs).unwrap_or(u32::MAX));
    }
    if sample.running == 0 { free.max(1).min(sample.slots) } else { free }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(value: f64) -> u32 {
    value as u32
}

/// The slots of this worker; cheap to clone.
#[derive(Clone, Debug)]
pub struct Capacity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    slots: u32,
    load: Load,
    memory_per_job_bytes: u64,
    memory_reserve_bytes: u64,
    usage: Mutex<Usage>,
    look: Mutex<Look>,
    freed: Notify,
}

/// Compiles under way, and the integral of their number over time.
#[derive(Clone, Copy, Debug)]
struct Usage {
    running: u32,
    since: Instant,
    job_seconds: f64,
}

impl Usage {
    fn advance(&mut self, now: Instant) {
        self.job_seconds +=
            f64::from(self.running) * now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
    }
}

/// The last look at the machine.
#[derive(Debug)]
struct Look {
    at: Instant,
    machine: Machine,
    cores: u32,
    running: u32,
    job_seconds: f64,
    running_average: f64,
    busy_cores: f64,
}

impl Look {
    /// The first look: nobody uses anything.
    fn first(now: Instant) -> Self {
        Self {
            at: now,
            machine: Machine::read(),
            cores: Machine::cores(),
            running: 0,
            job_seconds: 0.0,
            running_average: 0.0,
            busy_cores: 0.0,
        }
    }

    /// Looks again if the last look is old; averages over the time between.
    fn renew(&mut self, usage: Usage) {
        let seconds = usage.since.saturating_duration_since(self.at).as_secs_f64();
        if seconds < LOOK_EVERY.as_secs_f64() {
            return;
        }
        let machine = Machine::read();
        if let (Some(before), Some(now)) = (self.machine.cpu_seconds, machine.cpu_seconds) {
            self.running_average = (usage.job_seconds - self.job_seconds) / seconds;
            self.busy_cores = (now - before) / seconds;
        }
        self.at = usage.since;
        self.machine = machine;
        self.cores = Machine::cores();
        self.running = usage.running;
        self.job_seconds = usage.job_seconds;
    }

    /// Bytes for further compiles: less what those will use that began since.
    fn memory_bytes(&self, usage: Usage, per_job_bytes: u64, reserve_bytes: u64) -> Option<u64> {
        let young = u64::from(usage.running.saturating_sub(self.running));
        let spoken_for = young.saturating_mul(per_job_bytes).saturating_add(reserve_bytes);
        self.machine.memory_bytes.map(|bytes| bytes.saturating_sub(spoken_for))
    }
}

/// The right to run one compile; dropping it frees the slot.
#[derive(Debug)]
pub struct SlotPermit(Capacity);

impl Drop for SlotPermit {
    fn drop(&mut self) {
        let mut usage = self.0.usage();
        usage.advance(Instant::now());
        usage.running -= 1;
        drop(usage);
        self.0.0.freed.notify_one();
    }
}

impl Capacity {
    /// Reads what the machine has. Without a setting there is a slot for each CPU that affinity and
    /// cgroup let this process use.
    pub fn new(settings: &Settings) -> Self {
        let usable = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = settings.slots.unwrap_or_else(|| u32::try_from(usable).unwrap_or(1)).max(1);
        let now = Instant::now();
        Self(Arc::new(Inner {
            slots,
            load: settings.load,
            memory_per_job_bytes: settings.memory_per_job_bytes,
            memory_reserve_bytes: settings.memory_reserve_bytes,
            usage: Mutex::new(Usage { running: 0, since: now, job_seconds: 0.0 }),
            look: Mutex::new(Look::first(now)),
            freed: Notify::new(),
        }))
    }

    /// Compiles at once on an otherwise idle machine.
    pub fn slots(&self) -> u32 {
        self.0.slots
    }

    /// CPU cores of the machine.
    pub fn cores(&self) -> u32 {
        Machine::cores()
    }

    /// Compiles under way.
    pub fn running(&self) -> u32 {
        self.usage().running
    }

    /// Compiles that can be taken now.
    pub fn free(&self) -> u32 {
        let mut usage = self.usage();
        usage.advance(Instant::now());
        let usage = *usage;
        free_slots(&self.sample(usage))
    }

    /// A slot, if one is free; whoever holds it counts as running.
    pub fn take(&self) -> Option<SlotPermit> {
        if self.free() == 0 {
            return None;
        }
        let mut usage = self.usage();
        if usage.running >= self.0.slots {
            return None;
        }
        usage.advance(Instant::now());
        usage.running += 1;
        Some(SlotPermit(self.clone()))
    }

    /// Returns when a slot was given back since the last call, or is given back.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.0.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sample(&self, usage: Usage) -> Sample {
        let inner = &*self.0;
        let mut look = inner.look.lock().unwrap_or_else(PoisonError::into_inner);
        look.renew(usage);
        let (per_job, reserve) = (inner.memory_per_job_bytes, inner.memory_reserve_bytes);
        let alone = Sample {
            slots: inner.slots,
            running: usage.running,
            running_average: 0.0,
            cores: f64::from(inner.slots),
            busy_cores: 0.0,
            pressure: None,
            memory_bytes: look.memory_bytes(usage, per_job, reserve),
            memory_per_job_bytes: per_job,
        };
        match inner.load {
            Load::Ignore => alone,
            Load::Follow => Sample {
                running_average: look.running_average,
                cores: f64::from(look.cores),
                busy_cores: look.busy_cores,
                pressure: look.machine.pressure,
                ..alone
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Sample = Sample {
        slots: 8,
        running: 0,
        running_average: 0.0,
        cores: 8.0,
        busy_cores: 0.0,
        pressure: Some(0.0),
        memory_bytes: Some(100 << 30),
        memory_per_job_bytes: 1 << 30,
    };

    #[test]
    fn slots_follow_what_others_leave() {
        let busy = Sample { busy_cores: 8.0, pressure: Some(90.0), ..IDLE };
        for (sample, wanted) in [
            (IDLE, 8),
            (Sample { slots: 4, ..IDLE }, 4),
            (Sample { busy_cores: 3.0, ..IDLE }, 5),
            (Sample { busy_cores: 7.0, running: 4, running_average: 4.0, ..IDLE }, 1),
            (Sample { busy_cores: 4.0, running: 4, running_average: 4.0, ..IDLE }, 4),
            // They wait for files or were just started: nobody else uses the cores.
            (Sample { busy_cores: 1.0, running: 4, running_average: 4.0, ..IDLE }, 4),
            (Sample { pressure: Some(61.0), ..IDLE }, 1),
            (Sample { pressure: None, memory_bytes: None, ..IDLE }, 8),
            (Sample { memory_bytes: Some(5 << 29), ..IDLE }, 2),
            (Sample { running: 8, running_average: 8.0, busy_cores: 8.0, ..IDLE }, 0),
            (busy, 1),
            (Sample { running: 1, ..busy }, 0),
            (Sample { memory_bytes: Some(0), ..IDLE }, 1),
        ] {
            assert_eq!(free_slots(&sample), wanted, "{sample:?}");
        }
    }

    #[tokio::test]
    async fn a_slot_comes_back_when_its_permit_is_dropped() {
        let settings = Settings {
            slots: Some(2),
            load: Load::Ignore,
            memory_per_job_bytes: 0,
            ..Settings::default()
        };
        let capacity = Capacity::new(&settings);
        let first = capacity.take().unwrap();
        let _second = capacity.take().unwrap();
        assert!(capacity.take().is_none());
        assert_eq!((capacity.running(), capacity.free(), capacity.slots()), (2, 0, 2));
        drop(first);
        capacity.freed().await;
        assert_eq!((capacity.running(), capacity.free()), (1, 1));
    }

    #[test]
    fn time_is_integrated_over_running_compiles() {
        let start = Instant::now();
        let mut usage = Usage { running: 2, since: start, job_seconds: 0.0 };
        usage.advance(start + Duration::from_secs(3));
        usage.running = 1;
        usage.advance(start + Duration::from_secs(4));
        assert!((usage.job_seconds - 7.0).abs() < 1e-9);
    }
}
