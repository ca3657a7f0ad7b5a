//! Declares every stream, bucket and consumer. Schedulers do so at start and after every
//! reconnect; clients and workers create nothing.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PriorityPolicy, pull};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, kv};

use super::connect::{Connection, QueueError};
use super::subjects::{self, Order};
use crate::job::wire::BlobClass;
use crate::job::{Lane, Pool};

/// A job that nobody took or finished in this time is given up; clients are long gone.
const JOB_AGE_MAX: Duration = Duration::from_secs(15 * 60);
/// Most jobs of one tenant in one lane, waiting or running.
const TENANT_JOBS_MAX: i64 = 512;
/// A worker that is silent this long has lost its job. Workers report every third of it.
pub const ACK_WAIT: Duration = Duration::from_secs(6);
/// Last fence against a job that kills its workers.
const DELIVERIES_MAX: i64 = 6;
/// A worker that is silent this long is gone from the registry. Workers report every third of it.
pub const PRESENCE_AGE: Duration = Duration::from_secs(6);
/// Action records live as long as the outputs that they name.
const RESULT_AGE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The limits of all streams together stay below the server's `max_file_store` of 60 GB.
const GIB: i64 = 1 << 30;

/// Creates or updates all streams and buckets.
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
        blobs(BlobClass::Input, Duration::from_secs(3_600), 10 * GIB),
        blobs(BlobClass::Output, RESULT_AGE, 20 * GIB),
        blobs(BlobClass::Toolchain, Duration::from_secs(30 * 24 * 3_600), 16 * GIB),
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
    for bucket in [actions(), workers()] {
        let name = bucket.bucket.clone();
        context.create_or_update_key_value(bucket).await.map_err(|error| refused(&name, &error))?;
    }
    declare_consumer(&context, subjects::RESULTS, durable(subjects::RECORDER)).await?;
    declare_consumer(&context, subjects::DEAD, durable(subjects::UNDERTAKER)).await
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
            ..durable(&subjects::lane_consumer(pool, lane, order))
        };
        declare_consumer(&context, subjects::JOBS, config).await?;
    }
    Ok(())
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
        duplicate_window: Duration::from_secs(120),
        allow_direct: true,
        ..Config::default()
    }
}

fn results() -> Config {
    Config {
        name: subjects::RESULTS.into(),
        subjects: vec![subjects::RESULTS_OF_ALL.into()],
        discard: DiscardPolicy::Old,
        max_messages_per_subject: 1,
        max_age: JOB_AGE_MAX,
        max_bytes: 4 * GIB,
        storage: StorageType::File,
        allow_direct: true,
        ..Config::default()
    }
}

/// Write-once: the server itself refuses a second message on a blob's subject.
fn blobs(class: BlobClass, max_age: Duration, max_bytes: i64) -> Config {
    Config {
        name: subjects::blob_stream(class).into(),
        subjects: vec![subjects::blob_filter(class)],
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

fn actions() -> kv::Config {
    kv::Config {
        bucket: subjects::ACTIONS.into(),
        history: 1,
        max_age: RESULT_AGE,
        max_bytes: 4 * GIB,
        storage: StorageType::File,
        ..kv::Config::default()
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
