//! Secrets stay where they are written: after everything that a farm does, with every log at its
//! loudest, none of them is in a log, a command line, an answer or the server's files. Neither is
//! what the client's environment holds besides the compiler's own variables.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use jetcc::exec::Finished;
use toml::Value;

use crate::harness::farm::Farm;
use crate::harness::processes;
use crate::harness::project::{Project, SLOW, files_in};
use crate::harness::s3::{self, S3Server};
use crate::harness::wait::until;

/// Keys whose values are secrets.
const SECRET_KEYS: [&str; 8] = [
    "token",
    "secret_key",
    "scheduler_password",
    "auth_password",
    "system_password",
    "callout_seed",
    "proof_key",
    "secret_access_key",
];
/// In the client's environment, and nobody else's business.
const PRIVATE: (&str, &str) = ("AWS_SECRET_ACCESS_KEY", "PrivateToTheClient4711");
/// What a mistaken client shows instead of the token.
const WRONG_TOKEN: &str = "SomebodysOtherPassword0815";
/// In the source: it travels, but not into logs.
const SOURCE_TEXT: &str = "words_of_the_source_that_nobody_logs";
/// Start of a zstd frame.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Shortest part of a JWT that could hold a secret, in characters.
const JWT_PART_MIN: usize = 24;
/// Most bytes of one frame that are looked at.
const FRAME_BYTES_MAX: u64 = 64 << 20;

#[tokio::test]
async fn no_secret_leaves_its_file() {
    let farm = Farm::builder().log("trace").start().await;
    journey(farm).await;
}

#[tokio::test]
async fn no_secret_of_an_object_store_leaves_its_file() {
    let server = S3Server::start();
    let store = s3::section(&server.settings("farm/"));
    let farm = Farm::builder().log("trace").stored(&store).start().await;
    journey(farm).await;
}

