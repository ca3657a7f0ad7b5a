//! What is remembered of a compile: where it ran, why, and how long each step took.

use std::fmt;
use std::time::Instant;

use super::cache::THIS_MACHINE;
use super::sent::Sent;
use crate::job::{LocalReason, StepTimes};

/// Where a compile ran, and why.
#[derive(Clone, Debug)]
pub enum Finding {
    /// It is no compile: linking, preprocessing, asking for the version.
    NotACompile,
    /// Here.
    Local(LocalReason),
    /// The result was on this machine's disk.
    Kept {
        /// Who ran it once.
        worker: String,
    },
    /// The result was known to the farm.
    Cached {
        /// Who ran it once.
        worker: String,
        /// The job that asked.
        job: String,
    },
    /// On a worker.
    Remote {
        /// Which one.
        worker: String,
        /// The job's name.
        job: String,
        /// How long the worker's steps took.
        times: StepTimes,
    },
}

/// What is remembered of a compile.
#[derive(Clone, Debug)]
pub struct Report {
    /// The source as the command names it.
    pub file: String,
    /// Language bucket of the statistics.
    pub language: &'static str,
    /// From request to answer, in ms; a local compile's own time is not in it.
    pub wall_ms: f64,
    /// Where it ran, and why.
    pub finding: Finding,
    /// How long our own steps took.
    pub laps: Laps,
    /// What it sent, and what goes up because of it.
    pub sent: Sent,
    /// Time until the local compiler had ended, in ms.
    pub local_ms: Option<f64>,
    /// Of a local compile whose result was to be kept on this disk: whether it was, or why not.
    pub kept: Option<Result<(), String>>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        match &self.finding {
            Finding::NotACompile => write!(f, "not a compile"),
            Finding::Local(reason) => {
                write!(f, "local, {reason}")?;
                match &self.kept {
                    None => Ok(()),
                    Some(Ok(())) => write!(f, "; its result is kept"),
                    Some(Err(why)) => write!(f, "; its result is not kept: {why}"),
                }
            }
            Finding::Kept { worker } => {
                let wall = self.wall_ms;
                let whose = if worker == THIS_MACHINE { "" } else { "worker " };
                write!(f, "kept result of {whose}{worker} in {wall:.1} ms: {}", self.laps)
            }
            Finding::Cached { worker, job } => {
                let (wall, sent) = (self.wall_ms, self.sent.bytes());
                write!(f, "known result of worker {worker} in {wall:.1} ms: {} ", self.laps)?;
                write!(f, "(job {job}, {sent} bytes sent)")
            }
            Finding::Remote { worker, job, times } => {
                let StepTimes { queue_ms, fetch_ms, layout_ms, run_ms, store_ms } = times;
                write!(f, "worker {worker} in {:.1} ms: {}; ", self.wall_ms, self.laps)?;
                write!(f, "queue {queue_ms:.1}, fetch {fetch_ms:.1}, layout {layout_ms:.1}, ")?;
                let sent = self.sent.bytes();
                write!(f, "run {run_ms:.1}, store {store_ms:.1} (job {job}, {sent} bytes sent)")
            }
        }
    }
}

/// How long the client's steps took, in ms, and a watch that tells them.
#[derive(Clone, Debug)]
pub struct Laps {
    last: Instant,
    steps: Vec<(&'static str, f64)>,
}

impl Laps {
    /// Starts the watch.
    pub fn begin() -> Self {
        Self { last: Instant::now(), steps: Vec::new() }
    }

    /// The step `name` ends now, and the next one begins.
    pub fn end(&mut self, name: &'static str) {
        let now = Instant::now();
        self.steps.push((name, (now - self.last).as_secs_f64() * 1e3));
        self.last = now;
    }
}

impl fmt::Display for Laps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, ms)) in self.steps.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {ms:.1}")?;
        }
        Ok(())
    }
}
