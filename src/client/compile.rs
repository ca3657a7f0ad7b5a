//! The story of one compile, from the request of the wrapper to the files on disk. Every "no" on
//! the way is a [`LocalReason`], and all of them end in the same place: the local compiler.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::cache::Kept;
use super::command;
use super::crates::study::Study;
use super::crates::{self, answered};
use super::daemon::Daemon;
use super::early::{self, Voice};
use super::fill::{self, After, Filling, Stay};
use super::inputs::{self, Extent, Finder, Held, Inputs, Way};
use super::ipc::{CompileRequest, Reply};
use super::link::Reach;
use super::locale;
use super::named::{Asked, Named};
use super::outputs::{self, Product};
use super::ready_toolchain::ReadyToolchain;
use super::remote::{self, Answer, Came, Job, Origin};
use super::report::{Finding, Laps, Report};
use super::request::{Request, Shelf};
use super::scan;
use super::sent::Sent;
use super::subject::Subject;
use crate::compiler::{self, Plan, Verdict};
use crate::job::reads::PathList;
use crate::job::wire::{BlobClass, CacheUse, WrongBlob};
use crate::job::{ActionKey, Digest, Exit, Kind, LocalReason, Outcome};
use crate::lifecycle::beside;
use crate::store::{StoreError, walk};
use crate::toolchain::resolve::Resolved;

/// Compiles, remotely if it can; the report says what happened. With a local compile comes what is to
/// be done when it has ended.
pub async fn compile(
    daemon: &Daemon,
    request: CompileRequest,
    voice: &Voice,
) -> (Reply, Report, After) {
    let begun = Instant::now();
    let mut report = Report {
        file: String::from("?"),
        language: "C/C++",
        wall_ms: 0.0,
        finding: Finding::NotACompile,
        laps: Laps::begin(),
        sent: Sent::new(daemon.stats.clone()),
        local_ms: None,
        kept: None,
    };
    let (reply, after) = match story(daemon, request, voice, &mut report).await {
        Ok((reply, finding)) => {
            report.finding = finding;
            (unsaid(reply, voice), After::Nothing)
        }
        Err(Stay { reason, after }) => {
            report.finding = Finding::Local(reason);
            let reply = match after {
                After::Fill(_) => Reply::RunAndTell,
                After::Nothing | After::Study(_) => Reply::RunLocally,
            };
            (reply, after)
        }
    };
    report.wall_ms = begun.elapsed().as_secs_f64() * 1_000.0;
    (reply, report, after)
}

/// `reply` without what the wrapper was told already.
fn unsaid(reply: Reply, voice: &Voice) -> Reply {
    match reply {
        Reply::Compiled { exit, stdout, stderr } => {
            Reply::Compiled { exit, stdout, stderr: voice.unsaid(stderr) }
        }
        other => other,
    }
}

/// The steps, in order.
async fn story(
    daemon: &Daemon,
    request: CompileRequest,
    voice: &Voice,
    report: &mut Report,
) -> Result<(Reply, Finding), Stay> {
    // 1. Which compiler is this, and what does its command line say?
    check_wrapper(daemon, &request)?;
    let request = Request::of(request)?;
    report.file.clone_from(&request.program);
    let mut compiler = command::resolve(daemon, &request).await?;
    let plan = match command::plan(&request, &compiler) {
        Verdict::Remote(plan) => Arc::new(*plan),
        Verdict::Local(reason) => return Err(reason.into()),
        Verdict::NotACompile => return Ok((Reply::RunLocally, Finding::NotACompile)),
    };
    report.file.clone_from(&plan.source);
    report.language = plan.language.bucket();
    let subject = match (compiler.kind, &plan.krate) {
        (_, Some(krate)) => {
            compiler.equipment = command::equipment(daemon, &request, krate).await?;
            Subject::Crate(Arc::new(request.crate_reader(&compiler, (&plan, krate))))
        }
        (Kind::Rust(_), None) => return Ok((Reply::RunLocally, Finding::NotACompile)),
        (Kind::C(family), None) => {
            let environment = compiler::remote_environment(&request.text_environment)?;
            locale::check_programs(&environment)?;
            Subject::Unit(family, environment)
        }
    };
    let (directory, older) = (Path::new(&request.directory), subject.older());
    outputs::check_targets(directory, &plan.outputs, older, request.umask)?;
    // Without a farm, only what is kept here is worth a search.
    let farm = request.check_farm(daemon);
    let shelf = subject.shelf(request.shelf(daemon), request.diagnostics);
    if shelf == Shelf::Unused {
        farm.clone()?;
    }
    report.laps.end("plan");

    let compile = Compile { request, compiler, plan, subject, farm, shelf };
    for way in [Way::Any, Way::Exact] {
        if let Some(end) = compile.attempt(daemon, way, voice, report).await? {
            return Ok(end);
        }
    }
    Err(LocalReason::RemoteFailed.into())
}

