//! Writes the nats-server configuration of a farm: accounts, imports, exports, auth callout.
//!
//! The text is the same for every farm (checked in as `nats/nats-server.conf`); what differs,
//! secrets and places, is in an include of a few lines.

use std::fmt::Write as _;

use super::connect::Secret;
use super::permissions::{
    AUTH_ACCOUNT, CLIENT_ACCOUNT, FARM_ACCOUNT, SYSTEM_ACCOUNT, client_blob_services,
};

/// NATS user of schedulers.
pub const SCHEDULER_USER: &str = "scheduler";
/// NATS user that answers the auth callout.
pub const AUTH_USER: &str = "auth";
/// NATS user that reads the server's own events.
pub const SYSTEM_USER: &str = "sys";

/// What differs from farm to farm.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Password of [`SCHEDULER_USER`].
    pub scheduler: Secret,
    /// Password of [`AUTH_USER`].
    pub auth: Secret,
    /// Password of [`SYSTEM_USER`].
    pub system: Secret,
    /// Public account key (`A…`) whose seed the schedulers sign callout answers with.
    pub callout_issuer: String,
}

/// Where the server listens and keeps its files.
#[derive(Clone, Debug)]
pub struct Place {
    /// `host:port`; port -1 lets the system choose.
    pub listen: String,
    /// `host:port` of the monitoring page.
    pub monitor: String,
    /// Folder of JetStream.
    pub store_dir: String,
}

impl Place {
    /// The place in the checked-in file: a machine (or container) of the server's own.
    pub fn usual() -> Self {
        Self {
            listen: "0.0.0.0:4222".into(),
            monitor: "0.0.0.0:8222".into(),
            store_dir: "/var/lib/jetcc/jetstream".into(),
        }
    }
}

/// The include with a farm's secrets; goes into a file of mode 0600.
pub fn secrets_file(secrets: &Secrets) -> String {
    format!(
        "SCHEDULER_PASSWORD: \"{}\"\nAUTH_PASSWORD: \"{}\"\nSYS_PASSWORD: \"{}\"\nCALLOUT_ISSUER: \"{}\"\n",
        secrets.scheduler.reveal(),
        secrets.auth.reveal(),
        secrets.system.reveal(),
        secrets.callout_issuer,
    )
}

/// The server's configuration, which includes the secrets from `include` (a path relative to the
/// configuration's own folder).
pub fn server_file(place: &Place, include: &str) -> String {
    let mut text = format!(
        r#"# Written by `jetcc auth init`; keep changes elsewhere.
include "{include}"   # SCHEDULER_PASSWORD, AUTH_PASSWORD, SYS_PASSWORD, CALLOUT_ISSUER

server_name: jetcc-1
listen: "{}"
http: "{}"            # /healthz /varz /jsz: keep it inside
max_payload: 1MB
max_pending: 64MB
write_deadline: "10s"
ping_interval: "20s"
ping_max: 3
lame_duck_duration: "30s"
lame_duck_grace_period: "2s"

jetstream {{
  store_dir: "{}"
  max_file_store: 60GB
  max_memory_store: 1GB
  # sync_interval stays at its default: every byte here can be computed again.
}}

"#,
        place.listen, place.monitor, place.store_dir
    );
    text.push_str(&accounts());
    text.push_str(&callout());
    text
}

fn accounts() -> String {
    let services: Vec<String> =
        std::iter::once("farm.c.*.*".to_owned()).chain(client_blob_services()).collect();
    let streams = ["results.*.*", "progress.*.*"];
    let mut exports = String::new();
    let mut imports = String::new();
    for service in &services {
        let share = if service.starts_with("farm.") { ", share: true" } else { "" };
        let _ =
            writeln!(exports, "      {{ service: \"{service}\", accounts: [{CLIENT_ACCOUNT}] }}");
        let _ = writeln!(
            imports,
            "      {{ service: {{ account: {FARM_ACCOUNT}, subject: \"{service}\" }}{share} }}"
        );
    }
    for stream in streams {
        let _ = writeln!(exports, "      {{ stream: \"{stream}\", accounts: [{CLIENT_ACCOUNT}] }}");
        let _ = writeln!(
            imports,
            "      {{ stream: {{ account: {FARM_ACCOUNT}, subject: \"{stream}\" }} }}"
        );
    }
    format!(
        r"accounts {{
  {FARM_ACCOUNT} {{
    jetstream: enabled
    users: [ {{ user: {SCHEDULER_USER}, password: $SCHEDULER_PASSWORD }} ]
    exports: [
{exports}    ]
  }}
  # No JetStream here: nothing that a forged reply subject could reach.
  {CLIENT_ACCOUNT} {{
    imports: [
{imports}    ]
  }}
  {AUTH_ACCOUNT} {{ users: [ {{ user: {AUTH_USER}, password: $AUTH_PASSWORD }} ] }}
  {SYSTEM_ACCOUNT} {{ users: [ {{ user: {SYSTEM_USER}, password: $SYS_PASSWORD }} ] }}
}}
system_account: {SYSTEM_ACCOUNT}

"
    )
}

fn callout() -> String {
    format!(
        r"authorization {{
  timeout: 4     # a connect fails closed after this when no scheduler answers the callout
  auth_callout {{
    issuer: $CALLOUT_ISSUER
    account: {AUTH_ACCOUNT}
    auth_users: [ {AUTH_USER}, {SCHEDULER_USER}, {SYSTEM_USER} ]
  }}
}}
"
    )
}
