//! bubblewrap: where a stranger's command runs.
//!
//! Called by [`super::prepare`] alone. Each barrier, and what holds it; the tests are in
//! `worker/tests/barriers.rs`, run as root and as an ordinary user:
//!
//! | a compile cannot | because |
//! |---|---|
//! | see this machine's files, `$HOME`, other jobs | its root is the job's folder, nothing else is mounted |
//! | change a file of the caches | hard links are mounted read-only; what can be written is a copy |
//! | reach the network, meet other jobs there | network namespace without a device that is up; an own one where sockets can be made |
//! | see, signal or trace other processes, outlive its end | own pid namespace, dies with its parent |
//! | gain rights | own user namespace, no capabilities, `no_new_privs`, no further user namespaces |
//! | reach the kernel's seldom used parts | only the system calls of [`filter`] |
//! | change the kernel's settings | `/proc` is read-only |
//! | see our environment | it is cleared |
//! | run for ever | deadline |
//! | use the memory up, start processes without end | a cgroup of [`cells`], else limits of each process |
//! | fill the disk | limit for each file, and for all files together looked at once a second, deleted ones ([`held`]) too |
//! | flood us with text | limit for each stream |
//! | smuggle a link as output | outputs are opened without following links, regular files only |
//! | type into a terminal, or have one as its own | its terminals are new ones that nobody sees; no call types, none can be opened anew |
//! | get us killed for its memory | the kernel's out-of-memory killer takes it first |
//!
//! What this machine lacks of these is said at the start ([`Mode::lacks`]).
//!
//! Reading order: this file, [`arguments`], [`filter`], [`cells`], [`gate`], [`held`], [`probe`].

pub(super) mod arguments;
mod cells;
mod filter;
mod gate;
pub(super) mod held;
mod probe;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::exec::{self, Confinement, Ended, ExecError, Finished, Listener, Terminals};
use crate::job::wire::Trouble;
use crate::job::{Exit, Terminal};

use super::WorkerError;
use super::layout::Start;
use super::settings::Settings;
use cells::{Cells, Lease};
use filter::Filter;
use gate::Gate;

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
    /// `Some` when calls are filtered.
    filter: Option<Arc<Filter>>,
    /// `Some` when cgroups hold anything.
    cells: Option<Arc<Cells>>,
    /// Namespaces that sandboxes start in.
    namespaces: Vec<Arc<OwnedFd>>,
}

/// Which barriers this machine lets us build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) users: Users,
    pub(super) proc: Proc,
    pub(super) argv0: Argv0,
    pub(super) calls: Calls,
    pub(super) network: Network,
    pub(super) memory: Memory,
    pub(super) processes: Processes,
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

/// System calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calls {
    /// Those of [`filter`].
    Filtered,
    /// Any: the kernel has no seccomp, or bubblewrap may not use it.
    Free,
}

/// A network in which nothing can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// One for all sandboxes: none of them can make a socket to meet another one there.
    Shared,
    /// One for each sandbox.
    Own,
}

/// What the limit of memory counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// The whole job: a cgroup.
    Job,
    /// The private memory of each process.
    Process,
}

/// What holds the number of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processes {
    /// A cgroup.
    Cgroup,
    /// `RLIMIT_NPROC`, which counts in the job's own user namespace (Linux 5.14).
    UserNamespace,
    /// Nothing: the deadline alone.
    Free,
}

impl Mode {
    /// What this machine lacks of all barriers, for people.
    pub(super) fn lacks(self) -> Vec<&'static str> {
        let users = match self.users {
            Users::OwnAndLast => None,
            Users::Own => Some("compiles may make user namespaces"),
            Users::Shared => {
                Some("compiles run as root without capabilities, not in a user namespace")
            }
        };
        let proc = (self.proc == Proc::Empty)
            .then_some("`/proc` is empty for compiles: some compilers need a real one");
        let calls = (self.calls == Calls::Free).then_some("compiles may make any system call");
        let memory = (self.memory == Memory::Process)
            .then_some("memory is limited for each process, not for a compile as a whole");
        let processes = (self.processes == Processes::Free)
            .then_some("a compile may start any number of processes until its time is over");
        [users, proc, calls, memory, processes].into_iter().flatten().collect()
    }
}

/// How much a command may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) time: Duration,
    pub(super) memory_bytes: u64,
    pub(super) processes: u64,
    pub(super) stream_bytes: u64,
    pub(super) output_bytes: u64,
}

