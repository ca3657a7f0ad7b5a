//! How much goes over a connection.

use std::ops::Add;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::submit::Farm;

/// Messages and their bytes, headers included; what the protocol adds is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Messages that we sent.
    pub messages_out: u64,
    /// Bytes that we sent.
    pub bytes_out: u64,
    /// Messages that we got.
    pub messages_in: u64,
    /// Bytes that we got.
    pub bytes_in: u64,
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            messages_out: self.messages_out + other.messages_out,
            bytes_out: self.bytes_out + other.bytes_out,
            messages_in: self.messages_in + other.messages_in,
            bytes_in: self.bytes_in + other.bytes_in,
        }
    }
}

impl Farm {
    /// What went over its connection so far.
    pub fn traffic(&self) -> Traffic {
        let counted = self.connection().client().statistics();
        Traffic {
            messages_out: counted.out_messages.load(Relaxed),
            bytes_out: counted.out_bytes.load(Relaxed),
            messages_in: counted.in_messages.load(Relaxed),
            bytes_in: counted.in_bytes.load(Relaxed),
        }
    }
}
