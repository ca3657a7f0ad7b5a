//! zstd frames, made and opened with tables that each thread keeps: for a small frame, making the
//! tables anew costs more than the frame.

use std::cell::RefCell;
use std::io;

use zstd::bulk::{Compressor, Decompressor};

/// zstd level. Measured on 1,000 system headers, objects and `cc1`, one core: level 1 makes them
/// 4.5, 2.4 and 2.4 times smaller at 325, 365 and 455 MB/s; level 3 makes them 4.7, 2.6 and 2.7
/// times smaller at 274, 264 and 246 MB/s. The client's CPU is what we are here to save.
pub(super) const LEVEL: i32 = 1;
/// Largest content made with the thread's own tables, in bytes: those for larger ones are larger, up
/// to some MB, and would stay so.
const KEPT_BYTES_MAX: usize = 256 << 10;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// One frame that holds `bytes`; its header tells how many they are.
///
/// # Errors
/// Only when memory is used up.
pub fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    if bytes.len() > KEPT_BYTES_MAX {
        return zstd::bulk::compress(bytes, LEVEL);
    }
    COMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(compressor) => compressor.compress(bytes),
        None => kept.insert(Compressor::new(LEVEL)?).compress(bytes),
    })
}

/// What is in `frame`, at most `capacity` bytes.
///
/// # Errors
/// When it is no frame, or holds more.
pub fn decompress(frame: &[u8], capacity: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(decompressor) => decompressor.decompress(frame, capacity),
        None => kept.insert(Decompressor::new()?).decompress(frame, capacity),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_does_not_depend_on_those_before() {
        let contents: Vec<Vec<u8>> = (0..40_usize)
            .map(|number| (0..number * 997).map(|at| (at * at / 7 % 251) as u8).collect())
            .collect();
        for content in contents.iter().chain(contents.iter().rev()) {
            let frame = compress(content).unwrap();
            assert!(frame == zstd::bulk::compress(content, LEVEL).unwrap(), "{}", content.len());
            assert!(decompress(&frame, content.len()).unwrap() == *content);
            // What goes wrong leaves nothing behind.
            assert!(decompress(b"no frame", 100).is_err());
            assert!(content.is_empty() || decompress(&frame, content.len() - 1).is_err());
            assert!(content.is_empty() || decompress(&frame[..frame.len() - 1], 1 << 20).is_err());
        }
    }
}
