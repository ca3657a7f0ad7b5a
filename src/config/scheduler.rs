//! `scheduler.toml` and the farm's secrets.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::file::{ConfigError, Kind, Overrides, deserialize, overlay, read, store, tls};
use crate::scheduler::Settings;
use crate::scheduler::settings::FarmSecrets;

pub(super) const SCHEDULER: Overrides = &[
    ("JETCC_NATS_URL", "nats_url", Kind::Text),
    ("JETCC_TLS_CA_FILE", "tls.ca_file", Kind::Text),
    ("JETCC_TLS_CERT_FILE", "tls.cert_file", Kind::Text),
    ("JETCC_TLS_KEY_FILE", "tls.key_file", Kind::Text),
    ("JETCC_TLS_ALLOW_PLAINTEXT_OVER_NETWORK", "tls.allow_plaintext_over_network", Kind::Switch),
    ("JETCC_SECRETS_FILE", "secrets_file", Kind::Text),
    ("JETCC_CLIENT_AUTH_TYPE", "client_auth.type", Kind::Text),
    ("JETCC_CLIENT_AUTH_TOKEN", "client_auth.token", Kind::Text),
    ("JETCC_CLIENT_AUTH_NAME", "client_auth.name", Kind::Text),
    ("JETCC_CLIENT_AUTH_SECRET_KEY", "client_auth.secret_key", Kind::Text),
    ("JETCC_CLIENT_AUTH_ISSUER", "client_auth.issuer", Kind::Text),
    ("JETCC_CLIENT_AUTH_AUDIENCE", "client_auth.audience", Kind::Text),
    ("JETCC_CLIENT_AUTH_GROUPS_CLAIM", "client_auth.groups_claim", Kind::Text),
    ("JETCC_CLIENT_AUTH_USER_CLAIM", "client_auth.user_claim", Kind::Text),
    ("JETCC_CLIENT_AUTH_TENANT", "client_auth.tenant", Kind::Text),
    ("JETCC_CLIENT_AUTH_TENANT_CLAIM", "client_auth.tenant_claim", Kind::Text),
    ("JETCC_CLIENT_AUTH_LEEWAY_SECONDS", "client_auth.leeway_seconds", Kind::Number),
    ("JETCC_CLIENT_AUTH_USERINFO_URL", "client_auth.userinfo_url", Kind::Text),
    ("JETCC_CLIENT_AUTH_URL", "client_auth.url", Kind::Text),
    ("JETCC_CLIENT_AUTH_CACHE_SECS", "client_auth.cache_secs", Kind::Number),
    ("JETCC_SERVER_AUTH_TYPE", "server_auth.type", Kind::Text),
    ("JETCC_SERVER_AUTH_SECRET_KEY", "server_auth.secret_key", Kind::Text),
    ("JETCC_REQUIRE_WORKER_CERTIFICATE", "require_worker_certificate", Kind::Switch),
    ("JETCC_SERVER_AUTH_TOKEN", "server_auth.token", Kind::Text),
    ("JETCC_STORE_URL", "store.url", Kind::Text),
    ("JETCC_STORE_CA_FILE", "store.ca_file", Kind::Text),
    ("JETCC_QUEUE_WAIT_SECONDS_MAX", "queue_wait_seconds_max", Kind::Number),
    ("JETCC_TENANTS_SHARE_RESULTS", "tenants_share_results", Kind::Switch),
    ("JETCC_QUOTA_OUTSTANDING_JOBS_MAX", "quota.outstanding_jobs_max", Kind::Number),
    ("JETCC_QUOTA_UPLOAD_BYTES_PER_HOUR_MAX", "quota.upload_bytes_per_hour_max", Kind::Number),
    ("JETCC_QUOTA_BLOB_BYTES_MAX", "quota.blob_bytes_max", Kind::Number),
    ("JETCC_QUOTA_SHARED_BLOB_BYTES_MAX", "quota.shared_blob_bytes_max", Kind::Number),
    ("JETCC_AUDIT_SAMPLE_RATE", "audit.sample_rate", Kind::Share),
];

/// Settings of a scheduler and the farm's secrets that they name.
///
/// # Errors
/// [`ConfigError`] naming file and key.
pub fn scheduler(
    path: &Path,
    environment: &Environment,
) -> Result<(Settings, FarmSecrets), ConfigError> {
    let table = overlay(read(path)?, SCHEDULER, environment)?;
    let mut settings: Settings = deserialize(table, path)?;
    settings.tls = tls(settings.tls, path)?;
    settings.store = store(settings.store, path)?;
    let secrets = beside(path, &settings.secrets_file);
    let secrets = deserialize(read(&secrets)?, &secrets)?;
    Ok((settings, secrets))
}

/// `file` seen from the folder of the settings that name it.
fn beside(settings: &Path, file: &str) -> PathBuf {
    settings.parent().unwrap_or(Path::new(".")).join(file)
}
