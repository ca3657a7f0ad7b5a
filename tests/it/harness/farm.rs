//! A whole farm of real processes for one test: nats-server, scheduler, workers and a client's
//! environment, in one temporary folder and on free ports of the loopback.
//!
//! A test ends it with [`Farm::finish`], which asserts that nothing is left of it: no job in the
//! queue, no folder of a job, no mount, no process. A test that fails shows all logs instead.

use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetcc::config::Environment;
use jetcc::exec::{self, Ended, Finished, Spec};
use jetcc::job::Pool;
use jetcc::queue::Secret;
use jetcc::scheduler::identity;
use jetcc::setup::{self, Shown, Tls, Transport};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use toml::Table;

use super::members::{Member, Variables};
use super::nats::{self, Addresses, Held};
use super::processes::{self, Process};
use super::stats::Stats;
use super::wait::until;

/// The program under test.
pub(crate) const JETCC: &str = env!("CARGO_BIN_EXE_jetcc");
/// How long a command of a test may run.
const COMMAND: Duration = Duration::from_secs(300);
/// Lines of each log that a failing test shows.
const LOG_LINES: usize = 120;
/// A worker of tests takes its slots whatever else runs on this machine.
const WORKER: &str = "load = 'ignore'\nmemory_per_job_bytes = 1048576";

/// Which jobs are audited is left to chance; tests ask for it where they want it.
const SCHEDULER: &str = "audit.sample_rate = 0";

/// What the farm shall look like.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    workers: u32,
    settings: Vec<(&'static str, String)>,
    /// Who shows a certificate; nothing is encrypted when nobody does.
    shown: Option<Shown>,
    log: Option<&'static str>,
}

impl Builder {
    /// Workers to start, `worker-1` and so on.
    pub(crate) fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// TOML over the settings of `role` (`scheduler`, `worker`, `client`).
    pub(crate) fn setting(mut self, role: &'static str, toml: &str) -> Self {
        self.settings.push((role, toml.to_owned()));
        self
    }

    /// Encrypts every connection.
    pub(crate) fn tls(mut self, shown: Shown) -> Self {
        self.shown = Some(shown);
        self
    }

    /// How much all roles log, as `JETCC_LOG`.
    pub(crate) fn log(self, filter: &'static str) -> Self {
        Self { log: Some(filter), ..self }
    }

    /// Keeps blobs at `url` instead of in NATS.
    pub(crate) fn store(self, url: &str) -> Self {
        self.stored(&format!("store.url = '{url}'").parse().unwrap())
    }

    /// Keeps blobs where the section `[store]` says.
    pub(crate) fn stored(self, section: &Table) -> Self {
        let client = Table::from_iter([("dist".to_owned(), section.clone().into())]);
        let (all, client) = (section.to_string(), client.to_string());
        self.setting("scheduler", &all).setting("worker", &all).setting("client", &client)
    }

    /// Starts everything and waits until the workers are known; the daemon does not run yet.
    pub(crate) async fn start(self) -> Farm {
        let folder = tempfile::Builder::new().prefix("jetcc-it-").tempdir().unwrap();
        let path = folder.path();
        let (transport, scheme) = transport(path, self.shown);
        let (place, url) = (nats::place(path), "nats://set.by.environment");
        setup::write(&path.join("farm"), &place, url, &transport).unwrap();
        let mut server = nats::member(path);
        server.start();
        let addresses = nats::settle(path, scheme).await;
        let mut variables = variables(path, &addresses);
        variables.extend(self.log.map(|filter| ("JETCC_LOG".into(), filter.into())));
        let mut farm = Farm { folder, variables, addresses, members: vec![server], ended: false };
        farm.set("worker", WORKER);
        farm.set("scheduler", SCHEDULER);
        for (role, toml) in &self.settings {
            farm.set(role, toml);
        }
        farm.add("scheduler", "scheduler").await;
        for number in 1..=self.workers {
            farm.add("worker", &format!("worker-{number}")).await;
        }
        farm.wait_for_workers(self.workers).await;
        farm.stop_daemon().await;
        farm
    }
}

/// How the farm in `folder` talks, and the scheme of its address.
fn transport(folder: &Path, shown: Option<Shown>) -> (Transport, &'static str) {
    match shown {
        None => (Transport::Plain, "nats"),
        Some(shown) => {
            let (hosts, server_folder) = (vec!["127.0.0.1".into()], folder.join("farm"));
            (Transport::Tls(Tls { hosts, shown, server_folder }), "tls")
        }
    }
}

