//! Everything but the wrapper: the daemon, the farm's roles and the short commands, each started by
//! `jetcc`. Composition root: which role is this, with which settings, and how did it end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use jetcc::cli::{Cli, Command};
use jetcc::client::daemon::{self, Daemon, Home};
use jetcc::client::wrapper::{self, DAEMON_ARGUMENT};
use jetcc::config::{self, ConfigError, Environment, WorkerConfig};
use jetcc::lifecycle::{self, Lifecycle};
use jetcc::queue::QueueError;
use jetcc::queue::blobs::NatsBlobs;
use jetcc::scheduler::identity::{Identity, Unusable};
use jetcc::store::{Blobs, StoreSettingsError};
use jetcc::{dev, scheduler, telemetry, tools, worker};

/// Exit code for settings that cannot be used (`EX_USAGE`).
const BAD_SETTINGS: u8 = 64;
/// Exit code for everything else that went wrong.
const TROUBLE: u8 = 1;

fn main() -> ExitCode {
    lifecycle::give_memory_back();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("jetcc: {}", sentence(&error));
            let settings = error.is::<ConfigError>()
                || error.is::<Unusable>()
                || error.is::<StoreSettingsError>()
                || error.downcast_ref().is_some_and(QueueError::is_of_settings);
            if settings { BAD_SETTINGS } else { TROUBLE }.into()
        }
    }
}

/// The error and its causes, without those that the words before them tell already.
fn sentence(error: &anyhow::Error) -> String {
    let mut words = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

fn run(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    if arguments.get(1).is_some_and(|first| first == DAEMON_ARGUMENT) {
        let socket = arguments.get(2).map(PathBuf::from).context("no socket was named")?;
        return run_daemon(socket).map(|()| ExitCode::SUCCESS);
    }
    let cli = match tools::split_stats_format(arguments) {
        Ok((arguments, format)) => match Cli::try_parse_from(arguments) {
            Ok(cli) => (cli, format),
            Err(error) => error.exit(),
        },
        Err(error) => error.exit(),
    };
    let (cli, format) = cli;
    match cli.command {
        None => tools::client(&cli.client, format),
        Some(Command::Scheduler { config }) => run_scheduler(&config),
        Some(Command::Worker { config }) => run_worker(&config),
        Some(Command::Dev { workers, nats_server, command }) => {
            runtime()?.block_on(dev::run(dev::Wish { workers, nats_server, command }))
        }
        Some(Command::Auth { what }) => tools::auth(&what),
        Some(Command::Explain { what }) => tools::explain(&what),
        Some(Command::Doctor) => tools::doctor(),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Runs a role to its end on the runtime's own threads: what the calling thread runs is woken by one
/// of them each time, which costs a compile more than most of its steps.
fn run_role<T: Send + 'static>(
    role: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    runtime()?.block_on(async { tokio::spawn(role).await? })
}

fn start_log(environment: &Environment, default: &str) -> anyhow::Result<()> {
    let (filter, file) = environment.log(default);
    let sink = file.as_deref().map_or(telemetry::Sink::Stderr, telemetry::Sink::File);
    Ok(telemetry::start(&filter, sink)?)
}

/// The daemon says on standard output why it cannot start: whoever started it reads that.
fn run_daemon(socket: PathBuf) -> anyhow::Result<()> {
    let started = start_daemon(socket);
    if let Err(error) = &started {
        println!("{}", sentence(error));
    }
    started
}

fn start_daemon(socket: PathBuf) -> anyhow::Result<()> {
    lifecycle::keep_memory_private()?;
    let environment = Environment::capture();
    start_log(&environment, "warn")?;
    let settings = config::client(&environment)?;
    let cache_dir = settings.cache_dir.clone();
    let home = Home {
        socket,
        cache_dir: cache_dir.unwrap_or_else(|| environment.cache_home().join("jetcc")),
        own_executable: wrapper::own_executable()?,
    };
    let daemon = Arc::new(Daemon::new(settings, &home)?);
    run_role(async move {
        let lifecycle = Lifecycle::with_signals()?;
        daemon::serve(daemon, &home, &lifecycle).await?;
        Ok(())
    })
}

fn run_scheduler(path: &Path) -> anyhow::Result<ExitCode> {
    lifecycle::keep_memory_private()?;
    let environment = Environment::capture();
    let (settings, secrets) = config::scheduler(path, &environment)?;
    start_log(&environment, "info")?;
    run_role(async move {
        let identity = Identity::new(&settings).await?;
        let settings = Arc::new(settings);
        let lifecycle = Lifecycle::with_signals()?;
        let connect = scheduler::run::connect(&settings, &secrets);
        let connection = tokio::select! {
            () = lifecycle.stopping() => return Ok(ExitCode::SUCCESS),
            connection = connect => connection?,
        };
        let blobs = Blobs::open(&settings.store, NatsBlobs::shared(connection.clone()))?;
        Box::pin(scheduler::run(connection, blobs, identity, settings, &secrets, &lifecycle))
            .await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn run_worker(path: &Path) -> anyhow::Result<ExitCode> {
    lifecycle::keep_memory_private()?;
    let environment = Environment::capture();
    let config = config::worker(path, &environment)?;
    start_log(&environment, "info")?;
    run_role(async move {
        let lifecycle = Lifecycle::with_signals()?;
        let WorkerConfig { nats_url, tls, worker, token, store, pool, settings } = config;
        let identity = worker::run::Identity { nats_url, tls, worker, token, pool };
        let connect = worker::run::connect(&identity);
        let connection = tokio::select! {
            () = lifecycle.stopping() => return Ok(ExitCode::SUCCESS),
            connection = connect => connection?,
        };
        let blobs = Blobs::open(&store, NatsBlobs::shared(connection.clone()))?;
        worker::run::run(connection, blobs, &settings, &identity, &lifecycle).await?;
        Ok(ExitCode::SUCCESS)
    })
}
