//! A library that is loaded.

/// Eight.
pub fn number() -> i32 {
    8
}
