//! bubblewrap: where a stranger's command runs.
//!
//! Called by [`super::prepare`] alone. Each barrier, and what holds it; the tests are in
//! `worker/tests/barriers.rs`, run as root and as an ordinary user:
//!
//! | a compile cannot | because |
//! |---|---|
//! | see this machine's files, `$HOME`, other jobs | its root is the job's folder, nothing else is mounted |
//! | change a file of the caches | hard links are mounted read-only; what can be written is a copy |
//! | reach the network | own network namespace, loopback down |
//! | see or signal other processes, outlive its end | own pid namespace, dies with its parent |
//! | gain rights | own user namespace, no capabilities, `no_new_privs`, no further user namespaces |
//! | change the kernel's settings | `/proc` is read-only |
//! | see our environment | it is cleared |
//! | run for ever | deadline |
//! | fill the disk | limit for each file, and for all files together looked at once a second |
//! | flood us with text | limit for each stream |
//! | smuggle a link as output | outputs are opened without following links, regular files only |
//! | get us killed for its memory | the kernel's out-of-memory killer takes it first |
//!
//! Not held: the number of processes (`RLIMIT_NPROC` counts per user, not per sandbox) and memory;
//! the deadline ends what goes wild. Run workers in a cgroup with `TasksMax` and `MemoryMax`.
//!
//! Reading order: this file, [`arguments`], [`probe`].

pub(super) mod arguments;
mod probe;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::exec::{self, Confinement, Ended, ExecError, Finished};
use crate::job::Exit;
use crate::job::wire::Trouble;

use super::WorkerError;
use super::layout::Start;
use super::settings::Settings;

/// Devices that a compiler sees.
pub(super) const DEVICES: [&str; 2] = ["null", "urandom"];
/// bubblewrap reports a death by signal `n` as exit code 128 + `n`, like a shell.
const SIGNAL_BASE: u8 = 128;
/// Signals of Linux that are not real-time ones.
const SIGNAL_MAX: u8 = 31;
/// What the kernel sends for a file that is too large.
const SIGXFSZ: u8 = 25;

/// A way to run bubblewrap that works on this machine.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    bwrap: PathBuf,
    pub(super) mode: Mode,
    limits: Limits,
}

/// Which barriers this machine lets us build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) users: Users,
    pub(super) proc: Proc,
    pub(super) argv0: Argv0,
}

/// User namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Users {
    /// An own one, and none below it.
    OwnAndLast,
    /// An own one.
    Own,
    /// None: possible for root alone.
    Shared,
}

/// `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proc {
    /// Shows the sandbox's processes.
    Fresh,
    /// Empty folder: containers that hide parts of theirs forbid a fresh one.
    Empty,
}

/// Whether bubblewrap can be told path and `argv[0]` apart (since 0.9.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argv0 {
    /// `--argv0` is known.
    Free,
    /// The name is what is searched.
    Searched,
}

/// How much a command may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) time: Duration,
    pub(super) stream_bytes: u64,
    pub(super) output_bytes: u64,
}

impl Limits {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            time: settings.job_time_max(),
            stream_bytes: settings.stream_bytes_max,
            output_bytes: settings.output_bytes_max,
        }
    }
}

impl Sandbox {
    /// Finds out, by running it, with which barriers bubblewrap works here.
    pub(super) async fn open(settings: &Settings) -> Result<Self, WorkerError> {
        let mode = probe::best_mode(&settings.bwrap_path).await?;
        Ok(Self { bwrap: settings.bwrap_path.clone(), mode, limits: Limits::of(settings) })
    }

    /// Runs bubblewrap with `arguments` of [`arguments::of`] to the command's end. Dropping the
    /// future ends every process of the sandbox.
    ///
    /// Has to be polled on a thread that outlives the command: bubblewrap dies with it.
    pub(super) async fn run(&self, arguments: Vec<OsString>) -> Result<Finished, Trouble> {
        let Limits { time, stream_bytes, output_bytes } = self.limits;
        let spec = spec(&self.bwrap, arguments, stream_bytes, time);
        let confinement = Confinement { umask: 0, file_bytes_max: output_bytes };
        let done = exec::run_confined(spec, confinement).await.map_err(|error| match error {
            ExecError::TimedOut { .. } => Trouble::TimedOut(time.as_secs()),
            ExecError::TooMuchOutput { limit, .. } => Trouble::TooMuchOutput(limit),
            // The command's fault, not this machine's.
            ExecError::Start { ref source, .. }
                if source.kind() == io::ErrorKind::ArgumentListTooLong =>
            {
                Trouble::Refused(error.to_string())
            }
            ExecError::Start { .. } | ExecError::Follow { .. } => {
                Trouble::Sandbox(error.to_string())
            }
        })?;
        if exit_of(done.status) == Exit::Signal(SIGXFSZ) {
            return Err(Trouble::TooMuchOutput(output_bytes));
        }
        match failed_setup(&done) {
            Some(text) => Err(Trouble::Sandbox(text)),
            None => Ok(done),
        }
    }

    /// Whether a command can be started this way here.
    pub(super) fn can_start(&self, start: Start) -> bool {
        start == Start::ByName || self.mode.argv0 == Argv0::Free
    }

    /// Most bytes that one command may write.
    pub(super) fn output_bytes_max(&self) -> u64 {
        self.limits.output_bytes
    }
}

fn spec(
    bwrap: &std::path::Path,
    arguments: Vec<OsString>,
    stream_bytes_max: u64,
    deadline: Duration,
) -> exec::Spec {
    exec::Spec {
        program: bwrap.to_owned(),
        argv0: None,
        arguments,
        environment: BTreeMap::new(),
        directory: "/".into(),
        stream_bytes_max,
        deadline,
    }
}

/// How the compiler ended.
///
/// A compiler that exits with 128 + `n` by itself cannot be told from one that signal `n` ended;
/// gcc's driver never does, clang's does when its own front end crashed. A shell could not tell
/// either, and the client runs whatever failed again.
pub(super) fn exit_of(status: Ended) -> Exit {
    match status {
        Ended::Signal(signal) => Exit::Signal(signal),
        Ended::Code(code) => match code.checked_sub(SIGNAL_BASE) {
            Some(signal @ 1..=SIGNAL_MAX) => Exit::Signal(signal),
            _ => Exit::Code(code),
        },
    }
}

/// What bubblewrap says when it could not start the command.
fn failed_setup(done: &Finished) -> Option<String> {
    let text = String::from_utf8_lossy(&done.stderr);
    let ours = done.status == Ended::Code(1) && done.stdout.is_empty();
    (ours && text.starts_with("bwrap: ") && text.lines().count() == 1)
        .then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_above_128_are_signals() {
        for (status, exit) in [
            (Ended::Code(0), Exit::Code(0)),
            (Ended::Code(4), Exit::Code(4)),
            (Ended::Code(128), Exit::Code(128)),
            (Ended::Code(139), Exit::Signal(11)),
            (Ended::Code(254), Exit::Code(254)),
            (Ended::Signal(9), Exit::Signal(9)),
        ] {
            assert_eq!(exit_of(status), exit);
        }
    }
}