fn variables(folder: &Path, addresses: &Addresses) -> Variables {
    let path = Environment::capture().text("PATH").unwrap();
    let home = folder.join("home");
    fs::create_dir(&home).unwrap();
    [
        ("PATH", path.into()),
        ("HOME", home.into_os_string()),
        ("JETCC_NATS_URL", addresses.nats.clone().into()),
        ("JETCC_DIST_SCHEDULER_URL", addresses.nats.clone().into()),
        ("JETCC_CONF", folder.join("farm/client.toml").into()),
        ("JETCC_SERVER_UDS", folder.join("daemon.sock").into()),
        ("JETCC_CACHE_DIR", folder.join("client").into()),
        // Tests of the farm compile the same again and again, and mean the farm each time.
        ("JETCC_CACHE_SIZE", "0".into()),
        ("JETCC_ERROR_LOG", folder.join("client.log").into()),
        ("JETCC_LOG", "info,jetcc=debug".into()),
        // Slots are shared by the whole machine; tests shall not wait for other builds.
        ("JETCC_LOCAL_SLOTS", "64".into()),
        // Nor is a busy machine a reason to compile here.
        ("JETCC_QUEUE_WAIT_SECONDS_MAX", "240".into()),
        ("JETCC_DIST_QUEUE_WAIT_SECONDS_MAX", "240".into()),
    ]
    .map(|(name, value): (&str, OsString)| (name.into(), value))
    .into()
}

/// A farm on this machine.
pub(crate) struct Farm {
    folder: TempDir,
    variables: Variables,
    addresses: Addresses,
    /// In the order of starting; stopped in reverse.
    members: Vec<Member>,
    ended: bool,
}

impl Farm {
    /// A farm with one worker.
    pub(crate) fn builder() -> Builder {
        Builder { workers: 1, ..Builder::default() }
    }

    /// A path in the farm's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts TOML over the settings of `role`; holds from the next start of that role on.
    pub(crate) fn set(&self, role: &str, toml: &str) {
        let file = self.path(&format!("farm/{role}.toml"));
        let mut table: Table = fs::read_to_string(&file).unwrap().parse().unwrap();
        merge(&mut table, toml.parse().unwrap());
        fs::write(file, table.to_string()).unwrap();
    }

    /// Takes a section out of the settings of `role`; holds from the next start of that role on.
    pub(crate) fn unset(&self, role: &str, section: &str) {
        let file = self.path(&format!("farm/{role}.toml"));
        let mut table: Table = fs::read_to_string(&file).unwrap().parse().unwrap();
        table.remove(section).unwrap();
        fs::write(file, table.to_string()).unwrap();
    }

