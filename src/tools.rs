//! The short commands: ask the daemon, make keys, write archives, look around.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, ValueEnum as _};

use crate::cli::{Auth, Cli, ClientFlags, StatsFormat};
use crate::client::cache::State;
use crate::client::daemon::{Daemon, Home};
use crate::client::ipc::{Reply, Request};
use crate::client::login;
use crate::client::stats;
use crate::client::wrapper::{self, StartDaemon, Wrapper};
use crate::config::{self, Environment};
use crate::job::{Pool, WorkerId};
use crate::lifecycle::{self, Lifecycle};
use crate::queue::Secret;
use crate::scheduler::identity;
use crate::scheduler::identity::settings::{ClientAuth, ServerAuth};
use crate::toolchain::{self, archive};
use crate::{cli, client, setup};

mod farm;

/// Like std's, but a reader that went away (`| head -1`) is no reason to panic.
macro_rules! print {
    ($($words:tt)*) => { told(write!(io::stdout(), $($words)*)) };
}

/// Like std's, with the same difference.
macro_rules! println {
    ($($words:tt)*) => { $crate::tools::told(writeln!(std::io::stdout(), $($words)*)) };
}

mod denied;

fn told(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("jetcc: standard output: {error}");
    }
}

/// Takes `--stats-format FORMAT` out of the arguments: it may stand before or after `--show-stats`.
///
/// # Errors
/// When the format is unknown, as clap says it.
pub fn split_stats_format(
    arguments: &[OsString],
) -> Result<(Vec<OsString>, StatsFormat), clap::Error> {
    let mut rest = Vec::with_capacity(arguments.len());
    let mut format = StatsFormat::Text;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        let value = match text.strip_prefix("--stats-format") {
            Some("") => arguments.next().map(|value| value.to_string_lossy().into_owned()),
            Some(value) => value.strip_prefix('=').map(str::to_owned),
            None => {
                rest.push(argument.clone());
                continue;
            }
        };
        let value = value.unwrap_or_default();
        format = StatsFormat::from_str(&value, true).map_err(|_| {
            let message = format!("`{value}` is no format: wanted `text` or `json`");
            Cli::command().error(ErrorKind::InvalidValue, message)
        })?;
    }
    Ok((rest, format))
}

/// What `jetcc --…` asks of the daemon.
///
/// # Errors
/// With what went wrong, for people.
pub fn client(flags: &ClientFlags, format: StatsFormat) -> anyhow::Result<ExitCode> {
    let wrapper = Wrapper::from_environment()?;
    if let Some(pair) = &flags.package_toolchain {
        return package_toolchain(&pair[0], &pair[1]);
    }
    if flags.start_server {
        return start(&wrapper);
    }
    if flags.stop_server {
        let Some(reply) = wrapper.ask(&Request::Stop)? else {
            bail!("no daemon listens on `{}`", wrapper.socket.display());
        };
        println!("stopping the daemon");
        print_stats(reply, StatsFormat::Text);
    } else if flags.show_stats {
        // Zeros when there is none: looking must not start a daemon.
        let reply = wrapper.ask(&Request::Stats)?;
        let zeros = || {
            Reply::Text(
                stats::Stats::default().json("no daemon", &State::default(), &[]).to_string(),
            )
        };
        print_stats(reply.unwrap_or_else(zeros), format);
    } else if flags.zero_stats {
        ask_started(&wrapper, &Request::ZeroStats)?;
        eprintln!("statistics zeroed");
    } else if let Some(way) = flags.dist_auth {
        return log_in(way);
    } else if flags.dist_status {
        println!("{}", ask_started(&wrapper, &Request::DistStatus)?);
    } else {
        Cli::command().print_help()?;
        return Ok(2.into());
    }
    Ok(ExitCode::SUCCESS)
}

