//! A result as one file: a mark with the format's version, the digest of all that follows, then
//! MessagePack. Nothing is flushed when it is written, so whatever a crash leaves is found here.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::job::{ActionKey, Digest, bounded};

/// Largest record, in bytes: contents inside it, names, streams.
pub(super) const RECORD_BYTES_MAX: usize = 8 << 20;
/// What a record begins with; another version is read as damage.
const MARK: &[u8; 8] = b"jetcc-1\n";
const DIGEST_BYTES: usize = 32;
const HEAD_BYTES: usize = MARK.len() + DIGEST_BYTES;

/// A successful compile.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The action: a record under another one's name is not believed.
    pub(super) key: ActionKey,
    pub(super) stdout: Bytes,
    pub(super) stderr: Bytes,
    pub(super) outputs: Vec<Output>,
    pub(super) worker: String,
}

/// A file that it wrote.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Output {
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) place: Place,
}

/// Where a file's bytes are.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Place {
    /// Here.
    Inside(Bytes),
    /// In a file of their own, named by their digest.
    Beside(Digest),
}

/// The record's bytes; `None` when they are too many to be kept.
pub(super) fn encode(record: &Record) -> Option<Vec<u8>> {
    let mut bytes = vec![0; HEAD_BYTES];
    rmp_serde::encode::write(&mut bytes, record).ok()?;
    if bytes.len() > RECORD_BYTES_MAX {
        return None;
    }
    let digest = Digest::of(&bytes[HEAD_BYTES..]);
    bytes[..MARK.len()].copy_from_slice(MARK);
    bytes[MARK.len()..HEAD_BYTES].copy_from_slice(digest.as_bytes());
    Some(bytes)
}

/// The record of `key` that `bytes` are, if they are whole; `is_checked`: their digest was right
/// before, and they have not changed since.
pub(super) fn decode(bytes: Bytes, key: &ActionKey, is_checked: bool) -> Option<Record> {
    let body = bytes.get(HEAD_BYTES..).filter(|_| bytes.starts_with(MARK))?;
    if !is_checked && Digest::of(body).as_bytes()[..] != bytes[MARK.len()..HEAD_BYTES] {
        return None;
    }
    let record: Record = bounded::decode(body).ok()?;
    (record.key == *key).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_record_of_the_same_action_is_believed() {
        let key = ActionKey::from(Digest::of(b"action"));
        let record = || Record {
            key,
            stdout: Bytes::new(),
            stderr: Bytes::from_static(b"warning"),
            outputs: vec![
                Output {
                    path: "a.o".into(),
                    mode: 0o666,
                    place: Place::Inside(b"object"[..].into()),
                },
                Output {
                    path: "b".into(),
                    mode: 0o666,
                    place: Place::Beside(Digest::of(b"large")),
                },
            ],
            worker: "w".into(),
        };
        let bytes = encode(&record()).unwrap();
        assert_eq!(decode(bytes.clone().into(), &key, false), Some(record()));
        let other = ActionKey::from(Digest::of(b"other"));
        assert_eq!(decode(bytes.clone().into(), &other, false), None);
        for at in 0..bytes.len() {
            assert_eq!(decode(bytes[..at].to_vec().into(), &key, false), None, "cut at {at}");
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(damaged.into(), &key, false), None, "damaged at {at}");
        }
    }
}
