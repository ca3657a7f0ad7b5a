//! The daemon's socket, all messages: what is read, written again, is read the same.
#![no_main]

use jetcc::client::ipc::{self, Frame, Reply, Request, Told};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| match data.split_first() {
    Some((0, frames)) => read::<Request>(frames),
    Some((2, frames)) => read::<Told>(frames),
    Some((_, frames)) => read::<Reply>(frames),
    None => {}
});

fn read<T: Frame>(mut frames: &[u8]) {
    while let Ok(message) = ipc::read_frame::<T>(&mut frames) {
        let mut frame = Vec::new();
        ipc::write_frame(&mut frame, &message).expect("what was read can be written");
        assert!(frame.len() - 4 <= T::BYTES_MAX as usize);
        let again = ipc::read_frame::<T>(&mut &frame[..]).expect("what was written can be read");
        assert_eq!(again.encode().expect("and written"), frame);
    }
}
