//! The worker's life: connect, announce, take jobs while slots are free, run each, and leave
//! without losing any.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::rest::Rest;
use super::{Capacity, Executed, Executor, Settings, SlotPermit, Word, WorkerError};
use crate::job::wire::{JobEnd, JobResult, Progress, Trouble, WorkerState, WrongBlob};
use crate::job::{JobId, Pool, WorkerId};
use crate::lifecycle::{Drained, Lifecycle};
use crate::queue::pull::{Held, Puller, Voice};
use crate::queue::{
    Connection, Login, Patience, QueueError, Secret, TlsSettings, streams, subjects,
};
use crate::store::Blobs;

/// How long running jobs may take when the worker is told to stop; then they are given back.
const DRAIN: Duration = Duration::from_secs(30);
/// How long giving back may take.
const FORCE: Duration = Duration::from_secs(5);
/// How often free slots are looked at again while there are none: other programs come and go.
const LOOK: Duration = Duration::from_millis(500);
/// A job that ends sooner says nothing of its start: its result says it.
const WORTH_TELLING: Duration = Duration::from_millis(100);
/// A job that failed for reasons of this machine is given to another one this often.
const TRIES: u64 = 2;

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// NATS refused something that a worker is nothing without.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// This machine cannot run jobs.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Who this worker is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Address of the NATS server.
    pub nats_url: String,
    /// Encryption of the connection.
    pub tls: TlsSettings,
    /// Its name.
    pub worker: WorkerId,
    /// What it shows the scheduler.
    pub token: Secret,
    /// Jobs that it takes.
    pub pool: Pool,
}

/// Connects; waits for the server and for a scheduler that lets it in.
///
/// # Errors
/// [`QueueError::ServerTooOld`], or the settings' address is refused.
pub async fn connect(identity: &Identity) -> Result<Connection, QueueError> {
    let user = identity.worker.as_str();
    let login = Login {
        url: identity.nats_url.clone(),
        tls: identity.tls.clone(),
        user: user.to_owned(),
        password: identity.token.clone().into(),
        inbox: subjects::inbox(user),
    };
    Connection::open(&login, "worker", Patience::Endless).await
}

/// What all tasks of a worker share.
struct Shop {
    identity: Identity,
    executor: Executor,
    capacity: Capacity,
    voice: Voice,
    running: Mutex<HashMap<JobId, CancellationToken>>,
    rest: Mutex<Rest>,
    /// Ends jobs that outlive the drain deadline.
    force: CancellationToken,
}

