//! Finds out, by running bubblewrap, which barriers this machine lets us build.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::exec::{self, Ended};
use crate::job::wire::Trouble;

use super::cells::{Cells, Controller};
use super::filter::Filter;
use super::{
    Argv0, Calls, Limits, Memory, Mode, Proc, Processes, Sandbox, Users, WorkerError, arguments,
    spec,
};

const PROBE_TIME: Duration = Duration::from_secs(20);
const PROBE_BYTES: u64 = 1 << 20;
/// Processes of a trial: bubblewrap's own first one, and the command.
const TRIAL_PROCESSES: u64 = 2;
/// Best first.
const LADDER: [(Users, Proc); 6] = [
    (Users::OwnAndLast, Proc::Fresh),
    (Users::Own, Proc::Fresh),
    (Users::Shared, Proc::Fresh),
    (Users::OwnAndLast, Proc::Empty),
    (Users::Own, Proc::Empty),
    (Users::Shared, Proc::Empty),
];

/// The best sandbox that works, or why not even the poorest does.
pub(super) async fn best(bwrap: &Path, limits: Limits) -> Result<Sandbox, WorkerError> {
    let (plain, cause) = plain(bwrap, limits).await?;
    let filtered = filtered(&plain).await.unwrap_or(plain);
    let sandbox = limited(filtered).await;
    for lacks in sandbox.mode.lacks() {
        let cause = cause.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(lacks, cause, "the sandbox has fewer barriers than it could have");
    }
    Ok(sandbox)
}

/// The best namespaces that work, and why not better ones.
async fn plain(
    bwrap: &Path,
    limits: Limits,
) -> Result<(Sandbox, Option<WorkerError>), WorkerError> {
    let help = help(bwrap).await?;
    let argv0 = if help.contains("--argv0") { Argv0::Free } else { Argv0::Searched };
    let mut first = None;
    for (users, proc) in LADDER {
        let sandbox = Sandbox {
            bwrap: bwrap.to_owned(),
            mode: Mode {
                users,
                proc,
                argv0,
                calls: Calls::Free,
                memory: Memory::Process,
                processes: Processes::Free,
            },
            limits,
            filter: None,
            cells: None,
        };
        match attempt(&sandbox).await {
            Ok(()) => return Ok((sandbox, first)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| WorkerError::sandbox(bwrap, "no way to run it".to_owned())))
}

/// `plain` with the filter, where that works.
async fn filtered(plain: &Sandbox) -> Option<Sandbox> {
    let mut sandbox = plain.clone();
    sandbox.filter = Some(Arc::new(Filter::make().ok()?));
    sandbox.mode.calls = Calls::Filtered;
    attempt(&sandbox).await.is_ok().then_some(sandbox)
}

/// `sandbox` with the best limits that work.
async fn limited(sandbox: Sandbox) -> Sandbox {
    let mut held = sandbox.clone();
    held.cells = Cells::open(sandbox.limits);
    if let Some(cells) = &held.cells {
        if cells.hold(Controller::Memory) {
            held.mode.memory = Memory::Job;
        }
        if cells.hold(Controller::Processes) {
            held.mode.processes = Processes::Cgroup;
        }
        if attempt(&held).await.is_err() {
            held = sandbox;
        }
    }
    if held.mode.processes == Processes::Free && counts_by_itself(&held).await {
        held.mode.processes = Processes::UserNamespace;
    }
    held
}

/// Whether the kernel counts the processes of a user namespace for itself (older ones count all of
/// the user's), and holds us to it (it lets root go).
async fn counts_by_itself(sandbox: &Sandbox) -> bool {
    let mut trial = sandbox.clone();
    trial.mode.processes = Processes::UserNamespace;
    trial.limits.processes = TRIAL_PROCESSES;
    let enough = attempt(&trial).await.is_ok();
    trial.limits.processes = TRIAL_PROCESSES - 1;
    enough && attempt(&trial).await.is_err()
}

/// bubblewrap running itself, with the machine's files to read.
async fn attempt(sandbox: &Sandbox) -> Result<(), WorkerError> {
    let (bwrap, mode) = (&sandbox.bwrap, sandbox.mode);
    let mut arguments = arguments::barriers(mode);
    arguments.extend(["--ro-bind", "/", "/"].map(OsString::from));
    arguments.extend(arguments::proc(mode));
    arguments.extend(["--".into(), bwrap.into(), "--version".into()]);
    let done = sandbox.confined(arguments).await;
    let (_, done) = done.map_err(|error| WorkerError::sandbox(bwrap, words(error)))?;
    if done.status == Ended::Code(0) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(WorkerError::sandbox(bwrap, text))
}

fn words(trouble: Trouble) -> String {
    match trouble {
        Trouble::Sandbox(text) => text,
        other => other.to_string(),
    }
}

/// What bubblewrap knows.
async fn help(bwrap: &Path) -> Result<String, WorkerError> {
    let spec = spec(bwrap, vec!["--help".into()], PROBE_BYTES, PROBE_TIME);
    let done = exec::run(spec).await;
    let done = done.map_err(|error| WorkerError::sandbox(bwrap, error.to_string()))?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
