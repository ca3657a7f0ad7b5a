//! Encrypted connections with generated certificates, and plain ones that must not leave the machine.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::ops::Range;

use jetcc::exec::Ended;
use jetcc::queue::tls::worker_name;
use jetcc::setup::certificates::{Authority, Purpose, valid_for};
use jetcc::setup::{Shown, put_pair};
use rustix::process::Signal;

use crate::harness::farm::Farm;
use crate::harness::project::Project;
use crate::harness::wait::until;

/// A compile for each occasion.
fn project(name: &str) -> (Project, String) {
    let source = format!("{name}.c");
    (Project::new(&[(source.as_str(), format!("int {name};\n"))]), format!("gcc -c {source}"))
}

/// Compiles until that is not local any more: the client gives a farm in trouble a rest.
async fn compiles_remotely(farm: &Farm, name: &str) {
    let (project, command) = project(name);
    until("compiles are remote", async || {
        let ran = project.same(farm, &[&command]).await == 1;
        (ran || farm.stats().await.hits() > 0).then_some(())
    })
    .await;
}

/// A compile is local for `reason`, and says `words`.
async fn compiles_locally(farm: &Farm, name: &str, reason: &str, words: &str) {
    let (project, command) = project(name);
    farm.stop_daemon().await;
    assert_eq!(project.same(farm, &[&command]).await, 0);
    assert_eq!(farm.stats().await.local_for(reason), 1, "{:?}", farm.stats().await);
    let explained = farm.explain(name).await;
    assert!(explained.contains(words), "{explained}");
    farm.stop_daemon().await;
}

/// Gives the server another certificate while it runs.
async fn give_the_server(farm: &Farm, host: &str, valid: &Range<u64>) {
    let folder = farm.path("farm");
    for file in ["server.pem", "server.key"] {
        fs::remove_file(folder.join(file)).unwrap();
    }
    let authority = Authority::open(&folder).unwrap();
    let pair = authority.sign(Purpose::Serve, &[host.to_owned()], valid).unwrap();
    put_pair(&folder.join("server"), &pair).unwrap();
    let before = farm.member("nats-server").count_said("Reloaded server configuration");
    farm.signal("nats-server", Signal::HUP);
    until("the server has read its files again", async || {
        let said = farm.member("nats-server").count_said("Reloaded server configuration");
        (said > before).then_some(())
    })
    .await;
}

/// Address of this machine that is not a loopback's; without a network the unspecified one, which
/// leads here too.
fn address_of_this_machine() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing: only the way is looked up.
    let found = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr());
    let address = found.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip());
    assert!(!address.is_loopback());
    address
}

#[tokio::test]
async fn a_farm_works_encrypted_and_after_its_server_was_restarted() {
    let mut farm = Farm::builder().tls(Shown::ByServer).start().await;
    compiles_remotely(&farm, "a").await;
    farm.kill("nats-server").await;
    farm.start_again("nats-server").await;
    farm.wait_for_workers(1).await;
    compiles_remotely(&farm, "b").await;
    farm.finish().await;
}

#[tokio::test]
async fn only_the_right_server_is_spoken_to() {
    let mut farm = Farm::builder().tls(Shown::ByServer).start().await;
    // It reads its files again only while its ports stay as they are: now they are settled.
    farm.kill("nats-server").await;
    farm.start_again("nats-server").await;
    let (_, other) = Authority::make().unwrap();
    fs::write(farm.path("farm/other.pem"), other.certificate).unwrap();
    farm.set("client", "dist.tls.ca_file = 'other.pem'");
    compiles_locally(&farm, "wrong_authority", "no-server", "UnknownIssuer").await;
    farm.set("client", "dist.tls.ca_file = 'ca.pem'");
    give_the_server(&farm, "127.0.0.1", &(1_000_000_000..1_100_000_000)).await;
    compiles_locally(&farm, "expired", "no-server", "xpired").await;
    give_the_server(&farm, "nats.example", &valid_for(3_600)).await;
    compiles_locally(&farm, "wrong_host", "no-server", "not valid for name").await;
    give_the_server(&farm, "127.0.0.1", &valid_for(3_600)).await;
    compiles_remotely(&farm, "right").await;
    farm.finish().await;
}

#[tokio::test]
async fn without_the_systems_trust_a_private_authority_must_be_named() {
    let farm = Farm::builder().tls(Shown::ByServer).start().await;
    let auth = farm.setting("client", "dist.auth.token");
    farm.unset("client", "dist");
    farm.set("client", &format!("[dist.auth]\ntype = 'token'\ntoken = '{auth}'"));
    compiles_locally(&farm, "a", "no-server", "ca_file").await;
    farm.finish().await;
}

#[tokio::test]
async fn a_server_without_encryption_is_not_spoken_to_over_tls() {
    let mut farm = Farm::builder().start().await;
    let url = farm.nats_url().replace("nats://", "tls://");
    farm.set_variable("JETCC_DIST_SCHEDULER_URL", url);
    compiles_locally(&farm, "a", "no-server", "`tls` block").await;
    farm.finish().await;
}