/// Runs until `lifecycle` stops.
///
/// # Errors
/// [`RunError`] when it cannot start.
pub async fn run(
    connection: Connection,
    blobs: Blobs,
    settings: &Settings,
    identity: &Identity,
    lifecycle: &Lifecycle,
) -> Result<(), RunError> {
    let shop = Arc::new(Shop {
        executor: Executor::open(settings, blobs).await?,
        capacity: Capacity::new(settings),
        voice: Voice::new(connection.clone(), identity.worker.clone()),
        running: Mutex::default(),
        rest: Mutex::default(),
        force: CancellationToken::new(),
        identity: identity.clone(),
    });
    let puller = Puller::open(connection.clone(), &identity.worker, identity.pool.clone()).await?;
    let cancellations = shop.voice.cancellations().await?;
    lifecycle.spawn_until_stop(announce(shop.clone()));
    lifecycle.spawn_until_stop(follow_cancellations(shop.clone(), cancellations));
    tracing::info!(worker = %identity.worker, slots = shop.capacity.slots(), "worker is ready");
    take_jobs(&shop, puller, lifecycle).await;

    shop.voice.presence(&shop.state(Draining::Yes)).await;
    if lifecycle.drain(DRAIN).await == Drained::Forced {
        tracing::warn!("jobs outlive the deadline and are given back");
        shop.force.cancel();
        lifecycle.drain(FORCE).await;
    }
    shop.executor.cleaned().await;
    shop.voice.leave().await;
    connection.close().await;
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Draining {
    Yes,
    No,
}

impl Shop {
    fn state(&self, draining: Draining) -> WorkerState {
        WorkerState {
            worker: self.identity.worker.clone(),
            pool: self.identity.pool.clone(),
            slots: self.capacity.slots(),
            free: self.capacity.free(),
            running: self.capacity.running(),
            cores: self.capacity.cores(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: draining == Draining::Yes || self.rests(),
        }
    }

    /// A slot for one more job, unless none is free or this machine rests.
    fn slot(&self) -> Option<SlotPermit> {
        if self.rests() { None } else { self.capacity.take() }
    }

    fn rests(&self) -> bool {
        self.rest().is_on(Instant::now())
    }

    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews the entry in the registry.
async fn announce(shop: Arc<Shop>) {
    let mut clock = tokio::time::interval(streams::PRESENCE_AGE / 3);
    loop {
        clock.tick().await;
        shop.voice.presence(&shop.state(Draining::No)).await;
    }
}

async fn follow_cancellations(
    shop: Arc<Shop>,
    mut cancellations: crate::queue::pull::Cancellations,
) {
    loop {
        let job = cancellations.next().await;
        if let Some(token) = shop.running().get(&job) {
            tracing::debug!(%job, "called off");
            token.cancel();
        }
    }
}

/// What the loop waits for.
enum Event {
    Job(Held),
    /// A parked pull brought a job while no slot was free.
    Stray(Held),
    Look,
    Stop,
}

async fn take_jobs(shop: &Arc<Shop>, mut puller: Puller, lifecycle: &Lifecycle) {
    loop {
        let event = if !shop.rests() && shop.capacity.free() > 0 {
            tokio::select! {
                () = lifecycle.stopping() => Event::Stop,
                held = puller.next() => Event::Job(held),
            }
        } else {
            tokio::select! {
                () = lifecycle.stopping() => Event::Stop,
                held = puller.stray() => Event::Stray(held),
                () = shop.capacity.freed() => Event::Look,
                () = tokio::time::sleep(LOOK) => Event::Look,
            }
        };
        match event {
            Event::Stop => return puller.close().await,
            Event::Look => {}
            Event::Job(held) | Event::Stray(held) => match shop.slot() {
                Some(slot) => {
                    let shop = shop.clone();
                    lifecycle.spawn(async move { work(&shop, held, slot).await });
                }
                None => lifecycle.spawn(async move { held.hold().give_back().await }),
            },
        }
    }
}

/// One job, from taking it to giving its result.
async fn work(shop: &Shop, held: Held, slot: SlotPermit) {
    let (job, hold) = (&held.job, held.hold());
    let id = job.submit.job;
    if job.submit.deadline_unix_ms < unix_ms() {
        tracing::info!(job = %id, "nobody waits for it any more");
        return hold.finish().await;
    }
    let cancelled = CancellationToken::new();
    shop.running().insert(id, cancelled.clone());
    let ended = tokio::select! {
        ended = execute(shop, &held, slot) => Some(ended),
        () = cancelled.cancelled() => {
            hold.finish().await;
            None
        }
        () = shop.force.cancelled() => {
            hold.give_back().await;
            None
        }
    };
    shop.running().remove(&id);
    let Some(result) = ended else { return };
    if let JobEnd::Undone(trouble) = &result.end {
        tracing::warn!(job = %id, %trouble, deliveries = held.deliveries, "job was not done");
        if is_of_this_machine(trouble) {
            shop.rest().begin(Instant::now());
            shop.voice.presence(&shop.state(Draining::No)).await;
        }
        if held.deliveries < TRIES && may_work_elsewhere(trouble) {
            return hold.give_back().await;
        }
    }
    if let JobEnd::Done(_) = &result.end {
        shop.rest().end();
    }
    match shop.voice.result(job, &result).await {
        // The scheduler that reads it takes the job out of the queue.
        Ok(()) => {}
        // The job comes again, here or elsewhere.
        Err(error) => tracing::error!(job = %id, %error, "result was not stored"),
    }
}

/// Runs the job while telling queue and client that we are at it.
async fn execute(shop: &Shop, held: &Held, slot: SlotPermit) -> JobResult {
    let (job, hold) = (&held.job, held.hold());
    let (says, mut said) = mpsc::unbounded_channel();
    let running = shop.executor.execute(job, slot, move |word| {
        // The receiver lives as long as the job.
        let _ = says.send(word);
    });
    tokio::pin!(running);
    let mut started = false;
    let mut clock = tokio::time::interval(streams::ACK_WAIT / 3);
    clock.reset_after(WORTH_TELLING);
    let Executed { end, reads, times } = loop {
        tokio::select! {
            done = &mut running => break done,
            Some(word) = said.recv() => match word {
                Word::Progress(progress) => shop.voice.progress(job, &progress).await,
                Word::Wrong(class, digest) => {
                    shop.voice.report(&WrongBlob { space: job.space.clone(), class, digest, action: None }).await;
                }
            },
            _ = clock.tick() => {
                if started {
                    hold.extend().await;
                    shop.voice.progress(job, &Progress::Running).await;
                } else {
                    started = true;
                    let worker = shop.identity.worker.clone();
                    shop.voice.progress(job, &Progress::Started { worker }).await;
                }
            }
        }
    };
    JobResult {
        job: job.submit.job,
        action: job.submit.action.key(),
        proof: job.proof.clone(),
        space: job.space.clone(),
        deadline_unix_ms: job.submit.deadline_unix_ms,
        worker: shop.identity.worker.clone(),
        end,
        times,
        cache: job.submit.cache,
        reads,
        delivery: Some(hold.delivery().to_owned()),
    }
}

/// Whether the next job here will probably fail the same way.
fn is_of_this_machine(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Store(_) | Trouble::Sandbox(_))
}

/// Whether another machine may succeed where this one did not.
fn may_work_elsewhere(trouble: &Trouble) -> bool {
    matches!(
        trouble,
        Trouble::Store(_) | Trouble::Toolchain(_) | Trouble::Sandbox(_) | Trouble::Stopping
    )
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
