//! The farm's nats-server: where its program is, on which ports it listens, what it holds.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use jetcc::config::Environment;
use jetcc::queue::server_config::Place;
use serde_json::Value;

use super::members::{Member, Variables};
use super::wait::until;

/// Lets the system choose a port.
const ANY: &str = "127.0.0.1:-1";

/// Listens on ports that the system chooses; keeps its streams below `folder`.
pub(crate) fn place(folder: &Path) -> Place {
    Place {
        listen: ANY.into(),
        monitor: ANY.into(),
        store_dir: folder.join("jetstream").display().to_string(),
    }
}

/// The server of the farm in `folder`, whose configuration was written already.
pub(crate) fn member(folder: &Path) -> Member {
    let ports = folder.join("ports");
    fs::create_dir(&ports).unwrap();
    let config = folder.join("farm/nats-server.conf");
    let arguments = vec!["-c".into(), config.into(), "--ports_file_dir".into(), ports.into()];
    let log = folder.join("nats-server.log");
    Member::new("nats-server", program(), arguments, Variables::new(), log)
}

/// The server that tests use: the project's own, else the machine's.
pub(crate) fn program() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/tools/bin/nats-server");
    let found = Environment::capture().find_program("nats-server");
    Some(own).filter(|own| own.exists()).or(found).expect("no nats-server\nhint: run `make tools`")
}

/// Where a running server listens.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) nats: String,
    pub(crate) monitor: String,
}

/// Waits until the server has written its ports, and makes it use them for good.
pub(crate) async fn settle(folder: &Path, scheme: &str) -> Addresses {
    let ports = until("nats-server says where it listens", async || {
        let file = fs::read_dir(folder.join("ports")).unwrap().flatten().next()?;
        serde_json::from_str::<Value>(&fs::read_to_string(file.path()).ok()?).ok()
    })
    .await;
    let address = |kind: &str| {
        let url = ports[kind][0].as_str().unwrap();
        url.split_once("://").unwrap().1.to_owned()
    };
    let (nats, monitor) = (address("nats"), address("monitoring"));
    let config = folder.join("farm/nats-server.conf");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replacen(ANY, &nats, 1).replacen(ANY, &monitor, 1);
    fs::write(config, text).unwrap();
    Addresses { nats: format!("{scheme}://{nats}"), monitor }
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Messages in it.
    pub(crate) messages: u64,
    /// Deliveries of its consumers that were not acknowledged.
    pub(crate) unacknowledged: u64,
    /// Messages that a consumer has not seen.
    pub(crate) unseen: u64,
}

impl Addresses {
    /// What `stream` holds; nothing when it does not exist or the server does not answer.
    pub(crate) fn held(&self, stream: &str) -> Held {
        let page = self.page("/jsz?accounts=true&streams=true&consumers=true");
        let accounts = page["account_details"].as_array().into_iter().flatten();
        let mut streams = accounts.flat_map(|a| a["stream_detail"].as_array()).flatten();
        let Some(found) = streams.find(|found| found["name"] == stream) else {
            return Held::default();
        };
        let consumers = found["consumer_detail"].as_array().cloned().unwrap_or_default();
        let sum = |field: &str| consumers.iter().filter_map(|c| c[field].as_u64()).sum();
        Held {
            messages: found["state"]["messages"].as_u64().unwrap_or(0),
            unacknowledged: sum("num_ack_pending"),
            unseen: sum("num_pending"),
        }
    }

    /// How many messages `stream` was ever given.
    pub(crate) fn ever_held(&self, stream: &str) -> u64 {
        let page = self.page("/jsz?accounts=true&streams=true");
        let accounts = page["account_details"].as_array().into_iter().flatten();
        let mut streams = accounts.flat_map(|a| a["stream_detail"].as_array()).flatten();
        let found = streams.find(|found| found["name"] == stream);
        found.and_then(|found| found["state"]["last_seq"].as_u64()).unwrap_or(0)
    }

    /// A page of the monitor.
    fn page(&self, path: &str) -> Value {
        let mut answer = String::new();
        let asked = TcpStream::connect(&self.monitor).and_then(|mut stream| {
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut answer)
        });
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        if asked.is_err() { Value::Null } else { serde_json::from_str(body).unwrap_or_default() }
    }
}
