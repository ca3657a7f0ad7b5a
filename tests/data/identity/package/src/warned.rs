//! A library that compilers warn of.

/// Forgets something.
pub fn forgets() {
    let forgotten = 1;
}
