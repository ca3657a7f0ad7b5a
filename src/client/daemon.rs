//! The resident half of the client: one link to the farm and warm tables for many wrappers.
//!
//! Detached from whoever started it; leaves when it was idle long enough.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;

use super::cache::{Kept, Keys, Results};
use super::compile;
use super::crates::Crates;
use super::early::Voice;
use super::fill::After;
use super::history::History;
use super::ipc::{self, Reply, Request, Told};
use super::keeper;
use super::link::{Link, Reach};
use super::login::Bearer;
use super::memory::Memory;
use super::ready_toolchain::{Packers, ReadyToolchain};
use super::report::Finding;
use super::scan::Scanner;
use super::sent::Sent;
use super::settings::Settings;
use super::slots::Slots;
use super::socket;
use super::stats::Stats;
use super::upload::Tables;
use super::view::View;
use super::wrapper::READY;
use crate::compiler::{FACTS_VERSION, FileFacts, scan_facts};
use crate::exec;
use crate::job::wire::BlobClass;
use crate::job::{ClientId, Digest, LocalReason};
use crate::lifecycle::Lifecycle;
use crate::store::{FolderLock, StampsFile, stamps::FileIndex};
use crate::toolchain::Packed;
use crate::toolchain::resolve::{Resolved, Resolver};

/// Files whose digests are remembered.
const INDEX_MAX: usize = 200_000;
/// Wrappers served at once; more wait to be accepted.
const WRAPPERS_MAX: usize = 1_024;
/// How long compiles under way may take when the daemon is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Everything that compiles share.
pub struct Daemon {
    /// Settings as read at start.
    pub settings: Settings,
    /// The way to the farm.
    pub link: Link,
    /// What the store holds.
    pub uploads: Tables,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Digests and facts of files.
    pub index: FileIndex<FileFacts>,
    /// Inputs of commands that were seen before.
    pub memory: Memory,
    /// Results of earlier compiles, on this machine's disk.
    pub results: Arc<Results>,
    /// Keeps the index.
    pub stamps: StampsFile<FileFacts>,
    /// Which program a name means.
    pub resolver: Resolver,
    /// What this process sees.
    pub view: View,
    /// Dependency passes at once.
    pub passes: Semaphore,
    /// Follows includes.
    pub scanner: Arc<Scanner>,
    /// What is known of crates.
    pub crates: Crates,
    packers: Packers,
    ready: Mutex<std::collections::HashMap<Digest, Arc<ReadyToolchain>>>,
    history: History,
    slots: Slots,
    active: AtomicUsize,
    last_used: Mutex<Instant>,
}

/// Where a daemon lives.
#[derive(Clone, Debug)]
pub struct Home {
    /// Its socket.
    pub socket: PathBuf,
    /// Where it keeps its files.
    pub cache_dir: PathBuf,
    /// This program.
    pub own_executable: PathBuf,
}

impl Daemon {
    /// A daemon with empty tables.
    ///
    /// # Errors
    /// When the cache folder cannot be made or there is no random source.
    pub fn new(settings: Settings, home: &Home) -> io::Result<Self> {
        if let Err(error) = std::fs::create_dir_all(&home.cache_dir) {
            // Compiles need no files of ours.
            tracing::warn!(folder = %home.cache_dir.display(), %error, "nothing is kept");
        }
        let cache_size = settings.cache_size.map_or(Settings::CACHE_SIZE, |size| size.0);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let index = FileIndex::new(INDEX_MAX, scan_facts);
        let bearer = Bearer::new(settings.dist.auth.as_ref(), settings.login_dir.as_deref());
        Ok(Self {
            link: Link::new(settings.dist.clone(), random_id()?, bearer),
            uploads: Tables::default(),
            stats: Arc::default(),
            packers: Packers::new(&index),
            ready: Mutex::default(),
            index: index.clone(),
            memory: Memory::new(home.cache_dir.join("inputs"), index.clone()),
            stamps: StampsFile::new(home.cache_dir.join("stamps"), FACTS_VERSION, index),
            results: Arc::new(Results::open(&home.cache_dir, cache_size)),
            resolver: Resolver::new(home.own_executable.clone()),
            view: View::own(),
            passes: Semaphore::new(cores + 1),
            scanner: Arc::new(Scanner::new(home.cache_dir.join("searches"))),
            crates: Crates::open(home.cache_dir.join("crates")),
            history: History::open(home.cache_dir.join("history")),
            slots: Slots::new(settings.local_slots.unwrap_or(cores)),
            active: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
            settings,
        })
    }

