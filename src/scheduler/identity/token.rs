//! Shared tokens, compared in a time that does not depend on where they differ.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::queue::Secret;

/// Whether two secrets are the same, in a time that says nothing about them.
pub(super) fn same(one: &Secret, other: &Secret) -> bool {
    // The key only has to be the same on both sides of this comparison.
    let mac = |secret: &Secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"jetcc token comparison").ok()?;
        mac.update(secret.reveal().as_bytes());
        Some(mac)
    };
    match (mac(one), mac(other)) {
        (Some(one), Some(other)) => one.verify_slice(&other.finalize().into_bytes()).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same(&Secret::new("abc"), &Secret::new("abc\n")));
        assert!(!same(&Secret::new("abc"), &Secret::new("abcd")));
    }
}
