//! Three kinds of one library.

/// For C.
#[no_mangle]
pub extern "C" fn number() -> u64 {
    base::twice(&21_u64).0 + base::describe().len() as u64
}
