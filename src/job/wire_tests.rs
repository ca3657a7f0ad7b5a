//! Messages as other releases and other parties may write them.

use super::*;
use crate::job::{Content, Exit};

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