/// A compile that may leave.
struct Compile {
    request: Request,
    compiler: Resolved,
    plan: Arc<Plan>,
    subject: Subject,
    /// Whether the farm may be asked.
    farm: Result<(), LocalReason>,
    /// What results on this disk are to it if not.
    shelf: Shelf,
}

impl Compile {
    /// The other steps; `None` when the inputs are not the compiler's word and a worker missed one.
    async fn attempt(
        &self,
        daemon: &Daemon,
        way: Way,
        voice: &Voice,
        report: &mut Report,
    ) -> Result<Option<(Reply, Finding)>, Stay> {
        let named = self.name(daemon, way, report).await;
        let mut named = named.map_err(|reason| match &self.farm {
            Err(farms) if reason.is_our_trouble() => farms.clone(),
            _ => reason,
        })?;

        // 4. Is its result here?
        if self.request.cache == CacheUse::Refresh {
            daemon.stats.count_forced();
        }
        if let Some(kept) = self.find(daemon, &mut named) {
            if let Subject::Crate(reader) = &self.subject
                && answered::was_told_otherwise(daemon, reader, &kept.outputs)
            {
                return Ok(None);
            }
            return Ok(Some(self.give(&named, kept, report)?));
        }
        let done = match &self.farm {
            Ok(()) => self.on_farm(daemon, &mut named, (voice, report)).await,
            Err(reason) => Err(reason.clone()),
        };
        match done {
            Ok(done) => Ok(done),
            Err(reason) => self.stay(daemon, named, reason, report).await.map(Some),
        }
    }

    /// Steps 2 and 3. So far nobody is asked but this machine.
    async fn name(
        &self,
        daemon: &Daemon,
        way: Way,
        report: &mut Report,
    ) -> Result<Named, LocalReason> {
        let Self { request, compiler, plan, subject, .. } = self;
        // 2. What does it need?
        let toolchain = daemon.toolchain(compiler).await?;
        report.laps.end("toolchain");
        let ((inputs, tree), environment) = self.inputs(daemon, &toolchain, way, report).await?;

        // 3. Which compile is this?
        let action = command::action(request, compiler, plan, environment, &toolchain, &inputs);
        let shown = subject.shown(&action, request, &toolchain);
        let asked = |action| Asked::of(action, &inputs, &daemon.settings.base_dirs);
        let (asked, shown) = (asked(action), shown.map(asked));
        let diagnostics = request.diagnostics;
        Ok(Named { asked, shown, diagnostics, inputs, toolchain, _tree: tree })
    }

    fn find(&self, daemon: &Daemon, named: &mut Named) -> Option<Kept> {
        self.request.reads_cache().then(|| named.find(&daemon.results)).flatten()
    }

    /// Gives a result that was kept here.
    fn give(
        &self,
        named: &Named,
        mut kept: Kept,
        report: &mut Report,
    ) -> Result<(Reply, Finding), LocalReason> {
        named.check_terminal(&kept.stderr)?;
        let Request { directory, umask, .. } = &self.request;
        outputs::write(Path::new(directory), &mut kept.outputs, *umask)?;
        report.laps.end("write");
        let reply = kept.reply(Exit::Code(0));
        Ok((reply, Finding::Kept { worker: kept.worker }))
    }

