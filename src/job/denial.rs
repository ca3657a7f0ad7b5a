//! Who is kept out of the farm, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::InvalidName;
use super::{ClientId, Principal, Tenant, User, WorkerId, bounded};

/// Longest reason that is kept, in bytes.
pub const REASON_BYTES_MAX: usize = 500;

/// Somebody who can be kept out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// One worker.
    Worker(WorkerId),
    /// One client daemon.
    Client(ClientId),
    /// Every client of a person or service.
    User(User),
    /// Every client of a tenant.
    Tenant(Tenant),
}

/// The word is none of [`Party::KINDS`], or the name is none of that kind.
#[derive(Debug, thiserror::Error)]
pub enum InvalidParty {
    /// No such kind.
    #[error("`{0}` cannot be denied: wanted `worker`, `client`, `user` or `tenant`")]
    Kind(String),
    /// No such name.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl Party {
    /// What can be kept out, as people write it.
    pub const KINDS: [&str; 4] = ["worker", "client", "user", "tenant"];

    /// The party called `name` among those of `kind`, one of [`Party::KINDS`].
    ///
    /// # Errors
    /// [`InvalidParty`].
    pub fn read(kind: &str, name: &str) -> Result<Self, InvalidParty> {
        match kind {
            "worker" => Ok(Self::Worker(name.parse()?)),
            "client" => Ok(Self::Client(name.parse()?)),
            "user" => Ok(Self::User(User::new(name))),
            "tenant" => Ok(Self::Tenant(name.parse()?)),
            _ => Err(InvalidParty::Kind(kind.chars().take(80).collect())),
        }
    }

    /// One of [`Party::KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Worker(_) => "worker",
            Self::Client(_) => "client",
            Self::User(_) => "user",
            Self::Tenant(_) => "tenant",
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Worker(worker) => worker.as_str(),
            Self::Client(client) => client.as_str(),
            Self::User(user) => user.as_str(),
            Self::Tenant(tenant) => tenant.as_str(),
        }
    }

    /// Everything that `principal` is.
    pub fn all_of(principal: &Principal) -> [Self; 3] {
        let Principal { tenant, client, user, .. } = principal;
        [Self::Client(client.clone()), Self::User(user.clone()), Self::Tenant(tenant.clone())]
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind(), self.name())
    }
}

/// Why somebody is kept out, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// For people.
    #[serde(deserialize_with = "bounded::words")]
    pub reason: String,
    /// Since when, Unix time in ms.
    pub since_unix_ms: u64,
    /// Who decided it.
    pub by: DeniedBy,
    /// Until when, Unix time in ms; for ever when absent.
    pub until_unix_ms: Option<u64>,
}

/// Who keeps somebody out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeniedBy {
    /// A person, by `jetcc auth deny`.
    Operator,
    /// A scheduler that found a worker's results to be wrong.
    Quarantine,
}

impl Denial {
    /// Whether it still counts at `now_unix_ms`.
    pub fn holds(&self, now_unix_ms: u64) -> bool {
        self.until_unix_ms.is_none_or(|until| now_unix_ms < until)
    }
}

impl fmt::Display for DeniedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Quarantine => "quarantine",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_is_read_as_it_is_written() {
        for (kind, name) in
            Party::KINDS.into_iter().zip(["w-1", "c-1", "Jane Doe/x@example.com", "team"])
        {
            let party = Party::read(kind, name).unwrap();
            assert_eq!((party.kind(), party.name()), (kind, name));
        }
        assert!(Party::read("host", "h").is_err());
        assert!(Party::read("worker", "W.1").is_err());
    }

    #[test]
    fn a_denial_ends_when_it_says() {
        let denial = Denial {
            reason: "stolen".into(),
            since_unix_ms: 1,
            by: DeniedBy::Operator,
            until_unix_ms: Some(10),
        };
        assert!(denial.holds(9) && !denial.holds(10));
        assert!(Denial { until_unix_ms: None, ..denial }.holds(u64::MAX));
    }
}
