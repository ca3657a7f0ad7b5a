//! The only place that starts a process: argv, working directory, environment, streams, process
//! group and deadline are set every time, and the whole group is ended when the deadline passes.
//! What else a stranger's program is held to is in [`confine`].

mod birth;
mod confine;
mod namespaces;
mod pty;
mod relay;
mod service;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use birth::Newborn;
pub use confine::{Confinement, Door, Listener};
pub use namespaces::{empty_network, few_mounts};
pub use pty::Terminals;
use pty::{Screen, Seat};
pub use relay::{Relayed, Written, relay};
pub use service::{Service, foreground};

/// How often a start is tried again when the program's file is still open for writing elsewhere.
const BUSY_RETRIES: u32 = 10;
const BUSY_DELAY: Duration = Duration::from_millis(10);
static STARTED: AtomicU64 = AtomicU64::new(0);

/// A program to run to its end with captured streams.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// `argv[0]`; the program's path when absent.
    pub argv0: Option<OsString>,
    /// The arguments after `argv[0]`.
    pub arguments: Vec<OsString>,
    /// The whole environment.
    pub environment: BTreeMap<OsString, OsString>,
    /// Working directory.
    pub directory: PathBuf,
    /// Most bytes kept of stdout and of stderr, each.
    pub stream_bytes_max: u64,
    /// How long it may run.
    pub deadline: Duration,
}

impl Spec {
    /// `program` without arguments or environment, in `/`, with no output wanted to speak of and
    /// 30 s to live: a start for naming what differs.
    pub fn of(program: &std::path::Path) -> Self {
        Self {
            program: program.into(),
            argv0: None,
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            directory: "/".into(),
            stream_bytes_max: 1 << 20,
            deadline: Duration::from_secs(30),
        }
    }
}

/// How a process ended and what it wrote.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit code or signal.
    pub status: Ended,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Exit code or signal of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited.
    Code(u8),
    /// A signal ended it.
    Signal(u8),
}

