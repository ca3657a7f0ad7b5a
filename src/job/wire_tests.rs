//! What messages promise their readers.

use bytes::Bytes;
use serde::Serialize;

use super::wire::*;
use super::*;

#[test]
fn a_strange_version_is_named() {
    let mut bytes = encode(&Progress::Running).to_vec();
    assert_eq!(decode::<Progress>(&bytes).ok(), Some(Progress::Running));
    bytes[0] = 9;
    assert!(matches!(decode::<Progress>(&bytes), Err(WireError::Version(9))));
    assert!(matches!(decode::<Progress>(&[]), Err(WireError::Empty)));
}

#[test]
fn messages_from_before_reads_were_told_are_read() {
    /// A record as release 0.1.0 wrote it.
    #[derive(Serialize)]
    struct Old {
        outcome: Outcome,
        worker: WorkerId,
        recorded_unix_ms: u64,
        run_ms: f64,
    }
    let stream = || Content::Blob { digest: Digest::of(b""), size: 0 };
    let outcome = Outcome {
        exit: Exit::Code(0),
        stdout: stream(),
        stderr: stream(),
        outputs: Vec::new(),
        unexpected: Vec::new(),
    };
    let worker: WorkerId = "w1".parse().unwrap();
    let old = Old { outcome: outcome.clone(), worker, recorded_unix_ms: 1, run_ms: 2.0 };
    let record = decode::<ActionRecord>(&encode(&old)).unwrap();
    assert_eq!((record.outcome, record.reads), (outcome, None));
}

#[test]
fn a_request_from_before_trees_came_as_differences_is_read() {
    /// A request as release 0.1.0 wrote it.
    #[derive(Serialize)]
    struct Old {
        job: JobId,
        action: Action,
        inputs_zstd: Option<Bytes>,
        source_zstd: Option<Bytes>,
        references: Digest,
        deadline_unix_ms: u64,
        interactive: bool,
        cache: CacheUse,
    }
    let command = Command {
        executable: "/usr/bin/gcc".into(),
        arguments: vec!["gcc".into()],
        environment: std::collections::BTreeMap::new(),
        directory: "/w".into(),
    };
    let (digest, bytes) = (Digest::of(b""), Bytes::from_static(b"zstd"));
    let pool = "linux-x86_64".parse().unwrap();
    let action = Action {
        pool,
        toolchain: digest,
        command,
        inputs: digest,
        outputs: Vec::new(),
        terminal: None,
    };
    let old = Old {
        job: JobId::random().unwrap(),
        action: action.clone(),
        inputs_zstd: Some(bytes.clone()),
        source_zstd: Some(bytes.clone()),
        references: digest,
        deadline_unix_ms: 1,
        interactive: false,
        cache: CacheUse::ReadWrite,
    };
    // The source is asked for like any blob that is missing.
    let submit = decode::<Submit>(&encode(&old)).unwrap();
    assert_eq!((&submit.action, &submit.inputs_zstd), (&action, &Some(bytes.clone())));
    assert_eq!((&submit.inputs_difference, submit.files_zstd.len()), (&None, 0));
    let with = |files| Submit { files_zstd: vec![bytes.clone(); files], ..submit.clone() };
    assert!(decode::<Submit>(&encode(&with(FILES_INSIDE_MAX))).is_ok());
    assert!(decode::<Submit>(&encode(&with(FILES_INSIDE_MAX + 1))).is_err());
}

#[test]
fn more_missing_blobs_than_allowed_are_refused() {
    let blob = (BlobClass::Input, Digest::of(b""));
    let most = encode(&Progress::Missing(vec![blob; MISSING_MAX]));
    assert!(decode::<Progress>(&most).is_ok());
    let more = encode(&Progress::Missing(vec![blob; MISSING_MAX + 1]));
    assert!(matches!(decode::<Progress>(&more), Err(WireError::Encoding(_))));
}

#[test]
fn a_welcome_brings_no_more_words_than_are_kept() {
    let welcome = |over_quota: Option<String>| {
        let sent = HelloReply::Welcome { space: Space::shared(), over_quota };
        match decode(&encode(&sent)).unwrap() {
            HelloReply::Welcome { over_quota, .. } => over_quota,
            HelloReply::Refused(words) => panic!("{words}"),
        }
    };
    assert_eq!(welcome(None), None);
    assert_eq!(welcome(Some("jobs".into())), Some("jobs".into()));
    let kept = welcome(Some("x".repeat(MESSAGE_BYTES_MAX / 2))).unwrap();
    assert_eq!(kept, "x".repeat(16 << 10));
}

#[test]
fn a_welcome_may_leave_the_quota_out() {
    #[derive(Serialize)]
    enum Short {
        Welcome { space: Space },
    }
    let short = encode(&Short::Welcome { space: Space::shared() });
    let read = decode::<HelloReply>(&short).unwrap();
    assert_eq!(read, HelloReply::Welcome { space: Space::shared(), over_quota: None });
}

#[test]
fn bytes_behind_a_message_are_refused() {
    let mut bytes = encode(&Progress::Running).to_vec();
    bytes.push(0);
    assert!(matches!(decode::<Progress>(&bytes), Err(WireError::Encoding(_))));
}
