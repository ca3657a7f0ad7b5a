//! Keeps the results of compiles that ran on this machine only because the farm did not: the next
//! equal one finds them here.
//!
//! A worker has nothing but what the key names; a local compile has the whole machine. So its
//! result is kept only if all that the key names was there from before it began until after it had
//! ended, and nothing that would have been read instead. [`Unkept`] lists what may be in the way.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use rustix::net::{RecvFlags, recv};
use tokio::net::UnixStream;

use super::cache::{Kept, THIS_MACHINE};
use super::compile::precise_key;
use super::crates::study::Study;
use super::daemon::Daemon;
use super::inputs::{self, Extent, absolute};
use super::ipc::Told;
use super::locale;
use super::named::{Asked, Named};
use super::outputs::Product;
use super::request::Request;
use super::upload::Source;
use super::written::{Targets, Unwritten};
use crate::compiler::{Plan, depfile};
use crate::job::reads::{PathList, Way};
use crate::job::wire::BlobClass;
use crate::job::{LocalReason, Node, Tree, TreePath};
use crate::store::walk;
use crate::toolchain::resolve::Resolved;

/// Most names in a rule of dependencies, each as often as it was read.
const NAMES_MAX: usize = 100_000;
/// Largest list of them, in bytes.
const RULE_BYTES_MAX: u64 = 16 << 20;

/// Why a compile runs on this machine, and what is to be done then.
pub(super) struct Stay {
    pub(super) reason: LocalReason,
    pub(super) after: After,
}

/// What is to be done when a local compile has ended.
pub enum After {
    /// Nothing.
    Nothing,
    /// Its result is kept.
    Fill(Box<Filling>),
    /// It is looked at for what a worker's compile lacked.
    Study(Box<Study>),
}

impl From<LocalReason> for Stay {
    fn from(reason: LocalReason) -> Self {
        Self { reason, after: After::Nothing }
    }
}

/// Why a local result is not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unkept {
    #[error("it failed, wrote too much or did not tell")]
    Untold,
    #[error("its messages are in `{0}`")]
    Language(String),
    #[error("its messages are for a terminal of a kind that is not kept")]
    Terminal,
    #[error(transparent)]
    Outputs(#[from] Unwritten),
    #[error("the build went on before they were read")]
    TooLate,
    #[error("`{0}` changed while it was compiled")]
    InputChanged(String),
    #[error("other files may have been read than those that were found")]
    OtherInputs,
    #[error("`{0}` was read and had not been found")]
    StrangeInput(String),
    #[error("the compiler changed")]
    Toolchain,
}

/// A local compile whose result is to be kept.
pub struct Filling {
    named: Named,
    compiler: Resolved,
    plan: Arc<Plan>,
    directory: String,
    logical_directory: String,
    umask: u32,
    strange_language: Option<String>,
}

/// How inputs have to be found again before a result over them is kept. No worker misses a file here
/// that they lack: where the compile does not tell what it read, the compiler is asked first.
pub(super) fn surer_way(plan: &Plan, extent: Extent) -> Option<inputs::Way> {
    let tells = matches!(plan.reads, Some(Way::Output(_)));
    match extent {
        Extent::Exact => None,
        _ if !tells => Some(inputs::Way::Exact),
        Extent::Likely => Some(inputs::Way::Sure),
        Extent::Larger => None,
    }
}

impl Filling {
    /// That of `request`, whose command is `plan`.
    pub(super) fn new(
        request: &Request,
        (compiler, plan): (&Resolved, &Arc<Plan>),
        named: Named,
    ) -> Self {
        let strange = locale::strange_language(&request.text_environment, &named.toolchain);
        Self {
            strange_language: strange.map(str::to_owned),
            named,
            compiler: compiler.clone(),
            plan: plan.clone(),
            directory: request.directory.clone(),
            logical_directory: request.logical_directory(),
            umask: request.umask,
        }
    }

    /// The compile begins now.
    pub(super) fn begin(self) -> Begun {
        let targets = Targets::look(Path::new(&self.directory), &self.plan.outputs, self.umask);
        Begun { filling: self, targets }
    }
}

/// A compile under way whose result is to be kept.
pub(super) struct Begun {
    filling: Filling,
    targets: Targets,
}

