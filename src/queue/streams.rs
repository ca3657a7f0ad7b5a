//! Declares every stream, bucket and consumer. Schedulers do so at start and after every
//! reconnect; clients and workers create nothing.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PriorityPolicy, pull};
use async_nats::jetstream::context::{ContextBuilder, CreateStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, kv};

use super::connect::{Connection, QueueError};
use super::subjects::{self, Order, Spaces};
use crate::job::wire::BlobClass;
use crate::job::{Lane, Pool, Space, WorkerId};

/// A job that nobody took or finished in this time is given up; clients are long gone.
const JOB_AGE_MAX: Duration = Duration::from_secs(15 * 60);
/// Furthest deadline that a client may set; no answer for a job is recorded after it.
pub const DEADLINE_MAX: Duration = Duration::from_secs(3_600);
/// Most jobs of one tenant in one lane, waiting or running.
const TENANT_JOBS_MAX: i64 = 512;
/// A worker that is silent this long has lost its job. Workers report every third of it.
pub const ACK_WAIT: Duration = Duration::from_secs(6);
/// Last fence against a job that kills its workers.
const DELIVERIES_MAX: i64 = 6;
/// An audit that its worker could not finish so often is dropped.
const AUDIT_DELIVERIES_MAX: i64 = 3;
/// A worker that asked for no audits this long has no consumer any more, until it comes back.
const WORKER_FORGOTTEN: Duration = Duration::from_secs(3_600);
/// A worker that is silent this long is gone from the registry. Workers report every third of it.
pub const PRESENCE_AGE: Duration = Duration::from_secs(6);
/// Action records live as long as the outputs that they name.
const RESULT_AGE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A request that equals one of the last so many seconds is the same job, if that still runs.
const SAME_JOB: Duration = Duration::from_secs(120);

const GIB: i64 = 1 << 30;
/// What blobs of each class are given of a space's room, in parts of [`BLOB_PARTS`].
const BLOB_SHARES: [(BlobClass, u64); 3] =
    [(BlobClass::Input, 10), (BlobClass::Output, 20), (BlobClass::Toolchain, 16)];
const BLOB_PARTS: u64 = 46;
/// Error of the server when limits of streams together would be beyond its `max_file_store`.
const NO_ROOM: u64 = 10_047;

/// Creates or updates all streams and buckets but those of spaces.
///
/// # Errors
/// [`QueueError::Refused`] with the server's words.
pub async fn declare(connection: &Connection) -> Result<(), QueueError> {
    let context = context(connection);
    let advisories = ["MAX_DELIVERIES", "MSG_TERMINATED"]
        .map(|kind| format!("$JS.EVENT.ADVISORY.CONSUMER.{kind}.{}.>", subjects::JOBS));
    let configs = [
        jobs(),
        results(),
        actions(),
        flights(),
        Config {
            name: subjects::DEAD.into(),
            subjects: advisories.into(),
            max_age: RESULT_AGE,
            max_bytes: GIB / 4,
            storage: StorageType::File,
            ..Config::default()
        },
    ];
    for config in configs {
        let name = config.name.clone();
        context.create_or_update_stream(config).await.map_err(|error| refused(&name, &error))?;
    }
    for bucket in [workers(), denied(), audits()] {
        let name = bucket.bucket.clone();
        context.create_or_update_key_value(bucket).await.map_err(|error| refused(&name, &error))?;
    }
    declare_consumer(&context, subjects::RESULTS, durable(subjects::RECORDER)).await?;
    declare_consumer(&context, subjects::DEAD, durable(subjects::UNDERTAKER)).await
}

/// Creates or updates the streams of a space's blobs, of at most `bytes_max` together. The server
/// sets that room aside, and refuses what it does not have.
///
/// # Errors
/// [`QueueError::Full`] when the server has no such room left, else [`QueueError::Refused`] with its
/// words.
pub async fn declare_space(
    connection: &Connection,
    space: &Space,
    bytes_max: u64,
) -> Result<(), QueueError> {
    let context = context(connection);
    for (class, share) in BLOB_SHARES {
        let bytes_max = i64::try_from(bytes_max / BLOB_PARTS * share).unwrap_or(i64::MAX);
        let config = blobs(class, space, bytes_max.max(1));
        let name = config.name.clone();
        if let Err(error) = context.create_or_update_stream(config).await {
            return Err(match error.kind() {
                CreateStreamErrorKind::JetStream(error) if error.error_code().0 == NO_ROOM => {
                    QueueError::Full("max_file_store".into())
                }
                _ => refused(&name, &error),
            });
        }
    }
    Ok(())
}

/// Creates or updates the consumers of `pool`'s lanes.
///
/// # Errors
/// [`QueueError::Refused`] with the server's words.
pub async fn declare_pool(connection: &Connection, pool: &Pool) -> Result<(), QueueError> {
    let context = context(connection);
    let order = order(connection);
    for lane in Lane::ALL {
        let (priority_policy, priority_groups) = match order {
            Order::ByPriority => (PriorityPolicy::Prioritized, vec![subjects::PULL_GROUP.into()]),
            Order::RoundRobin => (PriorityPolicy::None, Vec::new()),
        };
        let config = pull::Config {
            filter_subject: subjects::lane_filter(pool, lane),
            ack_wait: ACK_WAIT,
            max_deliver: DELIVERIES_MAX,
            max_ack_pending: 100_000,
            max_waiting: 8_192,
            priority_policy,
            priority_groups,
            // A file written and renamed for each job is not worth what it would save after a restart
            // of the server: jobs that were handed out are handed out again.
            memory_storage: true,
            ..durable(&subjects::lane_consumer(pool, lane, order))
        };
        declare_consumer(&context, subjects::JOBS, config).await?;
    }
    Ok(())
}