impl Limits {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            time: settings.job_time_max(),
            memory_bytes: settings.job_memory_bytes_max,
            processes: settings.job_processes_max,
            stream_bytes: settings.stream_bytes_max,
            output_bytes: settings.output_bytes_max,
        }
    }
}

impl Sandbox {
    /// Finds out, by running it, with which barriers bubblewrap works here.
    pub(super) async fn open(settings: &Settings) -> Result<Self, WorkerError> {
        probe::best(settings).await
    }

    /// Every kind that works here: for tests.
    #[cfg(test)]
    pub(super) async fn every(settings: &Settings) -> Result<Vec<Self>, WorkerError> {
        probe::every(settings).await
    }

    /// Runs bubblewrap with `arguments` of [`arguments::of`] to the command's end. Dropping the
    /// future ends every process of the sandbox.
    ///
    /// Has to be polled on a thread that outlives the command: bubblewrap dies with it.
    pub(super) async fn run(
        &self,
        arguments: Vec<OsString>,
        terminal: Option<Terminal>,
        listener: Option<Listener>,
    ) -> Result<Finished, Trouble> {
        let (mut lease, done) = self.confined(arguments, terminal, listener).await?;
        if exit_of(done.status) == Exit::Signal(SIGXFSZ) {
            return Err(Trouble::TooMuchOutput(self.limits.output_bytes));
        }
        if done.status != Ended::Code(0)
            && lease.as_mut().is_some_and(|lease| lease.ran_out_of_memory())
        {
            return Err(Trouble::TooMuchMemory(self.limits.memory_bytes));
        }
        match failed_setup(&done) {
            Some(text) => Err(Trouble::Sandbox(text)),
            None => Ok(done),
        }
    }

    /// Runs bubblewrap with all limits.
    async fn confined(
        &self,
        arguments: Vec<OsString>,
        terminal: Option<Terminal>,
        listener: Option<Listener>,
    ) -> Result<(Option<Lease>, Finished), Trouble> {
        let limits = &self.limits;
        let terminals = terminal.map(terminals).transpose()?;
        let broken = |error: io::Error| Trouble::Sandbox(error.to_string());
        let (mut first, mut inherited) = (Vec::<OsString>::new(), Vec::new());
        if let Some(filter) = &self.filter {
            let program = filter.open().map_err(broken)?;
            first.extend(["--seccomp".into(), program.as_raw_fd().to_string().into()]);
            inherited.push(program);
        }
        // Outlives the run: while it is there, a child that could not be limited waits.
        let mut gate = match self.mode.processes {
            Processes::UserNamespace => {
                let (gate, ends) = Gate::make().map_err(broken)?;
                first.extend(gate::arguments(&ends));
                inherited.extend(ends);
                Some(gate)
            }
            Processes::Cgroup | Processes::Free => None,
        };
        let lease = self.cells.as_ref().map(Cells::take).transpose().map_err(broken)?;
        let confinement = Confinement {
            umask: 0,
            file_bytes_max: limits.output_bytes,
            data_bytes_max: (self.mode.memory == Memory::Process).then_some(limits.memory_bytes),
            doors: lease.as_ref().map(Lease::doors).unwrap_or_default(),
            namespaces: self.namespaces.clone(),
            inherited,
            listener,
            terminals,
        };
        first.extend(arguments);
        let spec = spec(&self.bwrap, first, limits.stream_bytes, limits.time);
        let run = async {
            let done = exec::run_confined(spec, confinement).await;
            done.map_err(|error| self.trouble(error))
        };
        let hold = async {
            match &mut gate {
                Some(gate) => gate.hold(limits.processes).await.map_err(broken),
                None => Ok(()),
            }
        };
        let (done, ()) = tokio::try_join!(run, hold)?;
        Ok((lease, done))
    }

    fn trouble(&self, error: ExecError) -> Trouble {
        match error {
            ExecError::TimedOut { .. } => Trouble::TimedOut(self.limits.time.as_secs()),
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

/// Pseudo-terminals like `terminal`. A machine without any is not in trouble: it does everything else.
fn terminals(terminal: Terminal) -> Result<Terminals, Trouble> {
    Terminals::open(terminal.columns, terminal.input)
        .map_err(|error| Trouble::Refused(format!("no pseudo-terminal can be made: {error}")))
}

fn spec(
    bwrap: &Path,
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
