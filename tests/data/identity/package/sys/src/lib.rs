//! A native library.

extern "C" {
    fn seven() -> i32;
}

/// Seven.
pub fn number() -> i32 {
    // SAFETY: it has no arguments and changes nothing.
    unsafe { seven() }
}