/// Creates or updates the consumer of the audits that `worker` shall run.
///
/// # Errors
/// [`QueueError::Refused`] with the server's words.
pub async fn declare_worker(connection: &Connection, worker: &WorkerId) -> Result<(), QueueError> {
    let config = pull::Config {
        filter_subject: subjects::audit_filter(worker),
        ack_wait: ACK_WAIT,
        max_deliver: AUDIT_DELIVERIES_MAX,
        inactive_threshold: WORKER_FORGOTTEN,
        ..durable(&subjects::audit_consumer(worker))
    };
    declare_consumer(&context(connection), subjects::JOBS, config).await
}

/// How this server chooses among waiting pulls.
pub fn order(connection: &Connection) -> Order {
    if connection.orders_pulls() { Order::ByPriority } else { Order::RoundRobin }
}

/// A JetStream context with our time-outs.
pub(super) fn context(connection: &Connection) -> Context {
    ContextBuilder::new().timeout(Duration::from_secs(5)).build(connection.client().clone())
}

fn jobs() -> Config {
    Config {
        name: subjects::JOBS.into(),
        subjects: vec!["jobs.*.*.*".into()],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        max_messages_per_subject: TENANT_JOBS_MAX,
        max_age: JOB_AGE_MAX,
        max_bytes: 2 * GIB,
        storage: StorageType::File,
        duplicate_window: SAME_JOB,
        allow_direct: true,
        ..Config::default()
    }
}

fn results() -> Config {
    Config {
        name: subjects::RESULTS.into(),
        subjects: vec![subjects::RESULTS_OF_ALL.into()],
        discard: DiscardPolicy::Old,
        // All of a subject are kept: a worker cannot hide what it said first, which its client took.
        max_age: JOB_AGE_MAX,
        max_bytes: 4 * GIB,
        storage: StorageType::File,
        allow_direct: true,
        ..Config::default()
    }
}

fn flights() -> Config {
    Config {
        name: subjects::FLIGHTS.into(),
        subjects: vec![subjects::FLIGHTS_OF_ALL.into()],
        // Who finds no room here gets a job of its own.
        discard: DiscardPolicy::New,
        max_messages_per_subject: 1,
        max_age: JOB_AGE_MAX,
        max_bytes: GIB / 64,
        storage: StorageType::File,
        allow_direct: true,
        ..Config::default()
    }
}

/// Write-once: the server itself refuses a second message on a blob's subject.
fn blobs(class: BlobClass, space: &Space, max_bytes: i64) -> Config {
    let max_age = match class {
        BlobClass::Input => Duration::from_secs(3_600),
        BlobClass::Output => RESULT_AGE,
        BlobClass::Toolchain => Duration::from_secs(30 * 24 * 3_600),
    };
    Config {
        name: subjects::blob_stream(class, space),
        subjects: vec![subjects::blob_filter(class, Spaces::One(space))],
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        max_messages_per_subject: 1,
        max_age,
        max_bytes,
        storage: StorageType::File,
        allow_direct: true,
        ..Config::default()
    }
}

/// A bucket like the others, but that the server remembers for which jobs it has a record, as long as
/// an answer for one may be recorded.
fn actions() -> Config {
    Config {
        name: format!("KV_{}", subjects::ACTIONS),
        subjects: vec![format!("$KV.{}.>", subjects::ACTIONS)],
        discard: DiscardPolicy::New,
        max_messages_per_subject: 1,
        max_age: RESULT_AGE,
        max_bytes: 4 * GIB,
        storage: StorageType::File,
        duplicate_window: DEADLINE_MAX,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    }
}

fn workers() -> kv::Config {
    kv::Config {
        bucket: subjects::WORKERS.into(),
        history: 1,
        max_age: PRESENCE_AGE,
        storage: StorageType::File,
        ..kv::Config::default()
    }
}

fn denied() -> kv::Config {
    kv::Config {
        bucket: subjects::DENIED.into(),
        history: 1,
        max_bytes: GIB / 64,
        storage: StorageType::File,
        ..kv::Config::default()
    }
}

fn audits() -> kv::Config {
    kv::Config {
        bucket: subjects::AUDITS.into(),
        history: 1,
        max_age: 2 * JOB_AGE_MAX,
        max_bytes: GIB / 4,
        storage: StorageType::File,
        ..kv::Config::default()
    }
}

fn durable(name: &str) -> pull::Config {
    pull::Config {
        durable_name: Some(name.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(30),
        ..pull::Config::default()
    }
}

async fn declare_consumer(
    context: &Context,
    stream: &str,
    config: pull::Config,
) -> Result<(), QueueError> {
    let name = config.durable_name.clone().unwrap_or_default();
    context
        .create_consumer_on_stream(config, stream)
        .await
        .map(drop)
        .map_err(|error| refused(&format!("consumer {name}"), &error))
}

pub(super) fn refused(what: &str, error: &impl std::fmt::Display) -> QueueError {
    QueueError::Refused { what: format!("`{what}`"), message: error.to_string() }
}
