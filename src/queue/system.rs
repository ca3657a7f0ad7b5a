//! The servers' own view of the farm: who is connected, how much each has sent, and the way to end
//! a connection at once.
//!
//! Format: requests to the system account, `$SYS.REQ.SERVER.…`, answered by every server of a
//! cluster.

use std::time::Duration;

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::json;

use super::connect::{Connection, QueueError};
use super::{streams, subjects};

/// How long the servers of a cluster have for their answers; how many they are is not known.
const GATHER: Duration = Duration::from_millis(300);
/// Connections in one answer, which has to stay below a message's largest size.
const PAGE: usize = 512;

/// A connection in the system account.
#[derive(Clone, Debug)]
pub struct System(Connection);

/// Somebody who is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which server holds the connection.
    server: String,
    /// Its number there.
    number: u64,
    /// Name under which it was let in: a [`Principal`](crate::job::Principal) or a worker id.
    pub name: String,
    /// Bytes that it has sent since it connected.
    pub sent_bytes: u64,
}

impl Peer {
    /// Tells connections apart, those of one name included.
    pub fn key(&self) -> (&str, u64) {
        (&self.server, self.number)
    }
}

/// Connections that end, as the servers say it.
#[derive(Debug)]
pub struct Departures(Subscriber);

impl Departures {
    /// The next one, with all that it has sent.
    pub async fn next(&mut self) -> Peer {
        loop {
            match self.0.next().await {
                None => std::future::pending().await,
                Some(message) => match serde_json::from_slice::<Departure>(&message.payload) {
                    Err(error) => tracing::warn!(%error, "unreadable end of a connection"),
                    Ok(Departure { server, client, sent }) => {
                        let (number, name, sent_bytes) = (client.id, client.user, sent.bytes);
                        return Peer { server: server.id, number, name, sent_bytes };
                    }
                },
            }
        }
    }
}

#[derive(Deserialize)]
struct Departure {
    server: Server,
    client: Departed,
    sent: Traffic,
}

#[derive(Deserialize)]
struct Departed {
    id: u64,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
struct Traffic {
    bytes: u64,
}

#[derive(Deserialize)]
struct Answer {
    server: Server,
    #[serde(default)]
    data: Page,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Server {
    id: String,
}

#[derive(Deserialize)]
struct Refusal {
    description: String,
}

#[derive(Default, Deserialize)]
struct Page {
    #[serde(default)]
    total: usize,
    #[serde(default)]
    connections: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    cid: u64,
    #[serde(default)]
    authorized_user: String,
    #[serde(default)]
    in_bytes: u64,
}

impl System {
    /// Over a connection of the user [`SYSTEM_USER`](super::server_config::SYSTEM_USER).
    pub fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// Everybody who is connected to `account`, on every server.
    ///
    /// # Errors
    /// [`QueueError`] when no server answers.
    pub async fn peers(&self, account: &str) -> Result<Vec<Peer>, QueueError> {
        let mut peers = Vec::new();
        for answer in self.ask_all(account).await? {
            let mut page = read(&answer)?;
            let mut seen = page.data.connections.len();
            let total = page.data.total;
            let server = page.server.id.clone();
            add(&mut peers, page);
            while seen < total {
                page = self.page_of(&server, account, seen).await?;
                if page.data.connections.is_empty() {
                    break;
                }
                seen += page.data.connections.len();
                add(&mut peers, page);
            }
        }
        Ok(peers)
    }

    /// Hears of every connection to `account` that ends.
    ///
    /// # Errors
    /// [`QueueError::Disconnected`] when the connection is gone.
    pub async fn departures(&self, account: &str) -> Result<Departures, QueueError> {
        let subject = subjects::system_disconnects(account);
        let heard = self.0.client().subscribe(subject).await;
        heard.map(Departures).map_err(|_| QueueError::Disconnected)
    }

    /// Ends a connection; its owner may try again, and is asked who it is.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer or refuses.
    pub async fn kick(&self, peer: &Peer) -> Result<(), QueueError> {
        let subject = subjects::system_request(&peer.server, "KICK");
        let answer = self.request(subject.clone(), json!({ "cid": peer.number })).await?;
        match read(&answer)?.error {
            None => Ok(()),
            Some(refusal) => {
                Err(QueueError::Refused { what: subject, message: refusal.description })
            }
        }
    }

    async fn ask_all(&self, account: &str) -> Result<Vec<Bytes>, QueueError> {
        let client = self.0.client();
        let inbox = client.new_inbox();
        let lost = |_| QueueError::Disconnected;
        let mut answers = client.subscribe(inbox.clone()).await.map_err(lost)?;
        let question = question(account, 0).to_string();
        let subject = subjects::SYSTEM_PING_CONNECTIONS;
        let asked = client.publish_with_reply(subject, inbox, question.into()).await;
        asked.map_err(|error| streams::refused(subject, &error))?;
        let mut all = Vec::new();
        while let Ok(Some(message)) = tokio::time::timeout(GATHER, answers.next()).await {
            all.push(message.payload);
        }
        if all.is_empty() { Err(QueueError::TimedOut(subject.to_owned())) } else { Ok(all) }
    }

    async fn page_of(
        &self,
        server: &str,
        account: &str,
        offset: usize,
    ) -> Result<Answer, QueueError> {
        let subject = subjects::system_request(server, "CONNZ");
        read(&self.request(subject, question(account, offset)).await?)
    }

    async fn request(
        &self,
        subject: String,
        question: serde_json::Value,
    ) -> Result<Bytes, QueueError> {
        let asked = self.0.client().request(subject.clone(), question.to_string().into()).await;
        let answer = asked.map_err(|error| streams::refused(&subject, &error))?;
        Ok(answer.payload)
    }
}

fn question(account: &str, offset: usize) -> serde_json::Value {
    json!({ "auth": true, "acc": account, "limit": PAGE, "offset": offset })
}

fn read(answer: &[u8]) -> Result<Answer, QueueError> {
    serde_json::from_slice(answer).map_err(|error| QueueError::BadAnswer {
        subject: subjects::SYSTEM_PING_CONNECTIONS.to_owned(),
        message: error.to_string(),
    })
}

fn add(peers: &mut Vec<Peer>, answer: Answer) {
    let server = answer.server.id;
    peers.extend(answer.data.connections.into_iter().map(|entry| Peer {
        server: server.clone(),
        number: entry.cid,
        name: entry.authorized_user,
        sent_bytes: entry.in_bytes,
    }));
}
