//! Finds out, by running bubblewrap, which barriers this machine lets us build.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::exec::{self, Ended};

use super::{Argv0, Mode, Proc, Users, WorkerError, arguments, spec};

const PROBE_TIME: Duration = Duration::from_secs(20);
const PROBE_BYTES: u64 = 1 << 20;
/// Best first.
const LADDER: [(Users, Proc); 6] = [
    (Users::OwnAndLast, Proc::Fresh),
    (Users::Own, Proc::Fresh),
    (Users::Shared, Proc::Fresh),
    (Users::OwnAndLast, Proc::Empty),
    (Users::Own, Proc::Empty),
    (Users::Shared, Proc::Empty),
];

/// The best mode that works, or why not even the last one does.
pub(super) async fn best_mode(bwrap: &Path) -> Result<Mode, WorkerError> {
    let help = attempt(bwrap, vec!["--help".into()]).await?;
    let argv0 = if help.contains("--argv0") { Argv0::Free } else { Argv0::Searched };
    let mut first = None;
    for (users, proc) in LADDER {
        let mode = Mode { users, proc, argv0 };
        match attempt(bwrap, trial(bwrap, mode)).await {
            Ok(_) => {
                tell(mode, first.as_ref());
                return Ok(mode);
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| WorkerError::sandbox(bwrap, "no way to run it".to_owned())))
}

/// bubblewrap running itself, with the machine's files to read.
fn trial(bwrap: &Path, mode: Mode) -> Vec<OsString> {
    let mut arguments = arguments::barriers(mode);
    arguments.extend(["--ro-bind", "/", "/"].map(OsString::from));
    arguments.extend(arguments::proc(mode));
    arguments.extend(["--".into(), bwrap.into(), "--version".into()]);
    arguments
}

async fn attempt(bwrap: &Path, arguments: Vec<OsString>) -> Result<String, WorkerError> {
    let done = exec::run(spec(bwrap, arguments, PROBE_BYTES, PROBE_TIME))
        .await
        .map_err(|error| WorkerError::sandbox(bwrap, error.to_string()))?;
    if done.status == Ended::Code(0) {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        let text = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        Err(WorkerError::sandbox(bwrap, text))
    }
}

/// Says what is lacking, once, at the start.
fn tell(mode: Mode, cause: Option<&WorkerError>) {
    let lacks = match mode.users {
        Users::OwnAndLast => None,
        Users::Own => Some("compiles may make user namespaces"),
        Users::Shared => Some("compiles run as root without capabilities, not in a user namespace"),
    };
    let cause = cause.map(ToString::to_string).unwrap_or_default();
    if let Some(lacks) = lacks {
        tracing::warn!(lacks, cause, "the sandbox has fewer barriers than it could have");
    }
    if mode.proc == Proc::Empty {
        tracing::warn!(cause, "the sandbox has an empty /proc: some compilers need a real one");
    }
}
