//! Names of jobs and parties. Every name fits into one token of a NATS subject.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Longest client, worker, tenant, space or pool name, in bytes.
pub const NAME_BYTES_MAX: usize = 32;

/// A name with characters that a NATS subject token or a file name could not carry.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{found}` is not a valid {what}: wanted 1 to {NAME_BYTES_MAX} of `a-z`, `0-9`, `_` and `-`"
)]
pub struct InvalidName {
    found: String,
    what: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
                let clean = text
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
                if fits && clean {
                    Ok(Self(text))
                } else {
                    Err(InvalidName { found: text.chars().take(80).collect(), what: $what })
                }
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// One client daemon, as the scheduler's auth callout named it.
    ClientId,
    "client id"
);
name!(
    /// One worker process.
    WorkerId,
    "worker id"
);
name!(
    /// Whose jobs these are; fairness and quotas are kept by tenant.
    Tenant,
    "tenant"
);
name!(
    /// Clients that share inputs, results and toolchains: those of one tenant, or all of a farm that
    /// says so.
    Space,
    "space"
);
name!(
    /// Workers that can run each other's jobs: operating system and architecture, `linux-x86_64`.
    Pool,
    "pool"
);

impl Tenant {
    /// The tenant of a client whose token names none: itself, so that a big build of one does not
    /// bury another.
    pub fn of(client: &ClientId) -> Self {
        Self(client.0.clone())
    }
}

impl Space {
    /// The space of everybody whose token names no other.
    pub fn shared() -> Self {
        Self("shared".into())
    }

    /// The space of one tenant.
    pub fn of(tenant: &Tenant) -> Self {
        Self(tenant.0.clone())
    }
}

impl Pool {
    /// The pool that this machine belongs to.
    pub fn of_this_machine() -> Self {
        Self(format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH))
    }
}

/// 128 random bits chosen by the client; knowing it is what entitles to read the result.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId([u8; 16]);

/// The text is not 32 lower-case hex digits.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a job id: wanted 32 lower-case hex digits")]
pub struct InvalidJobId(String);

impl JobId {
    /// A fresh id from the system's random source.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| InvalidJobId(text.chars().take(80).collect()))
    }
}

/// HMAC-SHA-256 by the schedulers' key over job id, action key, deadline and space: shows that a worker
/// was given this job, for whom, and until when its answer counts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof(#[serde(with = "serde_bytes")] Vec<u8>);

impl Proof {
    /// The proof for `job` running `action` in `space` until `deadline_unix_ms`, under the schedulers'
    /// shared `key`. The same request has the same proof, whichever scheduler makes it.
    pub fn new(
        key: &[u8; 32],
        job: JobId,
        action: &super::ActionKey,
        space: &Space,
        deadline_unix_ms: u64,
    ) -> Self {
        let mac = Self::mac(key, job, action, space, deadline_unix_ms);
        Self(mac.finalize().into_bytes().to_vec())
    }

    /// Whether this proof was made with `key` for just that; constant time.
    pub fn holds(
        &self,
        key: &[u8; 32],
        job: JobId,
        action: &super::ActionKey,
        space: &Space,
        deadline_unix_ms: u64,
    ) -> bool {
        Self::mac(key, job, action, space, deadline_unix_ms).verify_slice(&self.0).is_ok()
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    fn mac(
        key: &[u8; 32],
        job: JobId,
        action: &super::ActionKey,
        space: &Space,
        deadline_unix_ms: u64,
    ) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any length");
        mac.update(&job.0);
        mac.update(action.digest().as_bytes());
        mac.update(&deadline_unix_ms.to_be_bytes());
        // Last, since it alone has no fixed length.
        mac.update(space.as_str().as_bytes());
        mac
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_subject_token() {
        assert!("worker-1_a".parse::<WorkerId>().is_ok());
        for bad in ["", "a.b", "a*", "A", "a b", &"x".repeat(33)] {
            assert!(bad.parse::<WorkerId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proof_holds_for_its_job_and_space_alone() {
        let (key, other) = ([1; 32], [2; 32]);
        let (job, next) = (JobId([3; 16]), JobId([4; 16]));
        let action = super::super::ActionKey::from(super::super::Digest::of(b"a"));
        let (ours, theirs) = (Space::shared(), "acme".parse().unwrap());
        let proof = Proof::new(&key, job, &action, &ours, 7);
        assert!(proof.holds(&key, job, &action, &ours, 7));
        assert!(!proof.holds(&key, next, &action, &ours, 7));
        assert!(!proof.holds(&other, job, &action, &ours, 7));
        assert!(!proof.holds(&key, job, &action, &theirs, 7));
        assert!(!proof.holds(&key, job, &action, &ours, 8));
    }
}
