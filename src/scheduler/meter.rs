//! Counts what clients send, as the servers know it, and stops the uploads of tenants that have sent
//! too much: their connections are ended, and let in again without the right to store blobs.
//!
//! Uploads pass by the schedulers, so that an answer alone would stop nobody who does not listen. All
//! schedulers count the same; what one of them finds holds for all.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::job::{Principal, Tenant};
use crate::queue::QueueError;
use crate::queue::callout::Admission;
use crate::queue::permissions::{self, CLIENT_ACCOUNT, Uploads};
use crate::queue::system::{Departures, Peer, System};

use super::quota::{Key, Meter, Over};
use super::reception::Office;

/// How often the servers are asked; a third of the time for which an answer holds.
const EVERY: Duration = Duration::from_secs(1);
/// A connection that may not upload sends questions alone; one that sent more than this, in bytes, is
/// one that another scheduler let in just before it heard.
const QUESTIONS_BYTES_MAX: u64 = 1 << 20;

/// How long such a connection is let in; then its client comes back and is judged anew.
const STOPPED_SECONDS: u64 = 60;

/// Takes the right to store blobs from a client whose tenant has sent too much.
pub fn restrict(office: &Office, admission: Admission) -> Admission {
    match admission.name.parse::<Principal>() {
        Ok(from)
            if admission.account == CLIENT_ACCOUNT && office.has_sent_too_much(&from.tenant) =>
        {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let again = since.as_secs() + STOPPED_SECONDS;
            let expires = Some(admission.expires.map_or(again, |expires| expires.min(again)));
            let permissions = permissions::client(&from.client, &from.space, Uploads::Stopped);
            Admission { permissions, expires, ..admission }
        }
        _ => admission,
    }
}

/// Hears what other schedulers find.
pub async fn hear(office: Arc<Office>) {
    match office.desk.overs().await {
        Err(error) => tracing::error!(%error, "other schedulers are not heard"),
        Ok(mut overs) => loop {
            let tenant = overs.next().await;
            office.is_said_to_be_over(&tenant);
        },
    }
}

/// Counts for ever.
pub async fn watch(office: Arc<Office>, system: System) {
    let departures = match system.departures(CLIENT_ACCOUNT).await {
        Ok(departures) => departures,
        Err(error) => return tracing::error!(%error, "uploads are not counted"),
    };
    let mut watch = Watch { office, system, meter: Meter::default() };
    watch.begin().await;
    watch.go_on(departures).await;
}

struct Watch {
    office: Arc<Office>,
    system: System,
    meter: Meter,
}

/// What the loop waits for.
enum Event {
    Left(Peer),
    Tick,
}

impl Watch {
    /// What connections sent before this scheduler was there is nothing that it may judge.
    async fn begin(&mut self) {
        let now = Instant::now();
        for (key, _, peer) in self.peers().await.unwrap_or_default() {
            self.meter.know(key, peer.sent_bytes, now);
        }
    }

    async fn go_on(&mut self, mut departures: Departures) {
        let mut clock = tokio::time::interval(EVERY);
        loop {
            let event = tokio::select! {
                peer = departures.next() => Event::Left(peer),
                _ = clock.tick() => Event::Tick,
            };
            match event {
                Event::Left(peer) => {
                    if let Some((key, tenant)) = identify(&peer) {
                        self.meter.ended(&key, &tenant, peer.sent_bytes, Instant::now());
                    }
                }
                Event::Tick => match self.peers().await {
                    Ok(peers) => self.look(&peers).await,
                    Err(error) => tracing::warn!(%error, "uploads were not counted"),
                },
            }
        }
    }

    async fn peers(&self) -> Result<Vec<(Key, Tenant, Peer)>, QueueError> {
        let peers = self.system.peers(CLIENT_ACCOUNT).await?;
        let named = peers.into_iter().filter_map(|peer| {
            let (key, tenant) = identify(&peer)?;
            Some((key, tenant, peer))
        });
        Ok(named.collect())
    }

    async fn look(&mut self, peers: &[(Key, Tenant, Peer)]) {
        let now = Instant::now();
        for (key, tenant, peer) in peers {
            self.meter.count(key.clone(), tenant, peer.sent_bytes, now);
        }
        for (tenant, since) in self.meter.over(&self.office.quotas, now) {
            self.office.is_said_to_be_over(&tenant);
            self.office.desk.say_over(&tenant).await;
            let spared = match since {
                Over::New => {
                    tracing::warn!(%tenant, "tenant has sent too much: its uploads are stopped");
                    0
                }
                Over::Still => QUESTIONS_BYTES_MAX,
            };
            self.end(peers, &tenant, spared).await;
        }
    }

    /// Ends the connections of `tenant` that sent more than `bytes`: their clients come back, and get
    /// the rights that they have now.
    async fn end(&self, peers: &[(Key, Tenant, Peer)], tenant: &Tenant, bytes: u64) {
        for (_, theirs, peer) in peers {
            if theirs == tenant
                && peer.sent_bytes > bytes
                && let Err(error) = self.system.kick(peer).await
            {
                tracing::debug!(%tenant, %error, "connection was not ended");
            }
        }
    }
}

/// Which connection it is, and whose; none of workers and strangers.
fn identify(peer: &Peer) -> Option<(Key, Tenant)> {
    let (server, number) = peer.key();
    Some(((server.to_owned(), number), peer.name.parse::<Principal>().ok()?.tenant))
}