/// Why a process gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started.
    #[error("`{program}` could not be started: {source}")]
    Start {
        /// Path of the program.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Its streams could not be read.
    #[error("`{program}` could not be followed: {source}")]
    Follow {
        /// Path of the program.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// It ran past its deadline and was ended.
    #[error("`{program}` ran longer than {} s", deadline.as_secs_f32())]
    TimedOut {
        /// Path of the program.
        program: String,
        /// The limit.
        deadline: Duration,
    },
    /// It wrote more than allowed and was ended.
    #[error("`{program}` wrote more than {limit} bytes to a stream")]
    TooMuchOutput {
        /// Path of the program.
        program: String,
        /// The limit in bytes.
        limit: u64,
    },
}

/// Ends the whole process group when dropped, unless it has been told not to.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The group may be gone already; then there is nothing left to end.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs `spec` to its end in a process group of its own. Dropping the future ends the group.
///
/// # Errors
/// [`ExecError`] when it cannot be started or followed, or breaks a limit.
pub async fn run(spec: Spec) -> Result<Finished, ExecError> {
    follow(spec, None).await
}

/// Like [`run`], with limits, without core files, and as the first that the kernel ends when
/// memory runs out.
///
/// # Errors
/// Those of [`run`].
pub async fn run_confined(spec: Spec, confinement: Confinement) -> Result<Finished, ExecError> {
    follow(spec, Some(confinement)).await
}

async fn follow(spec: Spec, mut confinement: Option<Confinement>) -> Result<Finished, ExecError> {
    let program = spec.program.display().to_string();
    let listener = confinement.as_ref().and_then(|confinement| confinement.listener.clone());
    let terminals = confinement.as_mut().and_then(|confinement| confinement.terminals.take());
    let (seat, screen) = terminals.map(|both| (both.seat, both.screen)).unzip();
    let mut running = start(&spec, confinement, seat)
        .await
        .map_err(|source| ExecError::Start { program: program.clone(), source })?;
    let group = Group(running.id());
    let finish = running.finish(spec.stream_bytes_max, listener, screen);
    match tokio::time::timeout(spec.deadline, finish).await {
        Err(_) => Err(ExecError::TimedOut { program, deadline: spec.deadline }),
        Ok(Err(Unread::Io(source))) => Err(ExecError::Follow { program, source }),
        Ok(Err(Unread::TooMuch)) => {
            Err(ExecError::TooMuchOutput { program, limit: spec.stream_bytes_max })
        }
        Ok(Ok(finished)) => {
            drop(group);
            Ok(finished)
        }
    }
}

/// A program under way, however it was started; ended when dropped.
enum Running {
    Forked(tokio::process::Child),
    Born(Newborn),
}

impl Running {
    fn id(&self) -> Option<Pid> {
        match self {
            Self::Forked(child) => child.id().and_then(|id| Pid::from_raw(id.cast_signed())),
            Self::Born(newborn) => Some(newborn.pid),
        }
    }

    /// Reads both streams, at most `limit` bytes each, and waits for its end. Standard error is what
    /// the `screen` shows, if there is one.
    async fn finish(
        &mut self,
        limit: u64,
        listener: Option<Listener>,
        screen: Option<Screen>,
    ) -> Result<Finished, Unread> {
        match self {
            Self::Forked(child) => {
                let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
                let stderr = screen.map(boxed).or(stderr.map(boxed));
                let wait = async {
                    let status = child.wait().await?;
                    Ok(ended(status.code(), status.signal()))
                };
                gather(wait, stdout, stderr, limit, listener).await
            }
            Self::Born(newborn) => {
                let (stdout, stderr) = (newborn.stdout.take(), newborn.stderr.take());
                let stderr = screen.map(boxed).or(stderr.map(boxed));
                gather(newborn.wait(), stdout, stderr, limit, listener).await
            }
        }
    }
}

fn boxed(stream: impl AsyncRead + Send + Unpin + 'static) -> Box<dyn AsyncRead + Send + Unpin> {
    Box::new(stream)
}

async fn gather(
    wait: impl Future<Output = io::Result<Ended>>,
    stdout: Option<impl AsyncRead + Unpin>,
    stderr: Option<impl AsyncRead + Unpin>,
    limit: u64,
    listener: Option<Listener>,
) -> Result<Finished, Unread> {
    let wait = async { Ok(wait.await?) };
    let stdout = read_limited(stdout, limit, None);
    let stderr = read_limited(stderr, limit, listener);
    let (status, stdout, stderr) = tokio::try_join!(wait, stdout, stderr)?;
    Ok(Finished { status, stdout, stderr })
}

/// What the system says of an end: a code, or else a signal.
fn ended(code: Option<i32>, signal: Option<i32>) -> Ended {
    match (code, signal) {
        (Some(code), _) => Ended::Code(code.to_le_bytes()[0]),
        (None, signal) => Ended::Signal(signal.unwrap_or_default().to_le_bytes()[0]),
    }
}

/// Programs that this process started so far with [`run`] and [`run_confined`].
pub fn started() -> u64 {
    STARTED.load(Ordering::Relaxed)
}

async fn start(
    spec: &Spec,
    confinement: Option<Confinement>,
    seat: Option<Seat>,
) -> io::Result<Running> {
    STARTED.fetch_add(1, Ordering::Relaxed);
    let confinement = confinement.map(Arc::new);
    let mut tries = 0;
    loop {
        match start_once(spec, confinement.as_ref(), seat.as_ref()) {
            // Another thread may have forked while the program's file was open for writing.
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_RETRIES =>
            {
                tries += 1;
                tokio::time::sleep(BUSY_DELAY).await;
            }
            started => return started,
        }
    }
}

fn start_once(
    spec: &Spec,
    confinement: Option<&Arc<Confinement>>,
    seat: Option<&Seat>,
) -> io::Result<Running> {
    if let Some(confinement) = confinement
        && let Some(newborn) = birth::start(spec, confinement, seat)?
    {
        return Ok(Running::Born(newborn));
    }
    fork(spec, confinement, seat)
}

#[expect(clippy::disallowed_methods, reason = "this is the one spawning module")]
fn fork(
    spec: &Spec,
    confinement: Option<&Arc<Confinement>>,
    seat: Option<&Seat>,
) -> io::Result<Running> {
    let copy = |end: &OwnedFd| end.try_clone().map(Stdio::from);
    let stdin = seat.and_then(|seat| seat.input.as_ref()).map_or(Ok(Stdio::null()), copy)?;
    let stderr = seat.map_or(Ok(Stdio::piped()), |seat| copy(&seat.errors))?;
    let mut command = std::process::Command::new(&spec.program);
    if let Some(argv0) = &spec.argv0 {
        command.arg0(argv0);
    }
    command
        .args(&spec.arguments)
        .env_clear()
        .envs(&spec.environment)
        .current_dir(&spec.directory)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .process_group(0);
    if let Some(confinement) = confinement {
        confine::confine(&mut command, confinement.clone());
    }
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    Ok(Running::Forked(command.spawn()?))
}

/// Why a stream was not read to its end.
enum Unread {
    Io(io::Error),
    TooMuch,
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// All bytes of `stream`, at most `limit`; `listener` hears them as they come.
async fn read_limited(
    stream: Option<impl AsyncRead + Unpin>,
    limit: u64,
    listener: Option<Listener>,
) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Ok(bytes) };
    let mut stream = stream.take(limit.saturating_add(1));
    if let Some(listener) = listener {
        let mut heard = 0;
        while stream.read_buf(&mut bytes).await? > 0 {
            // Whoever listened may have heard enough.
            let _ = listener.send(bytes[heard..].to_vec());
            heard = bytes.len();
        }
    } else {
        stream.read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > limit { Err(Unread::TooMuch) } else { Ok(bytes) }
}

/// Turns this process into `program`; returns only if that failed.
#[expect(clippy::disallowed_methods, reason = "this is the one spawning module")]
pub fn replace(program: &std::path::Path, argv0: &OsString, arguments: &[OsString]) -> io::Error {
    std::process::Command::new(program).arg0(argv0).args(arguments).exec()
}

/// Starts `program` for good: own session, no inherited descriptors, and nobody waits for it.
/// Its standard output is the returned pipe, on which it says once that it is ready.
///
/// # Errors
/// When it cannot be started.
pub fn detach(
    program: &std::path::Path,
    arguments: &[OsString],
) -> io::Result<std::process::ChildStdout> {
    let mut child = start_detached(program, arguments, Stdio::piped())?;
    child.stdout.take().ok_or_else(|| io::Error::other("no pipe to the started program"))
}

/// Starts `program` for good, like [`detach`], and hears nothing of it.
///
/// # Errors
/// When it cannot be started.
pub fn launch(program: &std::path::Path, arguments: &[OsString]) -> io::Result<()> {
    start_detached(program, arguments, Stdio::null()).map(drop)
}

#[expect(clippy::disallowed_methods, reason = "this is the one spawning module")]
#[expect(unsafe_code, reason = "setsid and fcntl have to run between fork and exec")]
fn start_detached(
    program: &std::path::Path,
    arguments: &[OsString],
    stdout: Stdio,
) -> io::Result<std::process::Child> {
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::null());
    // SAFETY: both calls are async-signal-safe and touch no memory of the parent.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            close_inherited();
            Ok(())
        });
    }
    command.spawn()
}

