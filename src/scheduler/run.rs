//! The scheduler's life: connect, declare, then one loop over everything that happens.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::door::{self, Door};
use super::examiner::{self, Examiner};
use super::identity::{Identity, KeyError, key_bytes};
use super::porter::Porter;
use super::reception::{self, Office, Rules};
use super::registry::Known;
use super::settings::{FarmSecrets, Settings};
use super::{holds, meter, porter, recorder, undertaker};
use crate::job::{Pool, WorkerId};
use crate::lifecycle::Lifecycle;
use crate::queue::audits::Audits;
use crate::queue::callout::Callout;
use crate::queue::denied::Denied;
use crate::queue::serve::{Desk, OUTSTANDING_EVERY, Request, Requests, WorkerChange};
use crate::queue::server_config::{AUTH_USER, SCHEDULER_USER, SYSTEM_USER};
use crate::queue::subjects::inbox;
use crate::queue::system::System;
use crate::queue::{Connection, Login, Patience, QueueError, Secret, streams};
use crate::store::Blobs;

/// Wait before a broken watch or consumer is opened again.
const REOPEN: Duration = Duration::from_millis(500);
/// How long requests under way may take when stopping.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a scheduler could not start.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// NATS refused something that the scheduler is nothing without.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A key in the settings is unusable.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Connects as the scheduler; `main` opens the blob store on this connection.
///
/// # Errors
/// [`QueueError::ServerTooOld`], or the settings' address is refused; an absent server is waited for.
pub async fn connect(settings: &Settings, secrets: &FarmSecrets) -> Result<Connection, QueueError> {
    let login = login(settings, SCHEDULER_USER, &secrets.scheduler_password);
    Connection::open(&login, "scheduler", Patience::Endless).await
}

/// Connects in the scheduler's place for one errand of its operator.
///
/// # Errors
/// [`QueueError`], an absent server included.
pub async fn visit(settings: &Settings, secrets: &FarmSecrets) -> Result<Connection, QueueError> {
    let login = login(settings, SCHEDULER_USER, &secrets.scheduler_password);
    Connection::open(&login, "operator", Patience::None).await
}

/// Runs until `lifecycle` stops.
///
/// # Errors
/// [`SchedulerError`] when it cannot start; later trouble is logged and tried again.
pub async fn run(
    connection: Connection,
    blobs: Blobs,
    identity: Identity,
    settings: Arc<Settings>,
    secrets: &FarmSecrets,
    lifecycle: &Lifecycle,
) -> Result<(), SchedulerError> {
    let proof_key = key_bytes(&secrets.proof_key, "proof_key")?;
    let auth = login(&settings, AUTH_USER, &secrets.auth_password);
    let auth = Connection::open(&auth, "callout", Patience::Endless).await?;
    let callout = Callout::open(auth.clone(), &secrets.callout_seed).await?;
    let desk = Desk::open(connection).await?;
    let system = login(&settings, SYSTEM_USER, &secrets.system_password);
    let system = Connection::open(&system, "system", Patience::Endless).await?;
    let denied = Denied::open(desk.connection()).await?;
    let door = Door::open(denied, System::new(system.clone())).await?;
    let audits = Audits::open(desk.connection()).await?;
    let rules = Rules {
        proof_key,
        wait_seconds_max: settings.queue_wait_seconds_max,
        sample_rate: settings.audit.sample_rate,
    };
    for pool in &settings.pools {
        streams::declare_pool(desk.connection(), pool).await?;
    }
    let (requests, reports) = (desk.requests().await?, desk.reports().await?);
    let examiner = Examiner::new(blobs.clone());
    let office = Arc::new(Office::new(desk, door, examiner, audits, rules, &settings));
    let known: HashSet<Pool> = settings.pools.iter().cloned().collect();
    if settings.quota.limit_uploads() {
        lifecycle.spawn_until_stop(meter::hear(office.clone()));
        lifecycle.spawn_until_stop(meter::watch(office.clone(), System::new(system.clone())));
    }
    identity.keep(lifecycle);
    let porter = Porter::new(identity, settings, office.clone());
    lifecycle.spawn_until_stop(porter::answer_all(callout, porter, lifecycle.clone()));
    lifecycle.spawn_until_stop(door::follow(office.clone()));
    lifecycle.spawn_until_stop(door::guard(office.clone()));
    lifecycle.spawn_until_stop(follow_workers(office.clone(), known));
    lifecycle.spawn_until_stop(examiner::hear_workers(office.clone(), reports));
    lifecycle.spawn_until_stop(record(office.clone(), blobs));
    lifecycle.spawn_until_stop(bury(office.clone()));
    let holdings = office.desk.holdings().await?;
    lifecycle.spawn_until_stop(holds::hear_workers(office.clone(), holdings));
    lifecycle.spawn_until_stop(refresh_load(office.clone()));
    tracing::info!("scheduler is ready");
    serve(&office, requests, lifecycle).await;
    lifecycle.drain(DRAIN).await;
    office.desk.connection().close().await;
    auth.close().await;
    system.close().await;
    Ok(())
}

