//! Writes the nats-server configuration of a farm: accounts, imports, exports, auth callout.
//!
//! The text is the same for every farm (checked in as `nats/nats-server.conf`); what differs,
//! secrets and places, is in an include of a few lines.

use super::connect::Secret;
use super::permissions::{
    AUTH_ACCOUNT, CLIENT_ACCOUNT, FARM_ACCOUNT, SYSTEM_ACCOUNT, WORKER_ACCOUNT, client_blob_reads,
    client_blob_writes, worker_services,
};
use super::subjects::{self, Spaces};

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
        Self::listening("0.0.0.0:4222")
    }

    /// The same with another address for the parties.
    pub fn listening(listen: &str) -> Self {
        Self {
            listen: listen.into(),
            monitor: "127.0.0.1:8222".into(),
            store_dir: "/var/lib/jetcc/jetstream".into(),
        }
    }
}

/// Files of the server's own certificate, as the server sees them.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// PEM file with the certificate.
    pub cert_file: String,
    /// PEM file with its key.
    pub key_file: String,
    /// PEM file of the authority whose certificate everybody must show, with mutual TLS.
    pub client_ca_file: Option<String>,
}

impl ServerTls {
    fn block(&self) -> String {
        let Self { cert_file, key_file, client_ca_file } = self;
        let verify = client_ca_file.as_ref().map_or_else(String::new, |file| {
            format!(
                "  ca_file: \"{file}\"\n  verify: true      # everybody shows a certificate; schedulers look at the workers'\n"
            )
        });
        format!(
            "# A certificate that was replaced is read on SIGHUP.\n\
             tls {{\n  cert_file: \"{cert_file}\"\n  key_file: \"{key_file}\"\n{verify}  \
             min_version: \"1.3\"\n  timeout: 2        # seconds for a handshake\n}}\n\n"
        )
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
/// configuration's own folder). Without `tls` the server is for its own machine, or for a network
/// that everybody may read.
pub fn server_file(place: &Place, include: &str, tls: Option<&ServerTls>) -> String {
    let mut text = format!(
        r#"# Written by `jetcc auth init`; keep changes elsewhere.
include "{include}"   # SCHEDULER_PASSWORD, AUTH_PASSWORD, SYS_PASSWORD, CALLOUT_ISSUER

server_name: jetcc-1
listen: "{}"
http: "{}"   # /healthz /varz /jsz: neither encrypted nor protected, keep it inside
max_payload: 1MB
max_control_line: 16KB   # a caller's token is in one line; those of identity services are long
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
    text.push_str(&tls.map(ServerTls::block).unwrap_or_default());
    text.push_str(&accounts());
    text.push_str(&callout());
    text
}

/// What one account offers to others: both sides have to name it.
struct Share {
    from: &'static str,
    to: Vec<&'static str>,
    kind: Kind,
    subject: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Questions with one answer; the answer finds its way back, whatever subject it names.
    Service,
    /// The same, and the server adds who asks.
    SignedService,
    /// Questions with several answers.
    Pulls,
    /// Messages in one direction.
    Stream,
}

/// Everything that crosses the border of an account.
fn shares() -> Vec<Share> {
    let mut shares = Shares::default();
    shares.add(FARM_ACCOUNT, CLIENT_ACCOUNT, Kind::SignedService, subjects::CLIENT_REQUESTS);
    shares.add(FARM_ACCOUNT, WORKER_ACCOUNT, Kind::SignedService, subjects::WORKER_REPORTS);
    shares.add(FARM_ACCOUNT, WORKER_ACCOUNT, Kind::Pulls, &subjects::pull("*"));
    let blobs = [client_blob_writes(Spaces::Every), client_blob_reads(Spaces::Every)];
    for service in blobs.into_iter().flatten() {
        shares.add(FARM_ACCOUNT, CLIENT_ACCOUNT, Kind::Service, &service);
    }
    let named = [subjects::RESULTS_OF_ALL, subjects::HOLDINGS].map(str::to_owned);
    let named = named.into_iter().chain([subjects::worker_keys()]);
    for service in worker_services().into_iter().chain(named) {
        shares.add(FARM_ACCOUNT, WORKER_ACCOUNT, Kind::Service, &service);
    }
    shares.add(FARM_ACCOUNT, WORKER_ACCOUNT, Kind::Stream, subjects::CANCELLATIONS);
    // Schedulers answer for jobs that are given up. What is stored for a worker stays inside.
    for from in [FARM_ACCOUNT, WORKER_ACCOUNT] {
        shares.add(from, CLIENT_ACCOUNT, Kind::Stream, subjects::RESULTS_OF_ALL);
    }
    shares.add(WORKER_ACCOUNT, CLIENT_ACCOUNT, Kind::Stream, subjects::PROGRESS_OF_ALL);
    shares.0
}

/// Shares, each with all accounts that it is for.
#[derive(Default)]
struct Shares(Vec<Share>);

impl Shares {
    fn add(&mut self, from: &'static str, to: &'static str, kind: Kind, subject: &str) {
        let same = |share: &&mut Share| {
            (share.from, share.kind, share.subject.as_str()) == (from, kind, subject)
        };
        match self.0.iter_mut().find(same) {
            Some(share) => share.to.push(to),
            None => self.0.push(Share { from, to: vec![to], kind, subject: subject.to_owned() }),
        }
    }
}

impl Share {
    fn export(&self) -> String {
        let (subject, to) = (&self.subject, self.to.join(", "));
        match self.kind {
            Kind::Service | Kind::SignedService => {
                format!("{{ service: \"{subject}\", accounts: [{to}] }}")
            }
            Kind::Pulls => {
                format!("{{ service: \"{subject}\", response_type: stream, accounts: [{to}] }}")
            }
            Kind::Stream => format!("{{ stream: \"{subject}\", accounts: [{to}] }}"),
        }
    }

    fn import(&self) -> String {
        let Self { from, subject, .. } = self;
        let source = format!("{{ account: {from}, subject: \"{subject}\" }}");
        match self.kind {
            Kind::Service | Kind::Pulls => format!("{{ service: {source} }}"),
            Kind::SignedService => format!("{{ service: {source}, share: true }}"),
            Kind::Stream => format!("{{ stream: {source} }}"),
        }
    }
}

fn accounts() -> String {
    let shares = shares();
    let list = |name: &str, lines: Vec<String>| {
        let lines: String = lines.iter().map(|line| format!("      {line}\n")).collect();
        format!("    {name}: [\n{lines}    ]\n")
    };
    let exports = |account| {
        let own = shares.iter().filter(|share| share.from == account);
        list("exports", own.map(Share::export).collect())
    };
    let imports = |account| {
        let own = shares.iter().filter(|share| share.to.contains(&account));
        list("imports", own.map(Share::import).collect())
    };
    let (farm_exports, client_imports) = (exports(FARM_ACCOUNT), imports(CLIENT_ACCOUNT));
    let (worker_exports, worker_imports) = (exports(WORKER_ACCOUNT), imports(WORKER_ACCOUNT));
    format!(
        r"accounts {{
  {FARM_ACCOUNT} {{
    jetstream: enabled
    users: [ {{ user: {SCHEDULER_USER}, password: $SCHEDULER_PASSWORD }} ]
{farm_exports}  }}
  # No JetStream in these two: nothing that a forged reply subject could reach.
  {CLIENT_ACCOUNT} {{
{client_imports}  }}
  {WORKER_ACCOUNT} {{
{worker_exports}{worker_imports}  }}
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