/// `jetcc --dist-auth`: says what to do, and in the end who was logged in and until when.
fn log_in(way: Option<cli::Way>) -> anyhow::Result<ExitCode> {
    let environment = Environment::capture();
    let settings = config::client(&environment)?;
    let way = way.map(|way| match way {
        cli::Way::Browser => login::Way::Browser,
        cli::Way::Device => login::Way::Device,
    });
    let wish = login::Wish { way, browser: environment.browser() };
    let (auth, folder) = (settings.dist.auth.as_ref(), settings.login_dir.as_deref());
    let logged_in = login::log_in(auth, folder, wish, &|words| println!("{words}"));
    let user = tokio::runtime::Runtime::new()?.block_on(logged_in)?;
    let who = user.who.map_or_else(|| "logged in".to_owned(), |who| format!("you are `{who}`"));
    let end = user.expires.and_then(|end| chrono::DateTime::from_timestamp(end.cast_signed(), 0));
    let until = end.map_or_else(String::new, |end| {
        format!(" until {}", end.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S"))
    });
    let then = if user.renewable { ", and renewed as long as the provider agrees" } else { "" };
    println!("{who} at `{}`{until}{then}", user.provider);
    Ok(ExitCode::SUCCESS)
}

/// `jetcc explain`.
///
/// # Errors
/// When no daemon can be started.
pub fn explain(what: &str) -> anyhow::Result<ExitCode> {
    let wrapper = Wrapper::from_environment()?;
    print!("{}", ask_started(&wrapper, &Request::Explain(what.to_owned()))?);
    Ok(ExitCode::SUCCESS)
}

/// Starts the daemon; in the foreground under `JETCC_NO_DAEMON`.
fn start(wrapper: &Wrapper) -> anyhow::Result<ExitCode> {
    if wrapper.ask(&Request::Stats)?.is_some() {
        bail!("a daemon already listens on `{}`", wrapper.socket.display());
    }
    if wrapper.start == StartDaemon::Yes {
        wrapper.start_daemon()?;
        println!("daemon listens on `{}`", wrapper.socket.display());
        return Ok(ExitCode::SUCCESS);
    }
    lifecycle::keep_memory_private()?;
    let environment = Environment::capture();
    let settings = config::client(&environment)?;
    let cache_dir = settings.cache_dir.clone();
    let home = Home {
        socket: wrapper.socket.clone(),
        cache_dir: cache_dir.unwrap_or_else(|| environment.cache_home().join("jetcc")),
        own_executable: wrapper.own_executable.clone(),
    };
    let (filter, file) = environment.log("info");
    let sink = file.as_deref().map_or(crate::telemetry::Sink::Stderr, crate::telemetry::Sink::File);
    crate::telemetry::start(&filter, sink)?;
    let daemon = std::sync::Arc::new(Daemon::new(settings, &home)?);
    tokio::runtime::Runtime::new()?.block_on(async {
        let lifecycle = Lifecycle::with_signals()?;
        client::daemon::serve(daemon, &home, &lifecycle).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn ask_started(wrapper: &Wrapper, request: &Request) -> anyhow::Result<String> {
    let reply = match wrapper.ask(request)? {
        Some(reply) => reply,
        None => {
            wrapper.start_daemon().context("the daemon does not start")?;
            wrapper.ask(request)?.context("the daemon left at once")?
        }
    };
    match reply {
        Reply::Text(text) => Ok(text),
        _ => bail!("the daemon speaks another version\nhint: `jetcc --stop-server`"),
    }
}

fn print_stats(reply: Reply, format: StatsFormat) {
    let Reply::Text(json) = reply else { return };
    match (format, serde_json::from_str(&json)) {
        (StatsFormat::Text, Ok(json)) => print!("{}", stats::text(&json)),
        _ => println!("{json}"),
    }
}

fn package_toolchain(compiler: &Path, out: &Path) -> anyhow::Result<ExitCode> {
    let environment = Environment::capture();
    let own = wrapper::own_executable()?;
    let folder = std::env::current_dir()?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let name = compiler.to_str().context("the compiler's path is not UTF-8")?;
        let resolved = toolchain::resolve(name, &folder, environment.all(), &own).await?;
        let index = crate::store::stamps::FileIndex::in_pieces(100_000, || Box::new(()));
        let settings = toolchain::Settings::default();
        let packed = toolchain::collect(&resolved, &index, &settings).await?;
        archive::export(&packed, out)?;
        println!("toolchain {} of `{name}` is in `{}`", packed.tree_digest, out.display());
        Ok(ExitCode::SUCCESS)
    })
}

/// `jetcc auth …`.
///
/// # Errors
/// When a file cannot be read or written, or a key is malformed.
pub fn auth(what: &Auth) -> anyhow::Result<ExitCode> {
    match what {
        Auth::Init(wish) => println!("{}", farm::init(wish)?),
        Auth::GenerateCertificate(wish) => println!("{}", farm::certificate(wish)?),
        Auth::Deny { who, reason, hours } => denied::deny(who, reason, *hours)?,
        Auth::Allow { who } => denied::allow(who)?,
        Auth::Denied { config } => denied::list(config)?,
        Auth::GenerateJwtHs256Key => println!("{}", setup::random_text(32)?.reveal()),
        Auth::GenerateSharedToken { bits } => {
            let bytes = usize::try_from(bits / 8)?;
            if !bits.is_multiple_of(8) || !(8..=512).contains(&bytes) {
                bail!("`--bits {bits}`: wanted 64 to 4096, a multiple of 8");
            }
            println!("{}", setup::random_text(bytes)?.reveal());
        }
        Auth::GenerateJwtHs256ServerToken { server, secret_key_file, config, days, pool } => {
            let key = match (secret_key_file, config) {
                (Some(file), _) => read_secret(file)?,
                (None, Some(config)) => server_key(config)?,
                (None, None) => bail!("name the key: `--secret-key-file` or `--config`"),
            };
            let pools = match pool.as_slice() {
                [] => vec![Pool::of_this_machine()],
                named => named.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
            };
            if server != "*" {
                server.parse::<WorkerId>()?;
            }
            let token = identity::worker_token(&key, server, pools, end_after(*days))?;
            println!("{}", token.reveal());
        }
        Auth::GenerateJwtHs256ClientToken { user, tenant, config, days } => {
            let (settings, _) = config::scheduler(config, &Environment::capture())?;
            let tenant = tenant.as_deref().map(str::parse).transpose()?;
            let rules = settings.client_auth.iter().find_map(|way| match way {
                ClientAuth::JwtHs256(rules) => Some(rules),
                _ => None,
            });
            let rules = rules.with_context(|| {
                format!("`{}` has no `client_auth` of type `jwt_hs256`", config.display())
            })?;
            println!("{}", identity::client_token(rules, user, tenant, end_after(*days))?.reveal());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The key of workers' tokens in a scheduler's settings.
fn server_key(config: &Path) -> anyhow::Result<Secret> {
    let (settings, _) = config::scheduler(config, &Environment::capture())?;
    match settings.server_auth {
        ServerAuth::JwtHs256 { secret_key } => Ok(secret_key),
        _ => bail!("`server_auth` in `{}` is not of type `jwt_hs256`", config.display()),
    }
}

fn end_after(days: u32) -> u64 {
    setup::seconds_from_now(u64::from(days) * 24 * 3_600)
}

fn read_secret(file: &Path) -> anyhow::Result<Secret> {
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("`{}`", file.display()))?;
    }
    Ok(Secret::new(&text))
}

/// `jetcc doctor`: what this machine has and lacks.
///
/// # Errors
/// When this program's own file cannot be found.
pub fn doctor() -> anyhow::Result<ExitCode> {
    let environment = Environment::capture();
    let wrapper = Wrapper::from_environment()?;
    let mut healthy = true;
    let mut say = |what: &str, found: Result<String, String>| match found {
        Ok(good) => println!("ok       {what}: {good}"),
        Err(bad) => {
            healthy = false;
            println!("trouble  {what}: {bad}");
        }
    };
    let settings = config::client(&environment);
    say("settings", settings.as_ref().map(|_| "readable".into()).map_err(ToString::to_string));
    for program in ["gcc", "g++", "clang", "clang++", "bwrap", "nats-server"] {
        let path = environment.find_program(program);
        println!(
            "{}  {program}: {}",
            if path.is_some() { "ok     " } else { "absent " },
            path.map_or_else(|| "not in PATH".into(), |path| path.display().to_string())
        );
    }
    let status = ask_started(&wrapper, &Request::DistStatus);
    say(
        "farm",
        status.map_err(|error| format!("{error:#}")).and_then(|status| {
            if status.contains("SchedulerStatus") { Ok(status) } else { Err(status) }
        }),
    );
    Ok(if healthy { ExitCode::SUCCESS } else { 1.into() })
}