fn login(settings: &Settings, user: &str, password: &Secret) -> Login {
    Login {
        url: settings.nats_url.clone(),
        tls: settings.tls.clone(),
        user: user.to_owned(),
        password: password.clone().into(),
        inbox: inbox(user),
    }
}

enum Event {
    Request(Request),
    Reconnected,
    Stop,
}

async fn serve(office: &Arc<Office>, mut requests: Requests, lifecycle: &Lifecycle) {
    let mut connects = office.desk.connection().connects();
    connects.mark_unchanged();
    loop {
        let event = tokio::select! {
            () = lifecycle.stopping() => Event::Stop,
            changed = connects.changed() => changed.map_or(Event::Stop, |()| Event::Reconnected),
            request = requests.next() => request.map_or(Event::Stop, Event::Request),
        };
        match event {
            Event::Stop => return,
            Event::Request(request) => {
                let office = office.clone();
                lifecycle.spawn(async move { reception::answer(&office, request).await });
            }
            Event::Reconnected => declare_again(office).await,
        }
    }
}

/// A server that came back may have lost its streams.
async fn declare_again(office: &Office) {
    office.desk.forget_places();
    let connection = office.desk.connection();
    let pools = office.registry().pools();
    let workers: Vec<WorkerId> = {
        let registry = office.registry();
        registry.live(Instant::now()).into_iter().map(|state| state.worker.clone()).collect()
    };
    if let Err(error) = streams::declare(connection).await {
        tracing::error!(%error, "streams were not declared again");
    }
    office.spaces.make_again().await;
    for pool in pools {
        if let Err(error) = streams::declare_pool(connection, &pool).await {
            tracing::error!(%pool, %error, "queues were not declared again");
        }
    }
    for worker in workers {
        if let Err(error) = streams::declare_worker(connection, &worker).await {
            tracing::error!(%worker, %error, "queue of audits was not declared again");
        }
    }
}

async fn follow_workers(office: Arc<Office>, mut known: HashSet<Pool>) {
    loop {
        match office.desk.watch_workers().await {
            Err(error) => tracing::warn!(%error, "registry cannot be watched, trying again"),
            Ok(mut watch) => {
                while let Some(change) = watch.next().await {
                    follow_worker(&office, &mut known, change).await;
                }
            }
        }
        tokio::time::sleep(REOPEN).await;
    }
}

async fn follow_worker(office: &Office, known: &mut HashSet<Pool>, change: WorkerChange) {
    match change {
        WorkerChange::Gone(worker) => {
            tracing::info!(%worker, "worker left");
            office.registry().gone(&worker);
        }
        // Said before its connection was ended.
        WorkerChange::Said(state) if office.door.denies(&state.worker) => {}
        WorkerChange::Said(state) => {
            if !known.contains(&state.pool) {
                match streams::declare_pool(office.desk.connection(), &state.pool).await {
                    Ok(()) => drop(known.insert(state.pool.clone())),
                    Err(error) => tracing::error!(pool = %state.pool, %error, "pool has no queues"),
                }
            }
            let worker = state.worker.clone();
            let new = office.registry().said(state, Instant::now());
            if new == Known::New
                && let Err(error) = streams::declare_worker(office.desk.connection(), &worker).await
            {
                tracing::error!(%worker, %error, "worker has no queue of audits");
            }
        }
    }
}

async fn record(office: Arc<Office>, blobs: Blobs) {
    loop {
        match office.desk.results().await {
            Ok(letters) => recorder::record_all(&office, &blobs, letters).await,
            Err(error) => tracing::warn!(%error, "results cannot be read, trying again"),
        }
        tokio::time::sleep(REOPEN).await;
    }
}

async fn bury(office: Arc<Office>) {
    loop {
        match office.desk.dead().await {
            Ok(letters) => undertaker::bury_all(&office, letters).await,
            Err(error) => tracing::warn!(%error, "advisories cannot be read, trying again"),
        }
        tokio::time::sleep(REOPEN).await;
    }
}

/// Looks at the queue's length while jobs come and go.
async fn refresh_load(office: Arc<Office>) {
    loop {
        if let Err(error) = office.count_jobs().await {
            tracing::debug!(%error, "length of the queue is unknown");
        }
        if office.load().total() == 0 {
            office.busy.notified().await;
        }
        tokio::time::sleep(OUTSTANDING_EVERY).await;
    }
}
