//! Who may publish and subscribe to what: the one table of the farm's rights.
//!
//! Clients and workers live in accounts without JetStream of their own and reach the farm's account
//! through imports alone; otherwise a forged reply subject would let the server itself publish where
//! they may not.

use serde::{Deserialize, Serialize};

use super::subjects::{self, Order, Spaces};
use crate::job::wire::BlobClass;
use crate::job::{ClientId, Lane, Pool, Space, WorkerId};

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

/// Whether a client may store blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploads {
    /// Inputs and toolchains of its space.
    Allowed,
    /// None: its tenant is over its limit.
    Stopped,
}

/// Rights of a client in `space`.
pub fn client(id: &ClientId, space: &Space, uploads: Uploads) -> Permissions {
    let mut publish = vec![format!("farm.c.{id}.*")];
    publish.extend(client_blob_reads(Spaces::One(space)));
    if uploads == Uploads::Allowed {
        publish.extend(client_blob_writes(Spaces::One(space)));
    }
    Permissions {
        publish,
        subscribe: vec![
            format!("{}.>", subjects::inbox(id.as_str())),
            subjects::results_of(id),
            subjects::progress_of(id),
        ],
    }
}

/// Blobs that clients may store: inputs and toolchains.
pub(super) fn client_blob_writes(spaces: Spaces<'_>) -> Vec<String> {
    [BlobClass::Input, BlobClass::Toolchain]
        .map(|class| subjects::blob_filter(class, spaces))
        .into()
}

/// Blobs that clients may read: inputs and toolchains (are they there?) and outputs.
pub(super) fn client_blob_reads(spaces: Spaces<'_>) -> Vec<String> {
    [BlobClass::Input, BlobClass::Toolchain, BlobClass::Output]
        .map(|class| subjects::blob_read(class, spaces))
        .into()
}

/// Subjects of the farm's account that every worker reaches: they give results, read all blobs and
/// write outputs, in every space.
pub(super) fn worker_services() -> Vec<String> {
    let mut services = vec![subjects::blob_filter(BlobClass::Output, Spaces::Every)];
    for class in [BlobClass::Input, BlobClass::Output, BlobClass::Toolchain] {
        services.push(subjects::blob_read(class, Spaces::Every));
    }
    services
}

/// Rights of a worker that serves `pools`.
pub fn worker(id: &WorkerId, pools: &[Pool]) -> Permissions {
    let mut publish = vec![
        subjects::PROGRESS_OF_ALL.to_owned(),
        subjects::worker_key(id),
        subjects::holding(id),
        subjects::worker_report(id),
        subjects::results_by(id),
        subjects::pull(&subjects::audit_consumer(id)),
    ];
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
        let client = client(&"c1".parse().unwrap(), &Space::shared(), Uploads::Allowed);
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