    /// Steps 5 to 7; `None` as for [`Compile::attempt`].
    async fn on_farm(
        &self,
        daemon: &Daemon,
        named: &mut Named,
        (voice, report): (&Voice, &mut Report),
    ) -> Result<Option<(Reply, Finding)>, LocalReason> {
        let Self { request, plan, .. } = self;
        let Named { asked, inputs, toolchain, .. } = &mut *named;
        // 5. Run it on the farm. The toolchain goes up once, in the background if that takes long.
        let reach = daemon.link.reach().await?;
        let there = daemon.upload(toolchain, &reach).await;
        there.map_err(|reason| daemon.note_trouble(reason))?;
        let mut job = request.job(asked.action.clone(), plan, inputs, toolchain);
        let (answer, outputs) = match &self.subject {
            Subject::Crate(reader) if let Some(path) = request.announced(reader) => {
                let (wants, early) = mpsc::unbounded_channel();
                job.early = Some((path, wants));
                let running = Box::pin(run(daemon, &reach, job, inputs, report));
                let for_whom = (request, &**reader, &**inputs);
                let passing = early::pass_all_on(early, for_whom, (daemon, &reach.blobs), voice);
                beside(running, passing).await?
            }
            _ => run(daemon, &reach, job, inputs, report).await?,
        };
        let (exit, streams) =
            (answer.outcome.exit, outputs::streams(&reach.blobs, &answer.outcome).await);
        let words = streams.as_ref().map_or(&[][..], |(_, stderr)| stderr);
        let lacked = match &self.subject {
            Subject::Unit(..) => inputs.extent != Extent::Exact && misses_file(daemon, exit, words),
            Subject::Crate(reader) => {
                answered::check_profiles(words)?;
                answered::lacked(daemon, (reader, inputs), exit, words, &outputs)
            }
        };
        if lacked {
            return Ok(None);
        }

        // 6. Believe it only if it is whole and nothing changed meanwhile.
        let checked = check(daemon, plan, &answer.outcome, inputs)?;
        if let Subject::Unit(..) = &self.subject {
            locale::check_messages(&request.text_environment, &answer.outcome, toolchain)?;
        }
        let (stdout, stderr) = match streams {
            Ok(streams) => streams,
            Err(error) => return Err(report_wrong(daemon, &reach, asked.keys.action, error).await),
        };

        // 7. Keep it for the next time, and write it.
        let mut result = Kept { stdout, stderr, outputs, worker: answer.worker.clone() };
        if let Checked::Success = checked {
            let (keys, reads) = (&mut asked.keys, answer.reads.as_ref());
            keys.action = precise_key(daemon, inputs, &keys.command, reads);
            // Kept first: as soon as a file has its name, others may change it.
            request.keep(daemon, keys, &result);
            daemon.uploads.of(reach.blobs.space()).learn(answered::made(&answer.outcome).iter());
        }
        if named.gives_way(&result.stderr) {
            return Box::pin(self.on_farm(daemon, named, (voice, report))).await;
        }
        named.check_terminal(&result.stderr)?;
        if let Checked::Success = checked {
            let directory = Path::new(&request.directory);
            let unwritten = voice.unwritten(directory, &mut result.outputs);
            outputs::write(directory, unwritten, request.umask)?;
        }
        report.laps.end("write");
        let reply = result.reply(answer.outcome.exit);
        Ok(Some((reply, answer.finding())))
    }

    /// Stays here because of `reason`. Only a worker notices that inputs were too few: a result from
    /// here is named by such as cannot be.
    async fn stay(
        &self,
        daemon: &Daemon,
        mut named: Named,
        reason: LocalReason,
        report: &mut Report,
    ) -> Result<(Reply, Finding), Stay> {
        match (&self.subject, &reason) {
            (Subject::Crate(reader), LocalReason::RemoteFailed) => {
                let study = Study::new((**reader).clone(), named.inputs);
                return Err(Stay { reason, after: After::Study(Box::new(study)) });
            }
            // A macro writes files of its own: the next compile would end the same way.
            (Subject::Crate(reader), LocalReason::UnexpectedOutput(_)) => {
                daemon.crates.learned.note_strange(reader);
            }
            _ => {}
        }
        if self.shelf != Shelf::Filled || !reason.is_of_no_farm() {
            return Err(reason.into());
        }
        if let Some(way) = fill::surer_way(&self.plan, named.inputs.extent) {
            let sure = self.name(daemon, way, report).await;
            named = sure.map_err(|_| reason.clone())?;
            if let Some(kept) = self.find(daemon, &mut named) {
                return Ok(self.give(&named, kept, report)?);
            }
        }
        let command = (&self.compiler, &self.plan);
        let filling = Filling::new(&self.request, command, named);
        daemon.stats.count_miss(report.language);
        Err(Stay { reason, after: After::Fill(Box::new(filling)) })
    }

    async fn inputs(
        &self,
        daemon: &Daemon,
        toolchain: &ReadyToolchain,
        way: Way,
        report: &mut Report,
    ) -> Result<(Held, BTreeMap<String, String>), LocalReason> {
        let (family, environment) = match &self.subject {
            Subject::Unit(family, environment) => (*family, environment),
            Subject::Crate(reader) => {
                let found = crates::discover(reader, &daemon.crates).await?;
                report.laps.end("inputs (crate)");
                return Ok(found);
            }
        };
        let reader =
            self.request.reader(family, &self.compiler, &self.plan, toolchain, environment);
        let found = inputs::discover(reader, &Finder::of(daemon), way).await?;
        daemon.stats.count_inputs(&found);
        report.laps.end(found.mode.step());
        Ok(((found.inputs, found.tree), environment.clone()))
    }
}

/// Whether a worker's compile failed because a file was not there. Where remote failures are
/// trusted, any failure may be that: messages may be in another language.
fn misses_file(daemon: &Daemon, exit: Exit, stderr: &[u8]) -> bool {
    !exit.is_success() && (daemon.settings.dist.trust_remote_failures || scan::misses_file(stderr))
}