async fn journey(mut farm: Farm) {
    farm.set_variable(PRIVATE.0, PRIVATE.1);
    farm.set_variable("JETCC_DIST_TOOLCHAIN_WAIT_SECONDS_MAX", "120");
    let secrets = secrets(&farm);
    let mut answers = Vec::new();

    let text = format!("int f(void) {{ return 0; }} // {SOURCE_TEXT}\n");
    let project = Project::new(&[("a.c", text.as_str()), ("bad.c", "int {\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    answers.extend(project.through(&farm, &["gcc -c bad.c"]).await.runs);
    answers.extend(ask_everything(&farm).await);

    // While a job stands in the queue and runs.
    let slow = Project::slow(21);
    let compile = slow.begin(&farm, SLOW).await;
    farm.compiles("worker-1", "slow.cc").await;
    let held = until("the job is in the server's files", async || {
        Some(files_in(&farm.path("jetstream"))).filter(|files| contains(files, b"slow.cc"))
    })
    .await;
    check_files("the server while a job runs", &held, &secrets);
    check_command_lines(&farm, &secrets);
    compile.same().await;

    farm.stop("worker-1").await;
    farm.start_again("worker-1").await;
    farm.wait_for_workers(1).await;

    // Somebody who has the wrong token, and settings that are wrong.
    let right = farm.setting("client", "dist.auth.token");
    farm.stop_daemon().await;
    farm.set_variable("JETCC_DIST_AUTH_TOKEN", WRONG_TOKEN);
    assert_eq!(project.same(&farm, &["gcc -O1 -c a.c"]).await, 0);
    answers.extend(ask_everything(&farm).await);
    farm.stop_daemon().await;
    farm.set_variable("JETCC_DIST_AUTH_TOKEN", right.as_str());
    farm.set_variable("JETCC_DIST_QUEUE_WAIT_SECONDS_MAX", "soon");
    answers.push(farm.jetcc(Path::new("/"), &["--dist-status"]).await);
    farm.set_variable("JETCC_DIST_QUEUE_WAIT_SECONDS_MAX", "30");

    let mut said = String::new();
    for Finished { stdout, stderr, .. } in &answers {
        said += &String::from_utf8_lossy(&[&stdout[..], stderr].concat());
    }
    check_text("an answer", said.as_bytes(), &secrets);
    // Logs, the server's streams, the caches of client and workers: all but the settings.
    let mut files = files_in(&farm.path(""));
    files.retain(|name, _| !name.starts_with("farm/"));
    let logs: Vec<&String> = files.keys().filter(|name| name.ends_with(".log")).collect();
    assert_eq!(logs.len(), 4, "{logs:?}");
    for name in logs {
        let text = String::from_utf8_lossy(&files[name].1);
        let line = text.lines().find(|line| line.contains(SOURCE_TEXT));
        assert!(line.is_none(), "source text is in {name}: {line:?}");
        let loud = name == "nats-server.log" || text.contains("DEBUG");
        assert!(loud, "{name} is quiet");
        check_text(name, text.as_bytes(), &secrets);
    }
    check_files("the farm", &files, &secrets);
    farm.finish().await;
}

/// Every short command that says something.
async fn ask_everything(farm: &Farm) -> Vec<Finished> {
    let mut answers = Vec::new();
    for arguments in [
        &["--dist-status"][..],
        &["--show-stats"],
        &["--show-stats", "--stats-format", "json"],
        &["explain"],
        &["explain", "a.c"],
        &["doctor"],
    ] {
        answers.push(farm.jetcc(Path::new("/"), arguments).await);
    }
    answers
}

/// All secrets by the key that holds them.
fn secrets(farm: &Farm) -> BTreeMap<String, String> {
    fn collect(role: &str, value: &Value, found: &mut BTreeMap<String, String>) {
        for (key, value) in value.as_table().into_iter().flatten() {
            match value.as_str() {
                Some(text) if SECRET_KEYS.contains(&key.as_str()) => {
                    found.insert(format!("{role} {key}"), text.to_owned());
                }
                _ => collect(role, value, found),
            }
        }
    }
    let mut found = BTreeMap::new();
    for role in ["client", "worker", "scheduler", "secrets"] {
        let text = fs::read_to_string(farm.path(&format!("farm/{role}.toml"))).unwrap();
        collect(role, &Value::Table(text.parse().unwrap()), &mut found);
    }
    assert!(found.len() >= 9, "{:?}", found.keys());
    // A worker's token without its signature opens nothing; the signature alone must not be seen.
    let signature = found["worker token"].rsplit('.').next().unwrap().to_owned();
    found.insert("worker signature".into(), signature);
    found.insert(PRIVATE.0.into(), PRIVATE.1.into());
    found.insert("a wrong token".into(), WRONG_TOKEN.into());
    found
}

fn check_files(
    what: &str,
    files: &BTreeMap<String, (u32, Vec<u8>)>,
    secrets: &BTreeMap<String, String>,
) {
    for (name, (_, bytes)) in files {
        check(&format!("{what}: {name}"), bytes, secrets);
        for frame in frames(bytes) {
            check(&format!("{what}: a blob in {name}"), &frame, secrets);
        }
    }
}

/// Asserts that none of `secrets` is in `bytes`, without showing any.
fn check(what: &str, bytes: &[u8], secrets: &BTreeMap<String, String>) {
    for (name, secret) in secrets {
        assert!(find(bytes, secret.as_bytes()).is_none(), "{name} is in {what}");
    }
}

/// Asserts that none of `secrets` is in text for people, inside a JWT neither: that is how the server
/// hands them to schedulers.
fn check_text(what: &str, text: &[u8], secrets: &BTreeMap<String, String>) {
    check(what, text, secrets);
    let is_text = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    for word in text.split(|byte| !is_text(byte)).filter(|word| word.len() >= JWT_PART_MIN) {
        if let Ok(part) = BASE64URL_NOPAD.decode(word) {
            check(&format!("{what}, in base64"), &part, secrets);
        }
    }
}

fn check_command_lines(farm: &Farm, secrets: &BTreeMap<String, String>) {
    let processes = processes::naming(&farm.path("").display().to_string());
    assert!(processes.len() >= 4, "{processes:?}");
    for process in processes {
        check("a command line", process.words.as_bytes(), secrets);
    }
}

fn contains(files: &BTreeMap<String, (u32, Vec<u8>)>, text: &[u8]) -> bool {
    files.values().any(|(_, bytes)| find(bytes, text).is_some())
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, text)
}

/// What the zstd frames in `bytes` hold, as far as it can be read.
fn frames(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    memchr::memmem::find_iter(bytes, &ZSTD).map(|at| {
        let mut content = Vec::new();
        let decoder = zstd::Decoder::new(&bytes[at..]).unwrap().single_frame();
        // A file that looks like one, or a frame with another message's header in it.
        let _ = decoder.take(FRAME_BYTES_MAX).read_to_end(&mut content);
        content
    })
}
