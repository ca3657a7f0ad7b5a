//! A library that uses one that is loaded.

/// Nine.
pub fn number() -> i32 {
    shared::number() + 1
}