    /// The toolchain of `compiler`; no farm is asked.
    ///
    /// # Errors
    /// [`LocalReason::Toolchain`].
    pub async fn toolchain(&self, compiler: &Resolved) -> Result<Arc<ReadyToolchain>, LocalReason> {
        let packed = self.packers.get(compiler).await;
        let packed = packed.map_err(|error| LocalReason::Toolchain(error.to_string()))?;
        Ok(self.ready_toolchain(&packed))
    }

    /// Sees to it that the store holds `toolchain`. The first time waits for the upload, but not for
    /// long: the upload goes on while compiles are local.
    ///
    /// # Errors
    /// [`LocalReason::Toolchain`] or [`LocalReason::Store`].
    pub async fn upload(
        &self,
        toolchain: &Arc<ReadyToolchain>,
        reach: &Reach,
    ) -> Result<(), LocalReason> {
        let uploads = self.uploads.of(reach.blobs.space());
        if uploads.knows((BlobClass::Toolchain, toolchain.digest)) {
            return Ok(());
        }
        let (reach, sent) = (reach.clone(), Sent::new(self.stats.clone()));
        let sources = toolchain.clone();
        let upload = tokio::spawn(async move { sources.upload(&reach, &uploads, &sent).await });
        let limit = self.settings.dist.toolchain_wait_seconds_max;
        let limit = Duration::from_secs(limit.unwrap_or(Settings::TOOLCHAIN_WAIT_SECONDS_MAX));
        match tokio::time::timeout(limit, upload).await {
            Ok(Ok(uploaded)) => uploaded,
            Ok(Err(_)) => Err(LocalReason::Stopping),
            Err(_) => Err(LocalReason::Toolchain("it is still being uploaded".into())),
        }
    }

    fn ready_toolchain(&self, packed: &Packed) -> Arc<ReadyToolchain> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ready.entry(packed.tree_digest);
        known.or_insert_with(|| Arc::new(ReadyToolchain::of(packed))).clone()
    }

    /// Keeps a result on this machine; room for more is made beside.
    pub fn keep(&self, keys: &Keys, result: &Kept) {
        keys.keep(&self.results, result);
        if self.results.is_untidy() {
            let results = self.results.clone();
            tokio::task::spawn_blocking(move || results.tidy());
        }
    }

    /// The farm's trouble gives the link a rest; the job's own trouble does not.
    pub fn note_trouble(&self, reason: LocalReason) -> LocalReason {
        match reason {
            LocalReason::NoServer(_)
            | LocalReason::NoScheduler
            | LocalReason::NoWorker
            | LocalReason::WorkerLost
            | LocalReason::Store(_)
            | LocalReason::QueueTooLong(_) => self.link.pause(reason),
            other => other,
        }
    }

    fn idle(&self) -> Option<Duration> {
        let last = *self.last_used.lock().unwrap_or_else(PoisonError::into_inner);
        (self.active.load(Ordering::Acquire) == 0).then(|| last.elapsed())
    }
}

/// Counts a wrapper as active until it is dropped.
struct Active<'a>(&'a Daemon);

