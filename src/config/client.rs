//! `config.toml`: settings of a client.

use toml::Table;

use super::environment::Environment;
use super::file::{ConfigError, Kind, Overrides, deserialize, overlay, read, store, tls};
use crate::client::Settings;

pub(super) const CLIENT: Overrides = &[
    ("JETCC_DIST_SCHEDULER_URL", "dist.scheduler_url", Kind::Text),
    ("JETCC_DIST_AUTH_TYPE", "dist.auth.type", Kind::Text),
    ("JETCC_DIST_AUTH_TOKEN", "dist.auth.token", Kind::Text),
    ("JETCC_DIST_TLS_CA_FILE", "dist.tls.ca_file", Kind::Text),
    ("JETCC_DIST_TLS_CERT_FILE", "dist.tls.cert_file", Kind::Text),
    ("JETCC_DIST_TLS_KEY_FILE", "dist.tls.key_file", Kind::Text),
    (
        "JETCC_DIST_TLS_ALLOW_PLAINTEXT_OVER_NETWORK",
        "dist.tls.allow_plaintext_over_network",
        Kind::Switch,
    ),
    ("JETCC_DIST_AUTH_TOKEN_FILE", "dist.auth.token_file", Kind::Text),
    ("JETCC_DIST_AUTH_CLIENT_ID", "dist.auth.client_id", Kind::Text),
    ("JETCC_DIST_AUTH_ISSUER", "dist.auth.issuer", Kind::Text),
    ("JETCC_DIST_AUTH_AUTH_URL", "dist.auth.auth_url", Kind::Text),
    ("JETCC_DIST_AUTH_TOKEN_URL", "dist.auth.token_url", Kind::Text),
    ("JETCC_DIST_AUTH_DEVICE_AUTH_URL", "dist.auth.device_auth_url", Kind::Text),
    ("JETCC_DIST_AUTH_SCOPE", "dist.auth.scope", Kind::Text),
    ("JETCC_DIST_AUTH_BEARER", "dist.auth.bearer", Kind::Text),
    ("JETCC_DIST_AUTH_REDIRECT_URI", "dist.auth.redirect_uri", Kind::Text),
    ("JETCC_DIST_STORE_URL", "dist.store.url", Kind::Text),
    ("JETCC_DIST_STORE_CA_FILE", "dist.store.ca_file", Kind::Text),
    ("JETCC_DIST_TRUST_REMOTE_FAILURES", "dist.trust_remote_failures", Kind::Switch),
    ("JETCC_DIST_SCAN", "dist.scan", Kind::Switch),
    ("JETCC_DIST_QUEUE_WAIT_SECONDS_MAX", "dist.queue_wait_seconds_max", Kind::Number),
    ("JETCC_DIST_SILENCE_SECONDS_MAX", "dist.silence_seconds_max", Kind::Number),
    ("JETCC_DIST_JOB_SECONDS_MAX", "dist.job_seconds_max", Kind::Number),
    ("JETCC_DIST_TOOLCHAIN_WAIT_SECONDS_MAX", "dist.toolchain_wait_seconds_max", Kind::Number),
    ("JETCC_CACHE_DIR", "cache_dir", Kind::Text),
    ("JETCC_CACHE_SIZE", "cache_size", Kind::Text),
    ("JETCC_BASE_DIRS", "base_dirs", Kind::Paths),
    ("JETCC_READONLY", "cache_readonly", Kind::Switch),
    ("JETCC_LOGIN_DIR", "login_dir", Kind::Text),
    ("JETCC_IDLE_TIMEOUT", "idle_timeout_seconds", Kind::Number),
    ("JETCC_LOCAL_SLOTS", "local_slots", Kind::Number),
];

/// Settings of the client's daemon; all defaults when there is no file.
///
/// # Errors
/// [`ConfigError`] naming file and key.
pub fn client(environment: &Environment) -> Result<Settings, ConfigError> {
    let path = environment.client_file();
    let table = path.as_deref().map_or_else(|| Ok(Table::new()), read)?;
    let path = path.unwrap_or_else(|| "(environment)".into());
    let mut settings: Settings = deserialize(overlay(table, CLIENT, environment)?, &path)?;
    settings.dist.tls = tls(settings.dist.tls, &path)?;
    settings.dist.store = store(settings.dist.store, &path)?;
    let usual = || environment.state_home().map(|state| state.join("jetcc/logins"));
    settings.login_dir = settings.login_dir.or_else(usual);
    Ok(settings)
}
