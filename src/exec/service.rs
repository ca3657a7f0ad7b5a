//! Programs that stay: in the background until they are stopped, and in the foreground.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// A program that serves until it is stopped; ended when dropped, and when this process ends.
#[derive(Debug)]
pub struct Service {
    child: tokio::process::Child,
}

impl Service {
    /// Starts `program` with these variables over ours; both streams go to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    #[expect(clippy::disallowed_methods, reason = "this is the one spawning module")]
    #[expect(unsafe_code, reason = "the death signal has to be set between fork and exec")]
    pub fn start(
        program: &std::path::Path,
        arguments: &[OsString],
        environment: &BTreeMap<OsString, OsString>,
        log: std::fs::File,
    ) -> io::Result<Self> {
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        // SAFETY: the call is async-signal-safe and touches no memory of the parent.
        unsafe {
            command.pre_exec(|| {
                let death = Some(rustix::process::Signal::KILL);
                rustix::process::set_parent_process_death_signal(death)?;
                Ok(())
            });
        }
        let mut command = tokio::process::Command::from(command);
        Ok(Self { child: command.kill_on_drop(true).spawn()? })
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to end and waits for that; ends it by force after `deadline`.
    ///
    /// # Errors
    /// When the system cannot say how it ended.
    pub async fn stop(mut self, deadline: Duration) -> io::Result<()> {
        if let Some(id) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // It may have ended already.
            let _ = rustix::process::kill_process(id, Signal::TERM);
        }
        match tokio::time::timeout(deadline, self.child.wait()).await {
            Ok(ended) => ended.map(drop),
            Err(_) => self.child.kill().await,
        }
    }
}

/// Runs `program` in the foreground, with our streams and these variables over ours. It is told
/// when we are told to end, and we wait for it all the same; an interrupt reaches it by itself.
///
/// # Errors
/// When it cannot be started.
#[expect(clippy::disallowed_methods, reason = "this is the one spawning module")]
pub async fn foreground(
    program: &OsString,
    arguments: &[OsString],
    environment: &BTreeMap<OsString, OsString>,
) -> io::Result<std::process::ExitStatus> {
    let mut command = std::process::Command::new(program);
    command.args(arguments).envs(environment);
    let [mut term, mut hang_up, mut interrupt] = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
        signal(SignalKind::interrupt())?,
    ];
    let mut child = tokio::process::Command::from(command).spawn()?;
    loop {
        let told = tokio::select! {
            ended = child.wait() => return ended,
            _ = term.recv() => Signal::TERM,
            _ = hang_up.recv() => Signal::HUP,
            _ = interrupt.recv() => continue,
        };
        if let Some(id) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // It may have ended just now.
            let _ = kill_process(id, told);
        }
    }
}
