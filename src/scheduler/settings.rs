//! Settings of a scheduler: `scheduler.toml` and the secrets that `jetcc auth init` writes.

use serde::Deserialize;

use super::identity::settings::{ClientAuth, ServerAuth, one_or_several};
use super::quota::Quotas;
use crate::job::Pool;
use crate::queue::{Secret, TlsSettings};
use crate::store::StoreSettings;

/// `scheduler.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address of the NATS server, `tls://host:4222`, on this machine also `nats://`; several
    /// separated by commas.
    pub nats_url: String,
    /// Encryption of the connection.
    #[serde(default)]
    pub tls: TlsSettings,
    /// File with the farm's secrets, as `jetcc auth init` writes it.
    pub secrets_file: String,
    /// How clients show who they are: one way or several.
    #[serde(deserialize_with = "one_or_several")]
    pub client_auth: Vec<ClientAuth>,
    /// How workers show who they are.
    pub server_auth: ServerAuth,
    /// Whether a worker must show a certificate with its name; nats-server asks for it then.
    #[serde(default)]
    pub require_worker_certificate: bool,
    /// Where blobs are kept; the scheduler looks whether a result's blobs exist.
    #[serde(default)]
    pub store: StoreSettings,
    /// Pools whose queues exist before their first worker comes.
    #[serde(default = "own_pool")]
    pub pools: Vec<Pool>,
    /// A client is sent home to compile locally when it would wait longer, in seconds.
    #[serde(default = "queue_wait_seconds_max")]
    pub queue_wait_seconds_max: u32,
    /// Tenants have their inputs, results and toolchains in one space, as clients without a named
    /// tenant have; else each has a space of its own, and none sees another's.
    #[serde(default)]
    pub tenants_share_results: bool,
    /// What each tenant may use.
    #[serde(default)]
    pub quota: Quotas,
    /// How results are checked.
    #[serde(default)]
    pub audit: Audit,
}

/// How results are checked: some jobs run again on another worker.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Share of recorded results that are checked.
    pub sample_rate: Rate,
}

/// A share, from 0 (none) to 1 (all).
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Rate(f64);

impl Rate {
    /// As a number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Rate {
    /// One percent of the farm's work. A worker that lies every time is found after a hundred
    /// results on average, within a minute of a build.
    fn default() -> Self {
        Self(0.01)
    }
}

impl TryFrom<f64> for Rate {
    type Error = String;

    fn try_from(rate: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&rate) {
            Ok(Self(rate))
        } else {
            Err(format!("`{rate}` is no share: wanted 0 to 1"))
        }
    }
}

/// The farm's secrets, shared by its schedulers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FarmSecrets {
    /// NATS password of the user `scheduler`.
    pub scheduler_password: Secret,
    /// NATS password of the user `auth`.
    pub auth_password: Secret,
    /// NATS password of the user `sys`.
    pub system_password: Secret,
    /// Account seed (`SA…`) that signs callout answers.
    pub callout_seed: Secret,
    /// 32 bytes in base64url without padding: key of the proofs.
    pub proof_key: Secret,
}

fn own_pool() -> Vec<Pool> {
    vec![Pool::of_this_machine()]
}

fn queue_wait_seconds_max() -> u32 {
    30
}
