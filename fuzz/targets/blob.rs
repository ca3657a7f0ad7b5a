//! What a blob store gives back: frames open to their own bytes within the limit or not at all, and
//! heads of blobs in parts name nothing but parts.
#![no_main]

use std::io::Read as _;

use async_nats::HeaderMap;
use bytes::Bytes;
use jetcc::job::Digest;
use jetcc::queue::blobs::Head;
use jetcc::store::{Compressed, StoreError};
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, text)) => head(text),
        Some((_, frame)) => open(frame),
        None => {}
    }
});

fn open(frame: &[u8]) {
    // What a patient reader finds in the first frame.
    let mut content = Vec::new();
    let decoder = zstd::Decoder::new(frame).map(|decoder| decoder.single_frame());
    let read = decoder.and_then(|decoder| decoder.take(LIMIT + 1).read_to_end(&mut content));
    let (digest, size) = (Digest::of(&content), content.len() as u64);
    let blob = Compressed { digest, size, zstd: Bytes::copy_from_slice(frame) };
    match blob.open(LIMIT) {
        Ok(bytes) => assert!(bytes == content && size <= LIMIT),
        Err(StoreError::TooLarge { size, limit, .. }) => assert!(size > LIMIT && limit == LIMIT),
        Err(_) => {}
    }
    let other = Compressed { digest: Digest::of(b"something else"), ..blob };
    assert!(other.open(LIMIT).is_err());
    if read.is_ok() && size <= LIMIT {
        let own = Compressed::new(&content);
        assert_eq!(own.open(LIMIT).as_ref(), Ok(&content));
        assert!(size == 0 || own.open(size - 1).is_err());
    }
}

fn head(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut headers = HeaderMap::new();
    let names = ["Jetcc-Parts", "Jetcc-Stored", "Jetcc-Size"];
    for (name, value) in names.into_iter().zip(text.split('\n').filter(|v| !v.contains('\r'))) {
        headers.insert(name, value);
    }
    let Some(head) = Head::read(Some(&headers), Bytes::new()) else { return };
    if let Some(parts) = head.parts {
        assert!(parts.count >= 1 && parts.count <= head.size && head.size <= 4 << 30);
        assert!(parts.stored.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