/// The key under which a result is kept: that over what the compile read, if that is known. It is
/// remembered, so that the next compile is looked for under this key.
pub(super) fn precise_key(
    daemon: &Daemon,
    inputs: &Inputs,
    command: &Digest,
    reads: Option<&PathList>,
) -> ActionKey {
    let precise = reads.and_then(|reads| daemon.memory.learn(inputs, reads));
    ActionKey::of(command, &precise.unwrap_or(inputs.digest))
}

/// Runs the job and brings its outputs. A known result whose blobs are gone is computed again, and
/// so is any whose blobs are wrong, once.
async fn run(
    daemon: &Daemon,
    reach: &Reach,
    mut job: Job,
    inputs: &Inputs,
    report: &mut Report,
) -> Result<(Answer, Vec<Product>), LocalReason> {
    loop {
        let directory = Path::new(&job.action.command.directory);
        let (uploads, dist) = (daemon.uploads.of(reach.blobs.space()), &daemon.settings.dist);
        let came = remote::run(reach, &job, &uploads, dist, report)
            .await
            .map_err(|reason| daemon.note_trouble(reason))?;
        daemon.link.worked();
        let answer = match came {
            Came::Answer(answer) => *answer,
            Came::Offered(lists) => {
                job.narrow(inputs, &lists);
                continue;
            }
        };
        let from = (&reach.blobs, &*daemon.results);
        match outputs::fetch(from, directory, &answer.outcome.outputs).await {
            Ok(outputs) => return Ok((answer, outputs)),
            Err(error) => {
                let again = answer.origin == Origin::Cached || error.wrong().is_some();
                let reason = report_wrong(daemon, reach, job.action.key(), error).await;
                if !again || job.cache != CacheUse::ReadWrite {
                    return Err(reason);
                }
                job.cache = CacheUse::Refresh;
            }
        }
    }
}

/// Counts an output of `action` that has wrong bytes, and has a scheduler look at it: who reads next
/// shall find the right ones.
async fn report_wrong(
    daemon: &Daemon,
    reach: &Reach,
    action: ActionKey,
    error: StoreError,
) -> LocalReason {
    if let Some(digest) = error.wrong() {
        daemon.stats.count_corrupt();
        let space = reach.blobs.space().clone();
        let wrong = WrongBlob { space, class: BlobClass::Output, digest, action: Some(action) };
        match reach.farm.report(&wrong).await {
            Ok(examined) => tracing::warn!(%digest, ?examined, "output with wrong bytes reported"),
            Err(error) => tracing::warn!(%digest, %error, "output with wrong bytes not reported"),
        }
    }
    LocalReason::Store(error.to_string())
}

/// Whether reading and writing in the wrapper's place gives what it would give itself.
fn check_wrapper(daemon: &Daemon, request: &CompileRequest) -> Result<(), LocalReason> {
    match &request.limit {
        Some(limit) => Err(LocalReason::ResourceLimit(limit.clone())),
        None if request.view != daemon.view => Err(LocalReason::OtherView),
        None => Ok(()),
    }
}

/// Whether there are files to write.
enum Checked {
    Success,
    TrustedFailure,
}

/// A result counts only if the compile succeeded (or remote failures are trusted), wrote what was
/// wanted and nothing else, and every input still is what it was.
fn check(
    daemon: &Daemon,
    plan: &Plan,
    outcome: &Outcome,
    inputs: &Inputs,
) -> Result<Checked, LocalReason> {
    if let Some(changed) = walk::changed(&inputs.seen) {
        return Err(LocalReason::InputChanged(changed.display().to_string()));
    }
    if let Some(path) = outcome.unexpected.first() {
        return Err(LocalReason::UnexpectedOutput(path.to_string()));
    }
    if outcome.exit.is_success() {
        outputs::check_result(&plan.outputs, &outcome.outputs)?;
        Ok(Checked::Success)
    } else if daemon.settings.dist.trust_remote_failures {
        Ok(Checked::TrustedFailure)
    } else {
        Err(LocalReason::RemoteFailed)
    }
}

impl Answer {
    fn finding(self) -> Finding {
        let (worker, job) = (self.worker, self.job.to_string());
        match self.origin {
            Origin::Cached => Finding::Cached { worker, job },
            Origin::Ran => Finding::Remote { worker, job, times: self.times },
        }
    }
}

impl Kept {
    fn reply(&self, exit: Exit) -> Reply {
        Reply::Compiled { exit, stdout: self.stdout.to_vec(), stderr: self.stderr.to_vec() }
    }
}
