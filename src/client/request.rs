//! A wrapper's request, read: text where text is wanted, and what its variables ask of us.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use super::bases;
use super::cache::{Kept, Keys};
use super::crates::CrateReader;
use super::daemon::Daemon;
use super::inputs::{self, Inputs, Reader};
use super::ipc::{CompileRequest, Diagnostics, OsText};
use super::outputs::Product;
use super::ready_toolchain::ReadyToolchain;
use super::remote::Job;
use crate::compiler::Plan;
use crate::compiler::rustc::CratePlan;
use crate::job::reads::ReadsAsked;
use crate::job::wire::CacheUse;
use crate::job::{Action, Family, LocalReason};
use crate::toolchain::resolve::Resolved;

/// A request as text, and what the daemon found out about it.
pub(super) struct Request {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) directory: String,
    pub(super) environment: BTreeMap<OsString, OsString>,
    pub(super) text_environment: BTreeMap<String, String>,
    pub(super) diagnostics: Diagnostics,
    pub(super) umask: u32,
    pub(super) cache: CacheUse,
}

/// What results on this disk are to a compile that runs on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shelf {
    /// Nothing.
    Unused,
    /// Its result is looked for.
    Searched,
    /// Its result is looked for, and kept if it is not there.
    Filled,
}

/// Variables that may make another compiler of the one that the key names.
const LOADER: [&str; 3] = ["LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD"];

impl Request {
    pub(super) fn of(request: CompileRequest) -> Result<Self, LocalReason> {
        let text = |text: &OsText| text.to_utf8().ok_or(LocalReason::NotUtf8);
        // A variable that is not UTF-8 is not one of the compiler's.
        let text_environment = request
            .environment
            .iter()
            .filter_map(|(name, value)| Some((name.to_utf8()?, value.to_utf8()?)))
            .collect();
        let cache = cache_use(&text_environment);
        Ok(Self {
            cache,
            program: text(&request.program)?,
            arguments: request.arguments.iter().map(text).collect::<Result<_, _>>()?,
            directory: text(&request.directory)?,
            environment: request
                .environment
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            text_environment,
            diagnostics: request.diagnostics,
            umask: request.umask,
        })
    }

    /// What the farm is asked to do.
    pub(super) fn job(
        &self,
        action: Action,
        plan: &Plan,
        inputs: &Arc<Inputs>,
        toolchain: &Arc<ReadyToolchain>,
    ) -> Job {
        Job {
            action,
            inputs: inputs.clone(),
            tree: None,
            kin: bases::kin(inputs.command, &inputs::absolute(&self.directory, &plan.source)),
            toolchain: toolchain.clone(),
            cache: self.cache,
            reads: plan.reads.clone().map(|way| ReadsAsked { way, always: inputs.always.clone() }),
            extent: inputs.extent,
            early: None,
        }
    }

    /// Whether the farm may be asked, and is worth it now.
    pub(super) fn check_farm(&self, daemon: &Daemon) -> Result<(), LocalReason> {
        match self.text_environment.contains_key("JETCC_NO_DIST_COMPILE") {
            true => Err(LocalReason::Disabled),
            false => daemon.link.check(),
        }
    }

    /// Whether a known result may be the answer.
    pub(super) fn reads_cache(&self) -> bool {
        self.cache == CacheUse::ReadWrite
    }

    /// Whether a new result may be kept on this machine.
    fn may_keep(&self, daemon: &Daemon) -> bool {
        let readonly = daemon.settings.cache_readonly
            || !matches!(
                self.text_environment.get("JETCC_READONLY").map_or("", String::as_str),
                "" | "0" | "false"
            );
        self.cache != CacheUse::Off && !readonly
    }

    /// Keeps a result on this machine, if that is allowed.
    pub(super) fn keep(&self, daemon: &Daemon, keys: &Keys, result: &Kept) {
        if self.may_keep(daemon) {
            daemon.keep(keys, result);
        }
    }

    /// Keeps an output of a result that is not there yet.
    pub(super) fn keep_content(&self, daemon: &Daemon, output: &Product) {
        if let (true, Some(digest)) = (self.may_keep(daemon), &output.digest) {
            daemon.results.keep_content(digest, &output.body);
        }
    }

    /// What the results on this machine are to a compile that runs here.
    pub(super) fn shelf(&self, daemon: &Daemon) -> Shelf {
        let value = |name: &str| self.environment.get(OsStr::new(name));
        let is_set = |name: &&str| value(name).is_some_and(|value| !value.is_empty());
        let is_plain = !LOADER.iter().any(is_set);
        let may_fill = is_plain && self.may_keep(daemon) && daemon.results.may_keep();
        let may_know = self.reads_cache() && daemon.results.may_know();
        match (may_fill, may_know) {
            (true, _) => Shelf::Filled,
            (false, true) => Shelf::Searched,
            (false, false) => Shelf::Unused,
        }
    }

    /// The working directory as the compiler will name it in debug information: `PWD` if that
    /// leads to the same place.
    pub(super) fn logical_directory(&self) -> String {
        match self.text_environment.get("PWD") {
            Some(pwd) if pwd.starts_with('/') && same_place(pwd, &self.directory) => pwd.clone(),
            _ => self.directory.clone(),
        }
    }

    /// The output that is wanted before the compile has ended; a terminal is shown all at once.
    pub(super) fn announced(&self, reader: &CrateReader) -> Option<String> {
        reader.krate.announced.clone().filter(|_| self.diagnostics == Diagnostics::Stream)
    }

    pub(super) fn crate_reader(
        &self,
        compiler: &Resolved,
        (plan, krate): (&Arc<Plan>, &CratePlan),
    ) -> CrateReader {
        CrateReader {
            compiler: compiler.clone(),
            plan: plan.clone(),
            krate: krate.clone(),
            directory: self.directory.clone(),
            logical_directory: self.logical_directory(),
            environment: self.text_environment.clone(),
        }
    }

    pub(super) fn reader(
        &self,
        family: Family,
        compiler: &Resolved,
        plan: &Arc<Plan>,
        toolchain: &ReadyToolchain,
        travelling: &BTreeMap<String, String>,
    ) -> Reader {
        Reader {
            family,
            toolchain: toolchain.digest,
            travelling: travelling.clone(),
            compiler: compiler.clone(),
            plan: plan.clone(),
            directory: self.directory.clone(),
            logical_directory: self.logical_directory(),
            environment: self.environment.clone(),
            epoch: self.text_environment.contains_key("SOURCE_DATE_EPOCH"),
        }
    }
}

/// What caches may do; the variables are sccache's under our name.
fn cache_use(environment: &BTreeMap<String, String>) -> CacheUse {
    if environment.contains_key("JETCC_NO_CACHE") {
        CacheUse::Off
    } else if environment.contains_key("JETCC_RECACHE") {
        CacheUse::Refresh
    } else {
        CacheUse::ReadWrite
    }
}

fn same_place(one: &str, other: &str) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    place(one).is_some_and(|found| Some(found) == place(other))
}
