//! Messages of every kind: what is decoded encodes to bytes that decode to the same, within limits.
#![no_main]

use std::fmt::Debug;

use jetcc::job::toolchain::Reference;
use jetcc::job::wire::{
    self, ActionRecord, CallOff, FarmStatus, HelloReply, Holding, JobMessage, JobResult,
    MISSING_MAX, Progress, Submit, SubmitReply, WorkerState, WrongBlob,
};
use jetcc::job::{JobId, LocalReason};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 15 {
        0 => drop(read::<Submit>(bytes).map(|submit| submit.action.key())),
        1 => drop(read::<SubmitReply>(bytes)),
        2 => drop(read::<CallOff>(bytes)),
        3 => drop(read::<JobMessage>(bytes)),
        4 => {
            if let Some(Progress::Missing(blobs)) = read(bytes) {
                assert!(blobs.len() <= MISSING_MAX);
            }
        }
        5 => {
            if let Some(result) = read::<JobResult>(bytes) {
                assert!(result.times.run_ms.is_finite() && result.times.run_ms >= 0.0);
            }
        }
        6 => drop(read::<ActionRecord>(bytes)),
        7 => drop(read::<WorkerState>(bytes)),
        8 => drop(read::<FarmStatus>(bytes)),
        9 => drop(read::<Vec<Reference>>(bytes)),
        10 => drop(read::<JobId>(bytes)),
        11 => drop(read::<LocalReason>(bytes)),
        12 => drop(read::<HelloReply>(bytes)),
        13 => drop(read::<Holding>(bytes)),
        _ => drop(read::<WrongBlob>(bytes)),
    }
});

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let message = wire::decode::<T>(bytes).ok()?;
    let canonical = wire::encode(&message);
    let again = wire::decode::<T>(&canonical).expect("what was encoded decodes");
    assert_eq!(again, message);
    assert_eq!(wire::encode(&again), canonical);
    Some(message)
}
