//! The servers say who is connected, and end a connection when they are told.

use jetcc::queue::permissions::CLIENT_ACCOUNT;
use jetcc::queue::server_config::SYSTEM_USER;
use jetcc::queue::system::{Peer, System};
use jetcc::queue::{Connection, Login, Patience, TlsSettings, subjects};

use crate::harness::attacker::Attacker;
use crate::harness::farm::Farm;
use crate::harness::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_seen_and_ended() {
    let farm = Farm::builder().workers(0).start().await;
    let login = Login {
        url: farm.nats_url().to_owned(),
        tls: TlsSettings::default(),
        user: SYSTEM_USER.to_owned(),
        password: jetcc::queue::Secret::new(&farm.setting("secrets", "system_password")).into(),
        inbox: subjects::inbox(SYSTEM_USER),
    };
    let connection = Connection::open(&login, "test", Patience::None).await.unwrap();
    let system = System::new(connection.clone());
    let token = farm.setting("client", "dist.auth.token");
    let alice = Attacker::connect(&farm, "alice", &token).await;
    alice.ask("farm.c.alice.status", "_INBOX.alice.heard", &[7; 1_000]).await;
    let found = until("the server says that alice is there and has sent it", async || {
        let peers = system.peers(CLIENT_ACCOUNT).await.unwrap();
        let hers = |peer: &Peer| peer.name == "alice/shared/alice/alice";
        peers.into_iter().find(|peer| hers(peer) && peer.sent_bytes >= 1_000)
    })
    .await;
    system.kick(&found).await.unwrap();
    until("her connection is another one", async || {
        let peers = system.peers(CLIENT_ACCOUNT).await.unwrap();
        let hers = peers.iter().filter(|peer| peer.name == found.name);
        hers.clone().all(|peer| peer.key() != found.key()).then_some(())
    })
    .await;
    connection.close().await;
    drop(alice);
    farm.finish().await;
}
