//! Who connects: questions of the server, and the tokens in them. Nobody is let in without a secret.
//!
//! The first byte says what the rest is: a whole question, the claims of one that the server signed,
//! a client's user name and password, or a worker's token (header, claims) under the right key.
#![no_main]

use std::sync::LazyLock;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jetcc::job::{Pool, Principal};
use jetcc::queue::callout::{self, Admission, Caller};
use jetcc::queue::permissions::{CLIENT_ACCOUNT, WORKER_ACCOUNT};
use jetcc::scheduler::Settings;
use jetcc::scheduler::identity::Identity;
use libfuzzer_sys::fuzz_target;
use nkeys::{KeyPair, KeyPairType};
use serde_json::json;
use sha2::Sha256;
use tokio::runtime::{Builder, Runtime};

const TOKEN: &str = "the token that clients share";
const KEY: [u8; 32] = [7; 32];

static SERVER: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::new_from_raw(KeyPairType::Server, KEY).expect("a key"));
/// Decides, and what it decides on: nothing of it waits for anybody.
static FARM: LazyLock<(Identity, Runtime)> = LazyLock::new(|| {
    let settings: Settings = serde_json::from_value(json!({
        "nats_url": "nats://localhost:4222",
        "secrets_file": "secrets.toml",
        "client_auth": [
            {"type": "token", "token": TOKEN},
            {"type": "jwt_hs256", "secret_key": BASE64URL_NOPAD.encode(&[8; 32])},
        ],
        "server_auth": {"type": "jwt_hs256", "secret_key": BASE64URL_NOPAD.encode(&KEY)},
    }))
    .expect("settings");
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    (runtime.block_on(Identity::new(&settings)).expect("ways to know callers"), runtime)
});

fn admit(caller: &Caller) -> Result<Admission, String> {
    let (identity, runtime) = &*FARM;
    runtime.block_on(identity.admit(caller))
}

fuzz_target!(|data: &[u8]| {
    let Some((shape, rest)) = data.split_first() else { return };
    match shape % 4 {
        0 => drop(callout::read(rest)),
        1 => {
            let _ = callout::read(&question(rest));
        }
        2 => {
            let text = String::from_utf8_lossy(rest);
            let (user, password) = text.split_once('\0').unwrap_or((&text, ""));
            let caller = asked(user, password);
            if let Ok(admission) = admit(&caller) {
                assert_eq!(password.trim(), TOKEN);
                // The name is the whole principal; the user's own part comes last.
                assert!(admission.name.ends_with(user) && admission.account == CLIENT_ACCOUNT);
                assert_eq!(
                    admission.name.parse::<Principal>().expect("a principal").to_string(),
                    admission.name
                );
            }
        }
        _ => worker(rest),
    }
});

/// A token with any header and any claims, signed as a worker's is.
fn worker(data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (header, claims) = (&data[..cut], data.get(cut + 1..).unwrap_or_default());
    let input = format!("{}.{}", BASE64URL_NOPAD.encode(header), BASE64URL_NOPAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY).expect("any length");
    mac.update(input.as_bytes());
    let signature = BASE64URL_NOPAD.encode(&mac.finalize().into_bytes());
    let caller = asked("w1", &format!("{input}.{signature}"));
    if let Ok(admission) = admit(&caller) {
        let header: serde_json::Value = serde_json::from_slice(header).expect("a JSON header");
        let claims: serde_json::Value = serde_json::from_slice(claims).expect("JSON claims");
        assert_eq!(header["alg"], "HS256");
        assert_eq!(claims["role"], "worker");
        assert!(claims["sub"] == "w1" || claims["sub"] == "*");
        assert_eq!((admission.name.as_str(), admission.account), ("w1", WORKER_ACCOUNT));
        assert_eq!(claims["exp"].as_u64(), admission.expires);
        let pools: Vec<Pool> =
            serde_json::from_value(claims["pools"].clone()).expect("names of pools");
        assert!(admission.permissions.publish.len() < 1_000 + 10 * pools.len());
    }
}

fn asked(user: &str, password: &str) -> Caller {
    let claims = json!({
        "iss": SERVER.public_key(),
        "nats": {
            "user_nkey": "U", "server_id": {"id": "S"},
            "connect_opts": {"user": user, "pass": password},
        },
    });
    callout::read(&question(claims.to_string().as_bytes())).expect("a question")
}

fn question(claims: &[u8]) -> Vec<u8> {
    let input = format!("e30.{}", BASE64URL_NOPAD.encode(claims));
    let signature = SERVER.sign(input.as_bytes()).expect("a signature");
    format!("{input}.{}", BASE64URL_NOPAD.encode(&signature)).into_bytes()
}
