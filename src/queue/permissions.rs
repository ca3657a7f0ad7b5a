//! Who may publish and subscribe to what: the one table of the farm's rights.
//!
//! Clients and workers live in accounts without JetStream of their own and reach the farm's account
//! through imports alone; otherwise a forged reply subject would let the server itself publish where
//! they may not.

use serde::{Deserialize, Serialize};

use super::subjects::{self, Order};
use crate::job::wire::BlobClass;
use crate::job::{ClientId, Lane, Pool, WorkerId};

/// Account of schedulers and JetStream.
pub const FARM_ACCOUNT: &str = "JETCC";
/// Account of clients.
pub const CLIENT_ACCOUNT: &str = "CLIENTS";
/// Account of workers.
pub const WORKER_ACCOUNT: &str = "WORKERS";
/// Account of the auth callout.
pub const AUTH_ACCOUNT: &str = "AUTH";
/// Account of the server's own events.
pub const SYSTEM_ACCOUNT: &str = "SYS";

/// Subjects that a user may publish and subscribe to; everything else is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// May publish to these.
    pub publish: Vec<String>,
    /// May subscribe to these.
    pub subscribe: Vec<String>,
}

/// Rights of a client.
pub fn client(id: &ClientId) -> Permissions {
    let mut publish = vec![format!("farm.c.{id}.*")];
    publish.extend(client_blob_services());
    Permissions {
        publish,
        subscribe: vec![
            format!("{}.>", subjects::inbox(id.as_str())),
            subjects::results_of(id),
            subjects::progress_of(id),
        ],
    }
}

/// Subjects of the blob store that clients reach: they write inputs and toolchains and read
/// toolchains (is it there?) and outputs.
pub(super) fn client_blob_services() -> Vec<String> {
    let read =
        |class| subjects::direct_get(subjects::blob_stream(class), &subjects::blob_filter(class));
    vec![
        subjects::blob_filter(BlobClass::Input),
        subjects::blob_filter(BlobClass::Toolchain),
        read(BlobClass::Input),
        read(BlobClass::Toolchain),
        read(BlobClass::Output),
    ]
}

/// Subjects of the farm's account that every worker reaches: they answer for their jobs, read all
/// blobs and write outputs.
pub(super) fn worker_services() -> Vec<String> {
    let mut services = vec![
        format!("$JS.ACK.{}.>", subjects::JOBS),
        format!("$JS.ACK.*.*.{}.>", subjects::JOBS),
        subjects::RESULTS_OF_ALL.to_owned(),
        subjects::blob_filter(BlobClass::Output),
    ];
    for class in [BlobClass::Input, BlobClass::Output, BlobClass::Toolchain] {
        let stream = subjects::blob_stream(class);
        services.push(subjects::direct_get(stream, &subjects::blob_filter(class)));
    }
    services
}

/// Rights of a worker that serves `pools`.
pub fn worker(id: &WorkerId, pools: &[Pool]) -> Permissions {
    let mut publish = vec![subjects::PROGRESS_OF_ALL.to_owned(), subjects::worker_key(id)];
    publish.extend(worker_services());
    for pool in pools {
        for lane in Lane::ALL {
            for order in [Order::RoundRobin, Order::ByPriority] {
                let consumer = subjects::lane_consumer(pool, lane, order);
                publish.push(subjects::pull(&consumer));
            }
        }
    }
    Permissions {
        publish,
        subscribe: vec![
            format!("{}.>", subjects::inbox(id.as_str())),
            subjects::CANCELLATIONS.to_owned(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_may_write_actions_or_use_the_stream_api() {
        let client = client(&"c1".parse().unwrap());
        let worker = worker(&"w1".parse().unwrap(), &[Pool::of_this_machine()]);
        for subject in client.publish.iter().chain(&worker.publish) {
            assert!(!subject.contains("KV.actions"), "{subject}");
            assert!(!subject.contains("STREAM."), "{subject}");
            assert!(!subject.starts_with('>') && !subject.starts_with('*'), "{subject}");
        }
        for subject in client.publish.iter() {
            assert!(!subject.starts_with("jobs.") && !subject.starts_with("results."), "{subject}");
        }
    }
}
