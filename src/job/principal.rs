//! Who a client is, as the auth callout found out. The server stamps it on every request.

use std::fmt;
use std::str::FromStr;

use super::{ClientId, Space, Tenant};

/// Longest name of a user, in bytes.
pub const USER_BYTES_MAX: usize = 128;
/// What separates the parts of the text; no id has it, and a user's name comes last.
const SEPARATOR: char = '/';

/// A client with everything that its token says of it. As text `tenant/space/client/user`: the
/// name under which the server knows the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Whose share its jobs count against.
    pub tenant: Tenant,
    /// With whom it shares inputs, results and toolchains.
    pub space: Space,
    /// The daemon: its random name is what entitles to its answers.
    pub client: ClientId,
    /// The person or service that the token names; the client's own name when the token is shared.
    pub user: User,
}

/// The name of a person or service, as its issuer writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User(String);

impl User {
    /// `name`, without control characters and no longer than [`USER_BYTES_MAX`].
    pub fn new(name: &str) -> Self {
        let mut clean: String = name.chars().filter(|c| !c.is_control()).collect();
        while clean.len() > USER_BYTES_MAX {
            clean.pop();
        }
        Self(clean)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, space, client, user } = self;
        write!(f, "{tenant}{SEPARATOR}{space}{SEPARATOR}{client}{SEPARATOR}{user}")
    }
}

/// The text names no client.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no client: wanted `tenant/space/client/user`")]
pub struct InvalidPrincipal(String);

impl FromStr for Principal {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        let read = || {
            let mut parts = text.splitn(4, SEPARATOR);
            Some(Self {
                tenant: parts.next()?.parse().ok()?,
                space: parts.next()?.parse().ok()?,
                client: parts.next()?.parse().ok()?,
                user: User::new(parts.next()?),
            })
        };
        read().ok_or_else(|| InvalidPrincipal(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_read_back_whatever_its_user_is_called() {
        let principal = Principal {
            tenant: "team-a".parse().unwrap(),
            space: "shared".parse().unwrap(),
            client: "c-1".parse().unwrap(),
            user: User::new("x/y@example.com\n"),
        };
        let text = principal.to_string();
        assert_eq!(text, "team-a/shared/c-1/x/y@example.com");
        assert_eq!(text.parse::<Principal>().unwrap(), principal);
        for bad in ["", "c-1", "t/s/c", "T/s/c/u", "t//c/u"] {
            assert!(bad.parse::<Principal>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_users_name_has_an_end() {
        assert_eq!(User::new(&"ä".repeat(200)).as_str().len(), USER_BYTES_MAX);
    }
}