impl<'a> Active<'a> {
    fn of(daemon: &'a Daemon) -> Self {
        daemon.active.fetch_add(1, Ordering::AcqRel);
        Self(daemon)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        *self.0.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The daemon's life, from taking the socket until it is idle or told to stop.
///
/// # Errors
/// When the socket cannot be taken; the text is for whoever starts the daemon.
pub async fn serve(daemon: Arc<Daemon>, home: &Home, lifecycle: &Lifecycle) -> io::Result<()> {
    let Some((listener, _lock)) = take_socket(&home.socket)? else {
        // Another daemon came first and is ready: so are we.
        return say_ready();
    };
    say_ready()?;
    tracing::info!(socket = %home.socket.display(), "daemon is ready");
    let permits = Arc::new(Semaphore::new(WRAPPERS_MAX));
    let keeper = tokio::spawn(keeper::now_and_then(daemon.clone()));
    loop {
        let event = tokio::select! {
            () = lifecycle.stopping() => break,
            () = idle_for(&daemon) => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match event {
            Ok((stream, permit)) => {
                let (daemon, stop) = (daemon.clone(), lifecycle.clone());
                lifecycle.spawn(async move {
                    answer(&daemon, stream, &stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a wrapper could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Whoever comes now starts another daemon.
    let _ = std::fs::remove_file(&home.socket);
    drop(listener);
    lifecycle.drain(DRAIN).await;
    keeper.abort();
    keeper::at_the_end(daemon).await;
    Ok(())
}

async fn accept(
    listener: &UnixListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// Ends when nobody has used the daemon for its idle time.
async fn idle_for(daemon: &Daemon) {
    let seconds = daemon.settings.idle_timeout_seconds.unwrap_or(Settings::IDLE_TIMEOUT_SECONDS);
    if seconds == 0 {
        return std::future::pending().await;
    }
    let limit = Duration::from_secs(seconds);
    loop {
        let idle = daemon.idle().unwrap_or_default();
        if idle >= limit {
            tracing::info!(seconds, "idle, leaving");
            return;
        }
        tokio::time::sleep((limit - idle).max(Duration::from_millis(100))).await;
    }
}

/// The listener and the lock that makes this daemon the only one; `None` when there is another.
fn take_socket(path: &Path) -> io::Result<Option<(UnixListener, FolderLock)>> {
    socket::prepare_folder(path)?;
    let Some(lock) = take_lock(path)? else { return wait_for_other(path) };
    // Left over by a daemon that was killed.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    socket::make_private(path)?;
    Ok(Some((listener, lock)))
}

/// The lock beside the socket at `path`; `None` when another daemon has it.
fn take_lock(path: &Path) -> io::Result<Option<FolderLock>> {
    FolderLock::take(File::create(path.with_extension("lock"))?)
}

/// Another daemon is starting or running: done when its socket answers, or it gave up.
fn wait_for_other(path: &Path) -> io::Result<Option<(UnixListener, FolderLock)>> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if socket::connect(path).is_ok() {
            return Ok(None);
        }
        if take_lock(path).is_ok_and(|lock| lock.is_some()) {
            return take_socket(path);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(io::Error::other(format!(
        "another daemon holds `{}` and does not answer\nhint: end it, or set JETCC_SERVER_UDS",
        path.display()
    )))
}

/// Tells whoever started us, then gives the pipe back.
fn say_ready() -> io::Result<()> {
    let mut stdout = io::stdout();
    // Nobody may be listening any more.
    let _ = stdout.write_all(READY).and_then(|()| stdout.flush());
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    Ok(())
}

async fn answer(daemon: &Daemon, mut stream: UnixStream, lifecycle: &Lifecycle) {
    if let Err(error) = socket::check_peer(&stream) {
        return tracing::warn!(%error, "a process of another user was turned away");
    }
    let request = match ipc::receive::<Request>(&mut stream).await {
        Ok(request) => request,
        // A probe of the socket sends nothing.
        Err(error) => return tracing::debug!(%error, "unreadable request"),
    };
    let reply = match request {
        Request::Compile(request) => return compile_for(daemon, *request, stream).await,
        Request::Stats => Reply::Text(daemon.stats_json()),
        Request::ZeroStats => {
            daemon.stats.zero();
            daemon.results.zero();
            Reply::Text(String::new())
        }
        Request::DistStatus => Reply::Text(daemon.dist_status().await),
        Request::Explain(text) => Reply::Text(daemon.history.explain(&text)),
        Request::Stop => {
            lifecycle.stop();
            Reply::Text(daemon.stats_json())
        }
    };
    if let Err(error) = ipc::send(&mut stream, &reply).await {
        tracing::debug!(%error, "answer was not read");
    }
}

/// Compiles for a wrapper; a wrapper that goes away takes its job with it.
async fn compile_for(daemon: &Daemon, request: ipc::CompileRequest, mut stream: UnixStream) {
    let _active = Active::of(daemon);
    let (voice, mut heard) = Voice::new();
    let done = Box::pin(async {
        let (reply, report, after) = compile::compile(daemon, request, &voice).await;
        let slot = match (&reply, &report.finding) {
            (Reply::RunLocally | Reply::RunAndTell, Finding::Local(_)) => {
                Some(daemon.slots.acquire().await)
            }
            _ => None,
        };
        (reply, report, after, slot)
    });
    let Some((reply, mut report, after, slot)) =
        while_wrapper_waits(&mut stream, &mut heard, done).await
    else {
        return tracing::debug!("wrapper went away");
    };
    daemon.stats.count(&report);
    let (filling, study) = match after {
        After::Nothing => (None, None),
        After::Fill(filling) => (Some(filling.begin()), None),
        After::Study(study) => (None, Some(study)),
    };
    let begun = Instant::now();
    let sent = ipc::send(&mut stream, &reply).await;
    let ms = || begun.elapsed().as_secs_f64() * 1_000.0;
    match filling.filter(|_| sent.is_ok()) {
        Some(filling) => {
            let told = ipc::receive::<Told>(&mut stream).await.ok();
            report.local_ms = Some(ms());
            let kept = filling.keep(daemon, told, &stream).await;
            report.kept = Some(kept.map_err(|why| why.to_string()));
            daemon.history.remember(&report);
            // A wrapper that is gone has seen enough.
            let _ = ipc::send(&mut stream, &Reply::Noted).await;
            until_closed(&mut stream).await;
        }
        None => {
            if slot.is_some() && sent.is_ok() {
                until_closed(&mut stream).await;
                report.local_ms = Some(ms());
                if let Some(study) = study {
                    tokio::task::block_in_place(|| study.conclude(&daemon.crates.learned));
                }
            }
            daemon.history.remember(&report);
        }
    }
}

/// The compiler holds the other end: it is closed when the last process of the compile has ended.
async fn until_closed(stream: &mut UnixStream) {
    let _ = stream.read(&mut [0; 1]).await;
}

/// Runs `work` while telling the wrapper that we are at it, and what is `heard`; `None` when the wrapper
/// went away.
async fn while_wrapper_waits<T>(
    stream: &mut UnixStream,
    heard: &mut UnboundedReceiver<Vec<u8>>,
    mut work: impl Future<Output = T> + Unpin,
) -> Option<T> {
    let mut clock = tokio::time::interval(ipc::BUSY_EVERY);
    // Not by waiting for the tick that is due now: it comes up to a millisecond late.
    clock.reset();
    let mut probe = [0; 1];
    loop {
        let reply = tokio::select! {
            // What was said comes before the end.
            biased;
            Some(words) = heard.recv() => Reply::Said(words),
            done = &mut work => return Some(done),
            _ = stream.read(&mut probe) => return None,
            _ = clock.tick() => Reply::Busy,
        };
        ipc::send(stream, &reply).await.ok()?;
    }
}

impl Daemon {
    /// sccache's `--show-stats`, with ours added.
    fn stats_json(&self) -> String {
        let url = self.settings.dist.scheduler_url.as_deref().unwrap_or("nowhere");
        let farm = format!("farm at {url}, blobs in {}", self.settings.dist.store.place());
        let cache = tokio::task::block_in_place(|| self.results.state());
        let mut json = self.stats.json(&farm, &cache, &self.settings.base_dirs);
        // Of the daemon's whole life.
        json["programs_started"] = exec::started().into();
        json["traffic"] = serde_json::json!(self.link.traffic());
        json.to_string()
    }

    /// sccache's `--dist-status`, with the workers by name added.
    async fn dist_status(&self) -> String {
        let url = self.settings.dist.scheduler_url.clone().unwrap_or_default();
        let status = match self.link.reach().await {
            Err(LocalReason::Disabled) => {
                serde_json::json!({"Disabled": "no `dist.scheduler_url` in the settings"})
            }
            Err(reason) => serde_json::json!({"NotConnected": [url, reason.to_string()]}),
            Ok(reach) => match reach.farm.status().await {
                Err(error) => serde_json::json!({"NotConnected": [url, error.to_string()]}),
                Ok(farm) => {
                    let slots = farm.workers.iter().map(|worker| u64::from(worker.slots));
                    let cores: u64 = slots.sum();
                    serde_json::json!({"SchedulerStatus": [url, {
                        "num_servers": farm.workers.len(),
                        "num_cpus": cores,
                        "in_progress": farm.outstanding,
                        "workers": farm.workers,
                        "findings": farm.findings,
                    }]})
                }
            },
        };
        status.to_string()
    }
}

fn random_id() -> io::Result<ClientId> {
    let mut bytes = [0; 15];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let name = format!("c-{}", data_encoding::HEXLOWER.encode(&bytes));
    ClientId::try_from(name).map_err(io::Error::other)
}
