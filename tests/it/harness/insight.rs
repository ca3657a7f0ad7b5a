//! What a farm's server and scheduler know of it: connections, blobs, what was found to be wrong.

use jetcc::queue::blobs::NatsBlobs;
use jetcc::queue::server_config::{SCHEDULER_USER, SYSTEM_USER};
use jetcc::queue::system::System;
use jetcc::queue::{Connection, Login, Password, Patience, Secret, TlsSettings, subjects};
use jetcc::store::blobs::Intake;
use jetcc::store::{Blobs, Limits};
use serde_json::Value;

use super::farm::Farm;

impl Farm {
    /// A connection as one of the server's own users, whose password is in the farm's secrets.
    async fn connect(&self, user: &str, password: &str) -> Connection {
        let login = Login {
            url: self.nats_url().to_owned(),
            tls: TlsSettings::default(),
            user: user.to_owned(),
            password: Password::Fixed(Secret::new(&self.setting("secrets", password))),
            inbox: subjects::inbox(user),
        };
        Connection::open(&login, "test", Patience::None).await.unwrap()
    }

    /// Page faults of all children that the client's daemon has had: none more, no child more.
    pub(crate) fn childrens_faults(&self) -> String {
        let [daemon] = self.daemons().try_into().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.id)).unwrap();
        // The fields after the name in parentheses begin with the state, the third of `proc(5)`.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        format!("minor {} major {}", fields[11 - 3], fields[13 - 3])
    }

    /// A connection with a scheduler's rights.
    pub(crate) async fn connect_as_scheduler(&self) -> Connection {
        self.connect(SCHEDULER_USER, "scheduler_password").await
    }

    /// The farm's blobs in NATS, with a scheduler's rights.
    pub(crate) async fn blobs(&self) -> Blobs {
        let backend = NatsBlobs::shared(self.connect_as_scheduler().await);
        Blobs::new(backend, Limits::default()).with(Intake::InPieces)
    }

    /// What the scheduler has counted of one kind of wrong things.
    pub(crate) async fn finding(&self, name: &str) -> u64 {
        let findings = self.findings().await;
        findings[name].as_u64().unwrap_or_else(|| panic!("no `{name}` in {findings}"))
    }

    /// What the scheduler has found to be wrong.
    pub(crate) async fn findings(&self) -> Value {
        self.status().await["SchedulerStatus"][1]["findings"].clone()
    }

    /// Names of all connections to `account`, as the server tells.
    pub(crate) async fn peers(&self, account: &str) -> Vec<String> {
        let connection = self.connect(SYSTEM_USER, "system_password").await;
        let peers = System::new(connection.clone()).peers(account).await.unwrap();
        connection.close().await;
        peers.into_iter().map(|peer| peer.name).collect()
    }
}
