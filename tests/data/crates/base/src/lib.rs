//! A library with a part that its build script makes.

mod number;

include!(concat!(env!("OUT_DIR"), "/made.rs"));

/// What went into it.
pub fn describe() -> String {
    let text = format!("base {} built {} made {MADE}", number::NUMBER, env!("BUILT"));
    if cfg!(feature = "loud") { text.to_uppercase() } else { text }
}

/// Compiled into whoever uses it.
pub fn twice<T: Clone>(value: &T) -> (T, T) {
    (value.clone(), value.clone())
}
