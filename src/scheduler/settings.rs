//! Settings of a scheduler: `scheduler.toml` and the secrets that `jetcc auth init` writes.

use serde::Deserialize;

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
    /// How clients show who they are.
    pub client_auth: ClientAuth,
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
}

/// How clients show who they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientAuth {
    /// One token that all clients share.
    Token {
        /// The token.
        token: Secret,
    },
}

/// How workers show who they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ServerAuth {
    /// A JWT signed with a key that only schedulers know.
    JwtHs256 {
        /// 32 bytes in base64url without padding, from `jetcc auth generate-jwt-hs256-key`.
        secret_key: Secret,
    },
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