impl Begun {
    /// Keeps the result of the compile, which has ended and `told` what it wrote; the wrapper waits
    /// at the other end of `stream`.
    pub(super) async fn keep(
        self,
        daemon: &Daemon,
        told: Option<Told>,
        stream: &UnixStream,
    ) -> Result<(), Unkept> {
        let Told { stdout, stderr } = told.ok_or(Unkept::Untold)?;
        let Self { mut filling, targets } = self;
        let is_silent = stdout.is_empty() && stderr.is_empty();
        if let Some(strange) = filling.strange_language.take().filter(|_| !is_silent) {
            return Err(Unkept::Language(strange));
        }
        filling.named.gives_way(&stderr);
        filling.named.check_terminal(&stderr).map_err(|_| Unkept::Terminal)?;
        let outputs = tokio::task::block_in_place(|| targets.read())?;
        // Whoever goes on when the wrapper ends may change them.
        if !still_waits(stream) {
            return Err(Unkept::TooLate);
        }
        filling.check_inputs(daemon).await?;
        let reads = filling.reads(&outputs)?;
        let Named { asked: Asked { keys, .. }, inputs, .. } = &mut filling.named;
        keys.action = precise_key(daemon, inputs, &keys.command, reads.as_ref());
        let (stdout, stderr, worker) = (stdout.into(), stderr.into(), THIS_MACHINE.to_owned());
        let kept = Kept { stdout, stderr, outputs, worker };
        tokio::task::block_in_place(|| daemon.keep(keys, &kept));
        Ok(())
    }
}

impl Filling {
    /// Whether everything is still what it was when the key was made, and nothing has appeared that
    /// would be found instead of it.
    async fn check_inputs(&self, daemon: &Daemon) -> Result<(), Unkept> {
        if let Some(changed) = walk::changed(&self.named.inputs.seen) {
            return Err(Unkept::InputChanged(changed.display().to_string()));
        }
        let now = daemon.memory.recall(&self.named.inputs.command);
        if now.is_none_or(|now| now.digest != self.named.inputs.digest) {
            return Err(Unkept::OtherInputs);
        }
        match daemon.toolchain(&self.compiler).await {
            Ok(now) if now.digest == self.named.toolchain.digest => Ok(()),
            _ => Err(Unkept::Toolchain),
        }
    }

    /// What was read, where the compile says so itself. A file that is not among the inputs makes
    /// them wrong.
    fn reads(&self, outputs: &[Product]) -> Result<Option<PathList>, Unkept> {
        let Some(Way::Output(path)) = &self.plan.reads else { return Ok(None) };
        let rule = outputs.iter().find(|product| product.path == *path);
        let Some(Ok(rule)) = rule.map(|product| product.body.read(RULE_BYTES_MAX)) else {
            return Ok(None);
        };
        let Some(tree) = self.named.inputs.tree.open() else { return Ok(None) };
        // Rules do not tell such names from several others.
        if tree.iter().any(|(path, _)| path.as_str().contains(['\n', '\\'])) {
            return Ok(None);
        }
        let Ok(names) = depfile::parse(&rule, NAMES_MAX) else { return Ok(None) };
        let toolchain = LazyCell::new(|| self.toolchain_tree());
        let brings =
            |path: &str| toolchain.as_ref().is_some_and(|it| it.resolve_file(path).is_some());
        let mut read = BTreeSet::new();
        for name in names {
            let path = absolute(&self.logical_directory, &name);
            match tree.resolve_file(&path) {
                Some(file) => drop(read.insert(file.clone())),
                None if brings(&path) => {}
                None => return Err(Unkept::StrangeInput(path)),
            }
        }
        let is_file = |path: &&TreePath| matches!(tree.get(path), Some(Node::File { .. }));
        read.extend(self.named.inputs.always.paths().iter().filter(is_file).cloned());
        Ok(PathList::new(read))
    }

    /// The files that the compiler brings itself.
    fn toolchain_tree(&self) -> Option<Tree> {
        let name = (BlobClass::Toolchain, self.named.toolchain.digest);
        match self.named.toolchain.sources.get(&name)? {
            Source::Bytes(tree) => Tree::decode(tree).ok(),
            Source::File(_) => None,
        }
    }
}

/// Whether nobody has closed the other end so far.
fn still_waits(stream: &UnixStream) -> bool {
    let answer = recv(stream, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(answer, Err(rustix::io::Errno::WOULDBLOCK))
}