/// Marks every descriptor above stderr to close at exec: whoever started us may wait for one.
#[expect(unsafe_code, reason = "no safe wrapper takes a descriptor that might not be open")]
fn close_inherited() {
    for descriptor in 3..1_024 {
        // SAFETY: the number is only borrowed; a number that is not open gives EBADF.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
        let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Spec {
        Spec {
            program: "/bin/sh".into(),
            argv0: None,
            arguments: vec!["-c".into(), script.into()],
            environment: BTreeMap::new(),
            directory: "/".into(),
            stream_bytes_max: 1_000,
            deadline: Duration::from_secs(20),
        }
    }

    #[tokio::test]
    async fn codes_signals_and_streams_come_back() {
        let done = run(shell("echo out; echo err >&2; exit 7")).await.unwrap();
        assert_eq!(
            (done.status, &done.stdout[..], &done.stderr[..]),
            (Ended::Code(7), &b"out\n"[..], &b"err\n"[..])
        );
        let killed = run(shell("kill -SEGV $$")).await.unwrap();
        assert_eq!(killed.status, Ended::Signal(11));
    }

    #[tokio::test]
    async fn confinement_reaches_the_program() {
        // As a worker is when it starts one; for an ordinary user that changes whose `/proc` is.
        crate::lifecycle::keep_memory_private().unwrap();
        let (reading, writing) = io::pipe().unwrap();
        drop(writing);
        let number = std::os::fd::AsRawFd::as_raw_fd(&reading);
        let confinement = Confinement {
            umask: 0o027,
            data_bytes_max: Some(1 << 30),
            inherited: vec![reading.into()],
            ..Confinement::loose()
        };
        let script = format!(
            "umask; ulimit -c; ulimit -f; ulimit -d; cat /proc/self/oom_score_adj; \
             test -p /proc/self/fd/{number} && echo open"
        );
        let done = run_confined(shell(&script), confinement).await.unwrap();
        let printed = String::from_utf8_lossy(&done.stdout);
        assert_eq!(printed, "0027\n0\n2048\n1048576\n1000\nopen\n");
    }

    #[tokio::test]
    async fn a_confined_program_that_cannot_start_says_why() {
        for (program, kind) in [
            ("/nonexistent", io::ErrorKind::NotFound),
            ("/dev/null", io::ErrorKind::PermissionDenied),
        ] {
            let spec = Spec { program: program.into(), ..shell("") };
            let ended = run_confined(spec, Confinement::loose()).await;
            assert!(matches!(ended, Err(ExecError::Start { source, .. }) if source.kind() == kind));
        }
        let killed = run_confined(shell("kill -SEGV $$"), Confinement::loose()).await.unwrap();
        assert_eq!(killed.status, Ended::Signal(11));
    }

    #[tokio::test]
    async fn limits_hold() {
        let endless = Spec { deadline: Duration::from_millis(50), ..shell("sleep 60") };
        assert!(matches!(run(endless).await, Err(ExecError::TimedOut { .. })));
        let loud = shell("cat /dev/zero");
        assert!(matches!(run(loud).await, Err(ExecError::TooMuchOutput { .. })));
        let absent = Spec { program: "/nonexistent".into(), ..shell("") };
        assert!(matches!(run(absent).await, Err(ExecError::Start { .. })));
    }
}