    /// What stands in the settings of `role` under a dotted key.
    pub(crate) fn setting(&self, role: &str, key: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("farm/{role}.toml"))).unwrap();
        let mut value = toml::Value::Table(text.parse().unwrap());
        for part in key.split('.') {
            value = value[part].clone();
        }
        value.as_str().unwrap().to_owned()
    }

    /// Sets a variable of the client.
    pub(crate) fn set_variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.insert(name.into(), value.into());
    }

    /// Takes a variable of the client away.
    pub(crate) fn unset_variable(&mut self, name: &str) {
        self.variables.remove(std::ffi::OsStr::new(name));
    }

    /// Adds a scheduler or worker and waits until it is ready.
    pub(crate) async fn add(&mut self, role: &str, name: &str) {
        self.add_with(role, name, &[("JETCC_CACHE_DIR", self.path(name))]).await;
    }

    /// Adds a scheduler or worker with variables of its own.
    pub(crate) async fn add_with(&mut self, role: &str, name: &str, own: &[(&str, PathBuf)]) {
        let config = self.path(&format!("farm/{role}.toml")).display().to_string();
        let mut variables: Vec<_> =
            own.iter().map(|(name, value)| (*name, value.clone().into())).collect();
        variables.push(("JETCC_WORKER_ID", name.into()));
        self.enlist(name, &[role, "--config", &config], variables).await;
    }

    /// Adds the client's daemon as a process that stays in the foreground.
    pub(crate) async fn add_daemon(&mut self) {
        let own = vec![("JETCC_NO_DAEMON", "1".into())];
        self.enlist("client-daemon", &["--start-server"], own).await;
    }

    async fn enlist(&mut self, name: &str, arguments: &[&str], own: Vec<(&str, OsString)>) {
        let mut variables = self.variables.clone();
        variables.remove(std::ffi::OsStr::new("JETCC_ERROR_LOG"));
        variables.extend(own.into_iter().map(|(name, value)| (name.into(), value)));
        let arguments = arguments.iter().map(Into::into).collect();
        let log = self.path(&format!("{name}.log"));
        let mut member = Member::new(name, JETCC.into(), arguments, variables, log);
        member.start_until(ready_words(name)).await;
        self.members.push(member);
    }

    /// Waits until the farm knows `count` workers.
    pub(crate) async fn wait_for_workers(&self, count: u32) {
        until(&format!("{count} workers are known"), async || {
            let known = self.status().await["SchedulerStatus"][1]["num_servers"].as_u64();
            (known == Some(count.into())).then_some(())
        })
        .await;
    }

    /// `--dist-status`, as JSON.
    pub(crate) async fn status(&self) -> Value {
        let done = self.jetcc(self.folder.path(), &["--dist-status"]).await;
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
    }

    /// Runs `jetcc ARGUMENTS` in `folder`; the future stands alone and may be spawned.
    pub(crate) fn jetcc(
        &self,
        folder: &Path,
        arguments: &[&str],
    ) -> impl Future<Output = Finished> + Send + use<> {
        self.run(folder, JETCC, arguments)
    }

    /// Runs `program`, a path or a name in `PATH`, in `folder` with the client's environment.
    pub(crate) fn run(
        &self,
        folder: &Path,
        program: &str,
        arguments: &[&str],
    ) -> impl Future<Output = Finished> + Send + use<> {
        let program = match program.contains('/') {
            true => program.into(),
            false => Environment::capture().find_program(program).unwrap(),
        };
        let spec = Spec {
            arguments: arguments.iter().map(Into::into).collect(),
            environment: self.variables.clone(),
            directory: folder.into(),
            stream_bytes_max: 64 << 20,
            deadline: COMMAND,
            ..Spec::of(&program)
        };
        async { exec::run(spec).await.unwrap() }
    }

    /// The client's counters.
    pub(crate) async fn stats(&self) -> Stats {
        let arguments = ["--show-stats", "--stats-format", "json"];
        Stats::parse(&self.jetcc(self.folder.path(), &arguments).await.stdout)
    }

    /// What the client says about its latest compiles, or those that `what` names.
    pub(crate) async fn explain(&self, what: &str) -> String {
        let done = self.jetcc(self.folder.path(), &["explain", what]).await;
        String::from_utf8(done.stdout).unwrap()
    }

    /// What the client's daemon logged.
    pub(crate) fn client_log(&self) -> String {
        fs::read_to_string(self.path("client.log")).unwrap_or_default()
    }

    /// Where the server listens.
    pub(crate) fn nats_url(&self) -> &str {
        &self.addresses.nats
    }

    /// What a stream of the server holds.
    pub(crate) fn held(&self, stream: &str) -> Held {
        self.addresses.held(stream)
    }

    /// How many messages a stream of the server was ever given.
    pub(crate) fn ever_held(&self, stream: &str) -> u64 {
        self.addresses.ever_held(stream)
    }

    /// A process of the farm by its name.
    pub(crate) fn member(&self, name: &str) -> &Member {
        self.members.iter().find(|member| member.name == name).unwrap()
    }

    fn member_mut(&mut self, name: &str) -> &mut Member {
        self.members.iter_mut().find(|member| member.name == name).unwrap()
    }

    /// Sends `signal` to a process of the farm.
    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        self.member(name).signal(signal);
    }

    /// Ends a process by `SIGKILL`.
    pub(crate) async fn kill(&mut self, name: &str) {
        self.member_mut(name).end(Signal::KILL).await;
    }

    /// Ends a process by `SIGTERM`; asserts that it ended cleanly.
    pub(crate) async fn stop(&mut self, name: &str) {
        let status = self.member_mut(name).end(Signal::TERM).await;
        // The server's own exit code for a signal differs from version to version.
        let clean = status.success() || name == "nats-server";
        assert!(clean, "{name} ended with {status}");
        if name.starts_with("worker") {
            let builds = self.member(name).cache_dir().join("build");
            let left = fs::read_dir(builds).unwrap().flatten().map(|entry| entry.file_name());
            let left: Vec<OsString> = left.filter(|name| name != "lock").collect();
            assert!(left.is_empty(), "{name} left folders of jobs: {left:?}");
        }
    }

    /// Starts a process again that was ended, and waits until it is ready.
    pub(crate) async fn start_again(&mut self, name: &str) {
        self.member_mut(name).start_until(ready_words(name)).await;
    }

    /// Starts a process again that will not become ready.
    pub(crate) fn start_unready(&mut self, name: &str) {
        self.member_mut(name).start();
    }

    /// Waits until `worker` runs the compiler on `source`.
    pub(crate) async fn compiles(&self, worker: &str, source: &str) -> Process {
        let id = self.member(worker).id();
        let what = format!("{worker} compiles {source}");
        until(&what, async || processes::compiling(id, source)).await
    }

    /// The one of two workers that compiles `source`, and the other.
    pub(crate) async fn whoever_compiles(&self, source: &str) -> (&'static str, &'static str) {
        let pair = [("worker-1", "worker-2"), ("worker-2", "worker-1")];
        until(&format!("a worker compiles {source}"), async || {
            let compiles = |name| processes::compiling(self.member(name).id(), source).is_some();
            pair.into_iter().find(|(one, _)| compiles(one))
        })
        .await
    }

    /// The client's daemon, if one runs.
    pub(crate) fn daemons(&self) -> Vec<Process> {
        let mut found = processes::naming(&self.path("daemon.sock").display().to_string());
        found.retain(|process| process.words.contains("--internal-daemon"));
        found
    }

    /// Stops the daemon, if one runs, and waits until it is gone.
    pub(crate) async fn stop_daemon(&self) {
        let socket = self.path("daemon.sock");
        if UnixStream::connect(&socket).is_ok() {
            let done = self.jetcc(self.folder.path(), &["--stop-server"]).await;
            assert_eq!(done.status, Ended::Code(0), "{done:?}");
        }
        self.wait_until_daemon_is_gone().await;
    }

    /// Waits until no daemon runs and none answers: one in the foreground has a name of its own, one
    /// that was killed loses its words before its socket.
    pub(crate) async fn wait_until_daemon_is_gone(&self) {
        let socket = self.path("daemon.sock");
        let answers = || UnixStream::connect(&socket).is_ok();
        until("the daemon is gone", async || {
            (self.daemons().is_empty() && !answers()).then_some(())
        })
        .await;
    }

    /// Stops everything, youngest first, and asserts that nothing is left.
    pub(crate) async fn finish(mut self) {
        self.stop_daemon().await;
        if self.member("nats-server").is_running() {
            self.wait_until_queue_is_empty().await;
        }
        let running: Vec<String> =
            self.members.iter().filter(|m| m.is_running()).map(|m| m.name.clone()).collect();
        for name in running.iter().rev() {
            self.stop(name).await;
        }
        let folder = self.folder.path().display().to_string();
        until("every process is gone", async || {
            processes::naming(&folder).is_empty().then_some(())
        })
        .await;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&folder), "mounts are left:\n{mounts}");
        self.ended = true;
    }

    /// Waits until no job waits or runs, and every result was seen by the scheduler.
    pub(crate) async fn wait_until_queue_is_empty(&self) {
        let what = format!("the queue is empty: {:?}", self.held("JOBS"));
        until(&what, async || {
            let (jobs, results) = (self.held("JOBS"), self.held("RESULTS"));
            let seen = !self.member("scheduler").is_running()
                || (results.unacknowledged, results.unseen) == (0, 0);
            (jobs == Held::default() && seen).then_some(())
        })
        .await;
    }

    fn show_logs(&self) {
        let mut logs: Vec<(String, String)> =
            self.members.iter().map(|member| (member.name.clone(), member.log())).collect();
        logs.push(("client".into(), self.client_log()));
        for (name, log) in logs {
            let skip = log.lines().count().saturating_sub(LOG_LINES);
            eprintln!("--- {name}");
            log.lines().skip(skip).for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.show_logs();
        // The farm's folder has a name of its own: whoever names it was started by this test.
        for process in processes::naming(&self.folder.path().display().to_string()) {
            let id = Pid::from_raw(process.id.cast_signed()).unwrap();
            let _ = kill_process(id, Signal::KILL);
        }
        assert!(std::thread::panicking(), "the test did not call `finish`");
    }
}

/// What a role says when it is ready.
fn ready_words(name: &str) -> &'static str {
    match name {
        "nats-server" => "Server is ready",
        "client-daemon" => "daemon is ready",
        name if name.starts_with("worker") => "worker is ready",
        _ => "scheduler is ready",
    }
}

/// A token for any worker that ends at `expires`, Unix time in seconds.
pub(crate) fn worker_token(key: &str, expires: u64) -> String {
    let pools = vec![Pool::of_this_machine()];
    identity::worker_token(&Secret::new(key), "*", pools, expires).unwrap().reveal().to_owned()
}

/// Tables are merged, unless one is of another `type`: that takes the place.
fn merge(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value))
                if !value.contains_key("type") || value.get("type") == inner.get("type") =>
            {
                merge(inner, value);
            }
            (_, value) => drop(table.insert(key, value)),
        }
    }
}
