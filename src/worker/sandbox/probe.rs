//! Finds out, by running bubblewrap, which barriers this machine lets us build.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::exec::{self, Ended};
use crate::job::wire::Trouble;

use super::cells::{Cells, Controller};
use super::filter::Filter;
use super::{
    Argv0, Calls, Limits, Memory, Mode, Network, Proc, Processes, Sandbox, Settings, Users,
    WorkerError, arguments, spec,
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
pub(super) async fn best(settings: &Settings) -> Result<Sandbox, WorkerError> {
    let (plain, cause) = plain(settings).await?;
    let sandbox = match filtered(&plain).await {
        Some(filtered) => joined(&filtered).await.unwrap_or(filtered),
        None => plain,
    };
    let sandbox = limited(sandbox).await;
    let sandbox = lean(&sandbox, settings).await.unwrap_or(sandbox);
    for lacks in sandbox.mode.lacks() {
        let cause = cause.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(lacks, cause, "the sandbox has fewer barriers than it could have");
    }
    Ok(sandbox)
}

/// The best namespaces that work, and why not better ones.
async fn plain(settings: &Settings) -> Result<(Sandbox, Option<WorkerError>), WorkerError> {
    let (bwrap, limits) = (&settings.bwrap_path, Limits::of(settings));
    let argv0 = argv0(bwrap).await?;
    let mut first = None;
    for (users, proc) in LADDER {
        let sandbox = bare(bwrap, limits, (users, proc, argv0));
        match attempt(&sandbox).await {
            Ok(()) => return Ok((sandbox, first)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| WorkerError::sandbox(bwrap, "no way to run it".to_owned())))
}

/// Namespaces alone.
fn bare(bwrap: &Path, limits: Limits, (users, proc, argv0): (Users, Proc, Argv0)) -> Sandbox {
    let (calls, network) = (Calls::Free, Network::Own);
    let (memory, processes) = (Memory::Process, Processes::Free);
    let mode = Mode { users, proc, argv0, calls, network, memory, processes };
    let (bwrap, namespaces) = (bwrap.to_owned(), Vec::new());
    Sandbox { bwrap, mode, limits, filter: None, cells: None, namespaces }
}

/// `plain` with the filter, where that works.
async fn filtered(plain: &Sandbox) -> Option<Sandbox> {
    let mut sandbox = plain.clone();
    sandbox.filter = Some(Arc::new(Filter::make().ok()?));
    sandbox.mode.calls = Calls::Filtered;
    attempt(&sandbox).await.is_ok().then_some(sandbox)
}

/// `filtered` with a network that all sandboxes share, where we may make one: it costs a sandbox a
/// millisecond to make its own and to remove it.
async fn joined(filtered: &Sandbox) -> Option<Sandbox> {
    let mut sandbox = filtered.clone();
    sandbox.namespaces.push(Arc::new(exec::empty_network().ok()?));
    sandbox.mode.network = Network::Shared;
    attempt(&sandbox).await.is_ok().then_some(sandbox)
}

/// `sandbox` started where only the mounts are that it needs, if we may make such a place:
/// bubblewrap copies all that there are, and reads their table for each that it adds.
async fn lean(sandbox: &Sandbox, settings: &Settings) -> Option<Sandbox> {
    let folder = settings.build_dir();
    std::fs::create_dir_all(&folder).ok()?;
    let mut lean = sandbox.clone();
    let used = [&sandbox.bwrap, &folder].into_iter().chain(&settings.scratch_dir);
    let used: Vec<&Path> = used.map(PathBuf::as_path).collect();
    lean.namespaces.push(Arc::new(exec::few_mounts(&used).ok()?));
    attempt(&lean).await.is_ok().then_some(lean)
}

/// `sandbox` with the best limits that work.
async fn limited(sandbox: Sandbox) -> Sandbox {
    let held = match celled(&sandbox).await {
        Some(held) => held,
        None => sandbox,
    };
    by_rlimits(held).await
}

/// `sandbox` with cgroups, where they work.
async fn celled(sandbox: &Sandbox) -> Option<Sandbox> {
    let cells = Cells::open(sandbox.limits)?;
    let mut held = sandbox.clone();
    if cells.hold(Controller::Memory) {
        held.mode.memory = Memory::Job;
    }
    if cells.hold(Controller::Processes) {
        held.mode.processes = Processes::Cgroup;
    }
    held.cells = Some(cells);
    attempt(&held).await.is_ok().then_some(held)
}

/// `sandbox` with the number of processes limited in its user namespace, where that works and
/// nothing better does.
async fn by_rlimits(mut sandbox: Sandbox) -> Sandbox {
    if sandbox.mode.processes == Processes::Free && counts_by_itself(&sandbox).await {
        sandbox.mode.processes = Processes::UserNamespace;
    }
    sandbox
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
    let done = sandbox.confined(arguments, None, None).await;
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
async fn argv0(bwrap: &Path) -> Result<Argv0, WorkerError> {
    let spec = spec(bwrap, vec!["--help".into()], PROBE_BYTES, PROBE_TIME);
    let done = exec::run(spec).await;
    let done = done.map_err(|error| WorkerError::sandbox(bwrap, error.to_string()))?;
    let known = String::from_utf8_lossy(&done.stdout).contains("--argv0");
    Ok(if known { Argv0::Free } else { Argv0::Searched })
}

/// Every kind of sandbox that this machine can build, best first: the barriers are tested in each.
#[cfg(test)]
pub(super) async fn every(settings: &Settings) -> Result<Vec<Sandbox>, WorkerError> {
    let (bwrap, limits) = (&settings.bwrap_path, Limits::of(settings));
    let argv0 = argv0(bwrap).await?;
    let mut found = Vec::new();
    // Each step of the ladder with a fresh `/proc`, and the first one with an empty one.
    for (users, proc) in LADDER.into_iter().take(4) {
        let plain = bare(bwrap, limits, (users, proc, argv0));
        if attempt(&plain).await.is_ok() {
            found.extend(filtered(&plain).await);
        }
    }
    let Some(best) = found.first().cloned() else { return Ok(found) };
    let joined = joined(&best).await;
    let lean = lean(joined.as_ref().unwrap_or(&best), settings).await;
    let held = celled(lean.as_ref().or(joined.as_ref()).unwrap_or(&best)).await;
    let plain = Sandbox { filter: None, mode: Mode { calls: Calls::Free, ..best.mode }, ..best };
    found.push(limited(plain).await);
    found.extend(joined);
    for sandbox in found.iter_mut().filter(|sandbox| sandbox.mode.calls == Calls::Filtered) {
        *sandbox = by_rlimits(sandbox.clone()).await;
    }
    found.extend(held);
    found.rotate_right(1);
    Ok(found)
}
