//! Limits the number of a sandbox's processes where there is no cgroup for it.
//!
//! `RLIMIT_NPROC` counts in the user namespace of the process, so it is set when bubblewrap has made
//! one and before the command starts: bubblewrap tells who its child is and lets it wait for us.

use std::ffi::OsString;
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

/// Most bytes that bubblewrap has to say of its child.
const TOLD_BYTES_MAX: u64 = 4_096;

/// Our ends of the two pipes.
#[derive(Debug)]
pub(super) struct Gate {
    told: Receiver,
    wait: PipeWriter,
}

/// Tells bubblewrap of its ends.
pub(super) fn arguments([tell, wait]: &[OwnedFd; 2]) -> [OsString; 4] {
    let number = |end: &OwnedFd| end.as_raw_fd().to_string().into();
    ["--info-fd".into(), number(tell), "--block-fd".into(), number(wait)]
}

impl Gate {
    /// Both pipes: our ends, and those for [`arguments`].
    ///
    /// # Errors
    /// The system's answer.
    pub(super) fn make() -> io::Result<(Self, [OwnedFd; 2])> {
        let (told, tell) = io::pipe()?;
        let (waiting, wait) = io::pipe()?;
        let told = Receiver::from_owned_fd(told.into())?;
        Ok((Self { told, wait }, [tell.into(), waiting.into()]))
    }

    /// Limits the child to `processes` in its user namespace and lets it go on.
    ///
    /// # Errors
    /// The system's answer: then it still waits, until this is dropped. A bubblewrap that ended
    /// before it had a child is no error.
    pub(super) async fn hold(&mut self, processes: u64) -> io::Result<()> {
        let mut text = String::new();
        (&mut self.told).take(TOLD_BYTES_MAX).read_to_string(&mut text).await?;
        let Some(child) = child(&text) else { return Ok(()) };
        let limit = Rlimit { current: Some(processes), maximum: Some(processes) };
        match prlimit(Some(child), Resource::Nproc, limit) {
            Ok(_) => self.wait.write_all(b"!"),
            Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The number of `"child-pid": NUMBER`.
fn child(text: &str) -> Option<Pid> {
    let (_, rest) = text.split_once("\"child-pid\": ")?;
    let digits = rest.split(|one: char| !one.is_ascii_digit()).next()?;
    Pid::from_raw(digits.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_is_read() {
        let told = "{\n    \"child-pid\": 4711,\n    \"ipc-namespace\": 4026532268\n}\n";
        assert_eq!(child(told), Pid::from_raw(4711));
        assert_eq!(child(""), None);
        assert_eq!(child("{\n    \"child-pid\": \n"), None);
    }
}