#[tokio::test]
async fn with_mutual_tls_a_worker_shows_the_certificate_of_its_name() {
    let mut farm = Farm::builder().tls(Shown::ByAll).start().await;
    compiles_remotely(&farm, "for_any_worker").await;
    farm.stop("worker-1").await;

    farm.unset("worker", "tls");
    farm.set("worker", "tls.ca_file = 'ca.pem'");
    farm.start_unready("worker-1");
    until("the server wants a certificate", async || {
        farm.member("worker-1").said("CertificateRequired").then_some(())
    })
    .await;
    compiles_locally(&farm, "none", "no-worker", "no-worker").await;
    farm.stop("worker-1").await;

    let folder = farm.path("farm");
    let authority = Authority::open(&folder).unwrap();
    for (file, name) in [("own", worker_name("worker-1")), ("others", worker_name("worker-2"))] {
        let pair = authority.sign(Purpose::Connect, &[name], &valid_for(3_600)).unwrap();
        put_pair(&folder.join(file), &pair).unwrap();
    }
    // The scheduler says the same of the same worker once a minute, the worker each time.
    for file in ["client", "others"] {
        farm.set("worker", &format!("tls.cert_file = '{file}.pem'\ntls.key_file = '{file}.key'"));
        farm.start_unready("worker-1");
        until("the worker is turned away", async || {
            farm.member("worker-1").said("turned `worker-1` away").then_some(())
        })
        .await;
        assert!(farm.member("scheduler").said("is not for `worker-1.worker.jetcc`"));
        farm.stop("worker-1").await;
    }
    farm.set("worker", "tls.cert_file = 'own.pem'\ntls.key_file = 'own.key'");
    farm.start_again("worker-1").await;
    farm.wait_for_workers(1).await;
    compiles_remotely(&farm, "by_its_own").await;
    farm.finish().await;
}

#[tokio::test]
async fn with_mutual_tls_a_client_shows_a_certificate_of_the_farm() {
    let farm = Farm::builder().tls(Shown::ByAll).start().await;
    let (authority, _) = Authority::make().unwrap();
    let stranger = authority.sign(Purpose::Connect, &["client.jetcc".into()], &valid_for(3_600));
    put_pair(&farm.path("farm/stranger"), &stranger.unwrap()).unwrap();
    farm.set("client", "[dist.tls]\ncert_file = 'stranger.pem'\nkey_file = 'stranger.key'");
    compiles_locally(&farm, "stranger", "no-server", "cert_file").await;
    // The server's own certificate is for serving.
    farm.set("client", "[dist.tls]\ncert_file = 'server.pem'\nkey_file = 'server.key'");
    compiles_locally(&farm, "server", "no-server", "cert_file").await;
    farm.set("client", "[dist.tls]\ncert_file = 'client.pem'\nkey_file = 'client.key'");
    compiles_remotely(&farm, "own").await;
    farm.finish().await;
}

#[tokio::test]
async fn a_certificate_that_the_server_does_not_ask_for_is_missed() {
    let mut farm = Farm::builder().tls(Shown::ByServer).start().await;
    farm.stop("worker-1").await;
    farm.stop("scheduler").await;
    farm.set("scheduler", "require_worker_certificate = true");
    farm.start_again("scheduler").await;
    let authority = Authority::open(&farm.path("farm")).unwrap();
    let pair = authority.sign(Purpose::Connect, &[worker_name("*")], &valid_for(3_600)).unwrap();
    put_pair(&farm.path("farm/worker"), &pair).unwrap();
    farm.set("worker", "tls.cert_file = 'worker.pem'\ntls.key_file = 'worker.key'");
    farm.start_unready("worker-1");
    until("the scheduler turns the worker away", async || {
        farm.member("scheduler").said("showed no certificate").then_some(())
    })
    .await;
    farm.signal("worker-1", Signal::TERM);
    farm.finish().await;
}

#[tokio::test]
async fn nothing_leaves_the_machine_unencrypted_unless_that_is_said() {
    let mut farm = Farm::builder().start().await;
    let here = farm.nats_url().to_owned();
    let port = here.rsplit_once(':').unwrap().1.to_owned();
    let away = format!("nats://{}:{port}", address_of_this_machine());
    // The second server of a list counts too.
    for url in [away.clone(), format!("{here},{away}")] {
        farm.set_variable("JETCC_DIST_SCHEDULER_URL", &url);
        compiles_locally(&farm, "refused", "no-server", "another machine").await;
        farm.set_variable("JETCC_NATS_URL", &url);
        for role in ["scheduler", "worker"] {
            let config = farm.path(&format!("farm/{role}.toml")).display().to_string();
            let done = farm.jetcc(&farm.path("farm"), &[role, "--config", &config]).await;
            assert_eq!(done.status, Ended::Code(64), "{done:?}");
            let words = String::from_utf8_lossy(&done.stderr);
            let told = ["another machine", "wanted `tls://`", "allow_plaintext_over_network"];
            assert!(told.iter().all(|told| words.contains(told)), "{words}");
        }
    }

    let config = farm.path("farm/nats-server.conf");
    let text = fs::read_to_string(&config).unwrap();
    let own = format!("listen: \"127.0.0.1:{port}\"");
    assert!(text.contains(&own));
    fs::write(config, text.replace(&own, &format!("listen: \"0.0.0.0:{port}\""))).unwrap();
    farm.kill("nats-server").await;
    farm.start_again("nats-server").await;
    farm.set_variable("JETCC_DIST_SCHEDULER_URL", &away);
    farm.set_variable("JETCC_DIST_TLS_ALLOW_PLAINTEXT_OVER_NETWORK", "true");
    farm.wait_for_workers(1).await;
    compiles_remotely(&farm, "allowed").await;
    farm.finish().await;
}
