//! What the user may type: types alone. A compile never comes here, see `main.rs`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Names that are commands of ours and therefore never compilers.
pub const COMMANDS: [&str; 7] = ["scheduler", "worker", "dev", "auth", "explain", "doctor", "help"];

/// Distributed compilation over NATS.
///
/// `jetcc gcc -c a.c` compiles wherever CPU is free and gives what `gcc -c a.c` would have given.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to ask the daemon of this user.
    #[command(flatten)]
    pub client: ClientFlags,
    /// A role or a tool.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const AFTER_HELP: &str = "\
Compiling:
  jetcc gcc -c a.c -o a.o         one compile
  make CC='jetcc gcc'             a build
  cmake -DCMAKE_C_COMPILER_LAUNCHER=jetcc -DCMAKE_CXX_COMPILER_LAUNCHER=jetcc
  ln -s $(which jetcc) ~/bin/gcc  as a symbolic link before the compiler in PATH";

/// Exactly one of these, or a command.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub struct ClientFlags {
    /// Start the daemon.
    #[arg(long)]
    pub start_server: bool,
    /// Stop the daemon.
    #[arg(long)]
    pub stop_server: bool,
    /// Show what was counted since the daemon started (`--stats-format json` for programs).
    #[arg(long, short = 's')]
    pub show_stats: bool,
    /// Set all counters to zero.
    #[arg(long, short = 'z')]
    pub zero_stats: bool,
    /// Show whether the farm is reachable and who works there.
    #[arg(long)]
    pub dist_status: bool,
    /// Log in at the farm's provider: in a browser on this machine, or with a code on any `device`.
    #[arg(long, value_name = "WAY", num_args = 0..=1, require_equals = true)]
    pub dist_auth: Option<Option<Way>>,
    /// Write the toolchain of a compiler into an archive.
    #[arg(long, num_args = 2, value_names = ["COMPILER", "OUT"])]
    pub package_toolchain: Option<Vec<PathBuf>>,
}

/// Where the user's browser is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// On this machine.
    Browser,
    /// On any machine: it shows a page that asks for a code.
    Device,
}

/// How statistics are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatsFormat {
    /// A table.
    Text,
    /// JSON with sccache's field names.
    Json,
}

/// Roles and tools.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Decide which job comes when.
    Scheduler {
        /// Its settings.
        #[arg(long)]
        config: PathBuf,
    },
    /// Compile for others.
    Worker {
        /// Its settings.
        #[arg(long)]
        config: PathBuf,
    },
    /// Run a whole farm on this machine, and a command in it.
    Dev {
        /// Workers to start.
        #[arg(long, default_value_t = 1)]
        workers: u32,
        /// The nats-server program.
        #[arg(long)]
        nats_server: Option<PathBuf>,
        /// What to run; a shell when absent.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Make keys and tokens; keep somebody out.
    Auth {
        /// Which.
        #[command(subcommand)]
        what: Auth,
    },
    /// Say why a compile ran where it did.
    Explain {
        /// Part of the file's name or of the job's id; the latest compiles when absent.
        #[arg(default_value = "")]
        what: String,
    },
    /// Check what this machine needs to take part.
    Doctor,
}

/// Somebody in a farm.
#[derive(Args, Debug)]
pub struct Who {
    /// What it is.
    #[arg(value_parser = crate::job::Party::KINDS)]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The scheduler's settings, for its secrets.
    #[arg(long)]
    pub config: PathBuf,
}

/// Who may take part: keys, tokens, and who is kept out.
#[derive(Debug, Subcommand)]
pub enum Auth {
    /// Write everything that a new farm needs into a folder.
    Init(Init),
    /// Sign a certificate with the authority that `auth init` has made.
    GenerateCertificate(GenerateCertificate),
    /// Keep a worker, client, user or tenant out, and end its connections.
    Deny {
        /// Whom.
        #[command(flatten)]
        who: Who,
        /// Why, for other operators.
        #[arg(long)]
        reason: String,
        /// Hours until it ends; for ever when absent.
        #[arg(long)]
        hours: Option<u32>,
    },
    /// Let somebody in again who was denied.
    Allow {
        /// Whom.
        #[command(flatten)]
        who: Who,
    },
    /// List who is denied, by whom and why.
    Denied {
        /// The scheduler's settings, for its secrets.
        #[arg(long)]
        config: PathBuf,
    },
    /// Print a key for `server_auth`, or for `client_auth` of type `jwt_hs256`.
    GenerateJwtHs256Key,
    /// Print a token for a client, for `client_auth` of type `jwt_hs256`.
    GenerateJwtHs256ClientToken {
        /// The person or service that it names.
        #[arg(long)]
        user: String,
        /// Its tenant, where `client_auth` has `tenant_claim = "tenant"`.
        #[arg(long)]
        tenant: Option<String>,
        /// The scheduler's settings, for key, issuer and audience.
        #[arg(long)]
        config: PathBuf,
        /// Days until it ends.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
        days: u32,
    },
    /// Print a token for a worker.
    GenerateJwtHs256ServerToken {
        /// The worker's id; `*` lets it choose one.
        #[arg(long, default_value = "*")]
        server: String,
        /// File that holds the key of `server_auth`, or `-` for standard input.
        #[arg(long, required_unless_present = "config", conflicts_with = "config")]
        secret_key_file: Option<PathBuf>,
        /// The scheduler's settings, for its key.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Days until it ends.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..))]
        days: u32,
        /// Pools that the worker may serve; this machine's when absent.
        #[arg(long)]
        pool: Vec<String>,
    },
    /// Print a token for `client_auth`.
    GenerateSharedToken {
        /// Random bits in it.
        #[arg(long, default_value_t = 256)]
        bits: u32,
    },
}

/// `jetcc auth init`.
#[derive(Args, Debug)]
pub struct Init {
    /// The folder; created with mode 0700.
    #[arg(long)]
    pub out: PathBuf,
    /// Where everybody reaches the NATS server; `tls://HOST:4222` unless that is this machine alone.
    #[arg(long, default_value = "nats://127.0.0.1:4222")]
    pub nats_url: String,
    /// Another name or address of the server, for its certificate.
    #[arg(long, value_name = "HOST")]
    pub tls_host: Vec<String>,
    /// Everybody shows a certificate, and a worker the one of its name.
    #[arg(long)]
    pub mutual_tls: bool,
    /// The folder as the server will see it, if it is not OUT.
    #[arg(long, value_name = "FOLDER")]
    pub server_folder: Option<PathBuf>,
    /// Lets secrets, sources and objects cross the network unencrypted.
    #[arg(long)]
    pub allow_plaintext_over_network: bool,
    /// Whose files they shall be: user id and group id, for containers.
    #[arg(long, value_name = "UID:GID")]
    pub owner: Option<String>,
}

/// `jetcc auth generate-certificate`.
#[derive(Args, Debug)]
pub struct GenerateCertificate {
    /// The farm's folder, for `ca.key`.
    #[arg(long)]
    pub farm: PathBuf,
    /// Who will show it.
    #[arg(long, value_enum)]
    pub role: CertificateRole,
    /// The worker's id, `*` for any; or a name or address of the server, several times.
    #[arg(long)]
    pub name: Vec<String>,
    /// Days until it ends.
    #[arg(long, default_value_t = 365)]
    pub days: u32,
    /// Writes OUT.pem and OUT.key.
    #[arg(long)]
    pub out: PathBuf,
}

/// Who shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CertificateRole {
    /// nats-server.
    Server,
    /// A scheduler.
    Scheduler,
    /// A worker.
    Worker,
    /// Clients.
    Client,
}
