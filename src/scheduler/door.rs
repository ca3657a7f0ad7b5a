//! The farm's door: nobody on the deny list comes in, and whoever is in when it gets there loses the
//! connection at once.
//!
//! Every scheduler watches the list and ends connections; ending one that is gone does no harm.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::deny_list::DenyList;
use super::reception::{Office, unix_ms};
use super::undertaker;
use crate::job::{ClientId, Denial, Party, Principal, WorkerId};
use crate::queue::QueueError;
use crate::queue::callout::Admission;
use crate::queue::denied::{Denied, DeniedChange};
use crate::queue::permissions::{CLIENT_ACCOUNT, WORKER_ACCOUNT};
use crate::queue::system::{Peer, System};

/// How often connections are compared with the list while somebody is on it: a caller may be let
/// in at the moment at which he is denied.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// Wait before a broken watch is opened again.
const REOPEN: Duration = Duration::from_millis(500);

/// The list and the means to enforce it.
pub struct Door {
    denied: Denied,
    system: System,
    list: Mutex<DenyList>,
    /// Wakes whoever ends connections.
    changed: Notify,
}

impl Door {
    /// A door that knows the list already: nobody slips in while it is read.
    ///
    /// # Errors
    /// [`QueueError`] when the list cannot be read.
    pub async fn open(denied: Denied, system: System) -> Result<Self, QueueError> {
        let list = Mutex::new(DenyList::of(denied.all().await?));
        Ok(Self { denied, system, list, changed: Notify::new() })
    }

    /// Passes an admission on, unless its bearer is on the list.
    ///
    /// # Errors
    /// Why it is refused, for the operator.
    pub fn check(&self, admission: Admission) -> Result<Admission, String> {
        let reserved = reserved_client();
        if admission.name.parse::<Principal>().is_ok_and(|found| found.client == reserved) {
            return Err(format!("`{reserved}` is the farm's own name"));
        }
        match self.list().denial_of(admission.account, &admission.name, unix_ms()) {
            Some((party, denial)) => {
                Err(format!("{party} is denied by {}: {}", denial.by, denial.reason))
            }
            None => Ok(admission),
        }
    }

    /// Whether `worker` is kept out.
    pub fn denies(&self, worker: &WorkerId) -> bool {
        self.list().denial(&Party::Worker(worker.clone()), unix_ms()).is_some()
    }

    /// How many are kept out.
    pub fn count(&self) -> u32 {
        self.list().count(unix_ms())
    }

    /// Keeps `party` out from now on.
    ///
    /// # Errors
    /// [`QueueError`] when the list was not written.
    pub async fn deny(&self, party: Party, denial: Denial) -> Result<(), QueueError> {
        self.denied.deny(&party, &denial).await?;
        self.list().deny(party, denial);
        self.changed.notify_one();
        Ok(())
    }

    fn list(&self) -> MutexGuard<'_, DenyList> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client in whose name the farm itself queues jobs.
pub fn reserved_client() -> ClientId {
    ClientId::try_from("audit".to_owned()).unwrap_or_else(|_| unreachable!("a valid name"))
}

/// Follows the list as others change it.
pub async fn follow(office: Arc<Office>) {
    let door = &office.door;
    loop {
        match door.denied.watch().await {
            Err(error) => tracing::warn!(%error, "deny list cannot be watched, trying again"),
            Ok(mut watch) => {
                while let Some(change) = watch.next().await {
                    note(door, change);
                }
            }
        }
        tokio::time::sleep(REOPEN).await;
        // Whoever was allowed meanwhile is in no watch that begins now.
        match door.denied.all().await {
            Ok(entries) => *door.list() = DenyList::of(entries),
            Err(error) => tracing::warn!(%error, "deny list was not read again"),
        }
    }
}

fn note(door: &Door, change: DeniedChange) {
    match change {
        DeniedChange::Denied(party, denial) => {
            tracing::warn!(%party, by = %denial.by, reason = denial.reason, "denied");
            door.list().deny(party, denial);
            door.changed.notify_one();
        }
        DeniedChange::Allowed(party) => {
            tracing::info!(%party, "allowed");
            door.list().allow(&party);
        }
    }
}

/// Ends connections of those on the list: at once when it changes, and again and again.
pub async fn guard(office: Arc<Office>) {
    let door = &office.door;
    loop {
        if door.list().is_empty() {
            door.changed.notified().await;
        } else {
            // An early wake and a late one do the same.
            let _ = tokio::time::timeout(SWEEP_EVERY, door.changed.notified()).await;
        }
        for account in [CLIENT_ACCOUNT, WORKER_ACCOUNT] {
            if let Err(error) = sweep(&office, account).await {
                tracing::warn!(account, %error, "connections were not compared with the deny list");
            }
        }
        let ended = door.list().ended(unix_ms());
        for party in ended {
            match door.denied.allow(&party).await {
                Ok(()) => door.list().allow(&party),
                Err(error) => tracing::warn!(%party, %error, "entry that ended was not removed"),
            }
        }
    }
}

async fn sweep(office: &Office, account: &str) -> Result<(), QueueError> {
    let door = &office.door;
    for peer in door.system.peers(account).await? {
        let denied = door.list().denial_of(account, &peer.name, unix_ms()).map(|found| found.0);
        if let Some(party) = denied {
            end(office, &peer, &party).await;
        }
    }
    Ok(())
}

async fn end(office: &Office, peer: &Peer, party: &Party) {
    match office.door.system.kick(peer).await {
        Ok(()) => tracing::info!(name = peer.name, %party, "connection ended"),
        Err(error) => tracing::debug!(name = peer.name, %error, "connection is gone already"),
    }
    if let Party::Worker(worker) = party {
        office.registry().gone(worker);
        if let Err(error) = office.desk.forget_worker(worker).await {
            tracing::warn!(%worker, %error, "registry entry was not removed; it ages out");
        }
        if let Err(error) = undertaker::give_up_audits_of(office, worker).await {
            tracing::warn!(%worker, %error, "its audits were not given up; they age out");
        }
    }
}
