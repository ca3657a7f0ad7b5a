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
