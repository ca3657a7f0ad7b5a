//! One process of a farm: started, signalled, stopped, and started again on the same log.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitStatus;

use jetcc::exec::Service;
use rustix::process::{Pid, Signal, kill_process};

use super::wait::until;

/// Variables of a process.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// A process of a farm, running or not.
pub(crate) struct Member {
    pub(crate) name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Variables,
    log: PathBuf,
    /// Length of the log when it was last started.
    log_start: usize,
    service: Option<Service>,
}

impl Member {
    /// A member that does not run yet.
    pub(crate) fn new(
        name: &str,
        program: PathBuf,
        arguments: Vec<OsString>,
        variables: Variables,
        log: PathBuf,
    ) -> Self {
        Self { name: name.into(), program, arguments, variables, log, log_start: 0, service: None }
    }

    pub(crate) fn start(&mut self) {
        assert!(self.service.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        self.log_start = usize::try_from(log.metadata().unwrap().len()).unwrap();
        let started = Service::start(&self.program, &self.arguments, &self.variables, log);
        self.service = Some(started.unwrap_or_else(|error| panic!("{}: {error}", self.name)));
    }

    /// Starts and waits until its log says `words`.
    pub(crate) async fn start_until(&mut self, words: &str) {
        self.start();
        let what = format!("{} says `{words}`", self.name);
        until(&what, async || {
            self.check_alive();
            self.said(words).then_some(())
        })
        .await;
    }

    /// Whether its log holds `words` since it was last started.
    pub(crate) fn said(&self, words: &str) -> bool {
        self.count_said(words) > 0
    }

    /// How often its log holds `words` since it was last started.
    pub(crate) fn count_said(&self, words: &str) -> usize {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[self.log_start.min(log.len())..]).matches(words).count()
    }

    /// Where it keeps its files.
    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.variables[OsStr::new("JETCC_CACHE_DIR")].clone().into()
    }

    /// Its whole log.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.service.is_some()
    }

    pub(crate) fn id(&self) -> u32 {
        let id = self.service.as_ref().and_then(Service::id);
        id.unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id().cast_signed()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Sends `signal` and waits for its end.
    pub(crate) async fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let mut service = self.service.take().unwrap();
        let what = format!("{} ends by {signal:?}", self.name);
        until(&what, async || service.ended().unwrap()).await
    }

    fn check_alive(&mut self) {
        let ended = self.service.as_mut().and_then(|service| service.ended().unwrap());
        assert!(ended.is_none(), "{} ended with {ended:?}\n{}", self.name, self.log());
    }
}
