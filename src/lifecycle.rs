//! Shutting down in three moves: tell everyone, wait until their tasks have ended, then force. And
//! what a role does before anything else.

use std::future::Future;
use std::time::Duration;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// From this size on, in bytes, a block of memory is large: taking it anew each time costs less than
/// what is done with so many bytes.
#[cfg(target_env = "gnu")]
const LARGE_BLOCK_BYTES: libc::c_int = 1 << 20;

/// Keeps this process's memory, with the secrets in it, out of core files and from other processes
/// of the same user: no debugger, no `/proc/PID/mem`, no `/proc/PID/environ`. Programs that it
/// starts are dumpable again; they inherit the limit of 0 bytes.
///
/// # Errors
/// When the system refuses.
pub fn keep_memory_private() -> std::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Has large blocks of memory given back to the system as soon as they are free. Unless it is told
/// otherwise, glibc keeps blocks of any size up to 32 MiB once it has seen one freed, and threads that
/// take turns with large files leave holes: a daemon that packed a compiler of Rust stayed at 195 MB,
/// and stays at 40 MB so.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "no safe wrapper speaks to the allocator")]
    // SAFETY: takes two numbers; glibc locks what it changes.
    unsafe {
        // Where it is refused, memory is as it would have been.
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
    }
}

/// Waits for `running`; `aside` goes on meanwhile, and is dropped with it.
pub async fn beside<T>(running: impl Future<Output = T>, aside: impl Future<Output = ()>) -> T {
    tokio::pin!(running, aside);
    tokio::select! {
        done = &mut running => done,
        () = &mut aside => running.await,
    }
}

/// One process's shutdown: a token that everybody watches and a tracker of every task.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Whether every task ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All did.
    Clean,
    /// Some were still running at the deadline.
    Forced,
}

impl Lifecycle {
    /// Stops on SIGTERM and SIGINT.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn with_signals() -> std::io::Result<Self> {
        let lifecycle = Self::default();
        let (mut term, mut int) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = lifecycle.stop.clone();
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tracing::info!("stopping");
            stop.cancel();
        });
        Ok(lifecycle)
    }

    /// Begins to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends when stopping begins.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether stopping has begun.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Starts a task that [`Lifecycle::drain`] waits for.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
    }

    /// Starts a task that is dropped where it stands as soon as stopping begins.
    pub fn spawn_until_stop<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! { () = stop.cancelled() => {}, () = task => {} }
        });
    }

    /// Waits until every task has ended, at most `deadline`.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.stop.cancel();
        self.tasks.close();
        match tokio::time::timeout(deadline, self.tasks.wait()).await {
            Ok(()) => Drained::Clean,
            Err(_) => Drained::Forced,
        }
    }
}
