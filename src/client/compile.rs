//! The story of one compile, from the request of the wrapper to the files on disk. Every "no" on
//! the way is a [`LocalReason`], and all of them end in the same place: the local compiler.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::cache::{Kept, Keys};
use super::daemon::Daemon;
use super::inputs::{self, Inputs, Reader};
use super::ipc::{CompileRequest, Diagnostics, OsText, Reply};
use super::link::Reach;
use super::locale;
use super::outputs::{self, Product};
use super::ready_toolchain::ReadyToolchain;
use super::remote::{self, Answer, Came, Job, Origin};
use super::report::{Finding, Laps, Report};
use super::upload::Sources;
use crate::compiler::{self, Invocation, Plan, RESPONSE_BYTES_MAX, Verdict};
use crate::job::reads::{PathList, ReadsAsked};
use crate::job::wire::{BlobClass, CacheUse, WrongBlob};
use crate::job::{Action, ActionKey, Command, Digest, Exit, LocalReason, Outcome, Pool};
use crate::store::{StoreError, content, walk};
use crate::toolchain::resolve::{ResolveError, Resolved};

/// Most bytes of a stream that are replayed.
const STREAM_BYTES_MAX: u64 = 64 << 20;

/// A request as text, and what the daemon found out about it.
struct Request {
    program: String,
    arguments: Vec<String>,
    directory: String,
    environment: BTreeMap<OsString, OsString>,
    text_environment: BTreeMap<String, String>,
    diagnostics: Diagnostics,
    umask: u32,
    cache: CacheUse,
}

/// Compiles, remotely if it can; the report says what happened.
pub async fn compile(daemon: &Daemon, request: CompileRequest) -> (Reply, Report) {
    let begun = Instant::now();
    let mut report = Report {
        file: String::from("?"),
        language: "C/C++",
        wall_ms: 0.0,
        finding: Finding::NotACompile,
        laps: Laps::begin(),
        local_ms: None,
    };
    let reply = match story(daemon, request, &mut report).await {
        Ok((reply, finding)) => {
            report.finding = finding;
            reply
        }
        Err(reason) => {
            report.finding = Finding::Local(reason);
            Reply::RunLocally
        }
    };
    report.wall_ms = begun.elapsed().as_secs_f64() * 1_000.0;
    (reply, report)
}

/// The steps, in order.
async fn story(
    daemon: &Daemon,
    request: CompileRequest,
    report: &mut Report,
) -> Result<(Reply, Finding), LocalReason> {
    // 1. Which compiler is this, and what does its command line say?
    check_wrapper(daemon, &request)?;
    let request = Request::of(request)?;
    report.file.clone_from(&request.program);
    let compiler = resolve(daemon, &request).await?;
    let plan = match plan(&request, &compiler) {
        Verdict::Remote(plan) => Arc::new(*plan),
        Verdict::Local(reason) => return Err(reason),
        Verdict::NotACompile => return Ok((Reply::RunLocally, Finding::NotACompile)),
    };
    report.file.clone_from(&plan.source);
    report.language = plan.language.bucket();
    let environment = compiler::remote_environment(&request.text_environment)?;
    locale::check_programs(&environment)?;

    outputs::check_targets(Path::new(&request.directory), &plan.outputs, request.umask)?;
    // Without a farm, only what is kept here is worth a search.
    let farm = request.check_farm(daemon);
    if !(request.reads_cache() && daemon.results.may_know()) {
        farm.clone()?;
    }
    report.laps.end("plan");

    // 2. What does it need? So far nobody was asked but this machine.
    let toolchain = daemon.toolchain(&compiler).await?;
    report.laps.end("toolchain");
    let reader = request.reader(&compiler, &plan, &toolchain, &environment);
    let inputs = match &farm {
        Ok(()) => inputs::discover(reader, &daemon.memory, &daemon.index, &daemon.passes).await?,
        Err(reason) => inputs::recall(&reader, &daemon.memory).ok_or_else(|| reason.clone())?,
    };
    report.laps.end("inputs");

    // 3. Which compile is this?
    let action = action(&request, &compiler, &plan, environment, &toolchain, &inputs);
    let command = action.command_key();
    let mut keys = Keys::of(&action, &inputs, &daemon.settings.base_dirs);

    // 4. Is its result here?
    if request.cache == CacheUse::Refresh {
        daemon.stats.count_forced();
    }
    if request.reads_cache()
        && let Some(kept) = keys.find(&daemon.results)
    {
        return give(&request, kept, report);
    }
    farm?;

    // 5. Run it on the farm. The toolchain goes up once, in the background if that takes long.
    let reach = daemon.link.reach().await?;
    let there = daemon.upload(&toolchain, &reach).await;
    there.map_err(|reason| daemon.note_trouble(reason))?;
    let mut sources = inputs.sources.clone();
    sources.extend(toolchain.sources.iter().map(|(name, source)| (*name, source.clone())));
    let job = request.job(action, &plan, &inputs, &toolchain, &sources);
    let (answer, outputs) = run(daemon, &reach, job, &inputs, &mut report.laps).await?;

    // 6. Believe it only if it is whole and nothing changed meanwhile.
    let checked = check(daemon, &plan, &answer.outcome, &inputs)?;
    locale::check_messages(&request.text_environment, &answer.outcome, &toolchain)?;
    let (stdout, stderr) = match streams(&reach.blobs, &answer.outcome).await {
        Ok(streams) => streams,
        Err(error) => return Err(report_wrong(daemon, &reach, keys.action, error).await),
    };
    request.check_terminal(&stderr)?;

    // 7. Write it, and keep it for the next time.
    let result = Kept { stdout, stderr, outputs, worker: answer.worker.clone() };
    if let Checked::Success = checked {
        outputs::write(Path::new(&request.directory), &result.outputs, request.umask)?;
        keys.action = precise_key(daemon, &inputs, &command, answer.reads.as_ref());
        request.keep(daemon, &keys, &result);
    }
    report.laps.end("write");
    let reply = result.reply(answer.outcome.exit);
    Ok((reply, answer.finding()))
}

/// The key under which a result is kept: that over what the compile read, if that is known. It is
/// remembered, so that the next compile is looked for under this key.
fn precise_key(
    daemon: &Daemon,
    inputs: &Inputs,
    command: &Digest,
    reads: Option<&PathList>,
) -> ActionKey {
    let precise = reads.and_then(|reads| daemon.memory.learn(inputs, reads));
    ActionKey::of(command, &precise.unwrap_or(inputs.digest))
}

/// Gives a result that was kept here.
fn give(
    request: &Request,
    kept: Kept,
    report: &mut Report,
) -> Result<(Reply, Finding), LocalReason> {
    request.check_terminal(&kept.stderr)?;
    outputs::write(Path::new(&request.directory), &kept.outputs, request.umask)?;
    report.laps.end("write");
    let reply = kept.reply(Exit::Code(0));
    Ok((reply, Finding::Kept { worker: kept.worker }))
}

/// Runs the job and brings its outputs. A known result whose blobs are gone is computed again, and
/// so is any whose blobs are wrong, once.
async fn run(
    daemon: &Daemon,
    reach: &Reach,
    mut job: Job<'_>,
    inputs: &Inputs,
    laps: &mut Laps,
) -> Result<(Answer, Vec<Product>), LocalReason> {
    loop {
        let (uploads, dist) = (daemon.uploads.of(reach.blobs.space()), &daemon.settings.dist);
        let came = remote::run(reach, &job, &uploads, &daemon.stats, dist, laps)
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
        match outputs::fetch(&reach.blobs, &answer.outcome.outputs).await {
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

impl Request {
    fn of(request: CompileRequest) -> Result<Self, LocalReason> {
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
    fn job<'a>(
        &self,
        action: Action,
        plan: &Plan,
        inputs: &Inputs,
        toolchain: &ReadyToolchain,
        sources: &'a Sources,
    ) -> Job<'a> {
        Job {
            action,
            inputs_zstd: inputs.inline_zstd.clone(),
            main: inputs.main,
            references: toolchain.references,
            sources,
            cache: self.cache,
            reads: plan.reads.clone().map(|way| ReadsAsked { way, always: inputs.always.clone() }),
            extent: inputs.extent,
        }
    }

    /// Whether the farm may be asked, and is worth it now.
    fn check_farm(&self, daemon: &Daemon) -> Result<(), LocalReason> {
        match self.text_environment.contains_key("JETCC_NO_DIST_COMPILE") {
            true => Err(LocalReason::Disabled),
            false => daemon.link.check(),
        }
    }

    /// Whether a known result may be the answer.
    fn reads_cache(&self) -> bool {
        self.cache == CacheUse::ReadWrite
    }

    /// Keeps a result on this machine, if that is allowed.
    fn keep(&self, daemon: &Daemon, keys: &Keys, result: &Kept) {
        let readonly = daemon.settings.cache_readonly
            || !matches!(
                self.text_environment.get("JETCC_READONLY").map_or("", String::as_str),
                "" | "0" | "false"
            );
        if self.cache != CacheUse::Off && !readonly {
            daemon.keep(keys, result);
        }
    }

    /// Messages for a terminal are the local compiler's.
    fn check_terminal(&self, stderr: &Bytes) -> Result<(), LocalReason> {
        match self.diagnostics {
            Diagnostics::Terminal if !stderr.is_empty() => Err(LocalReason::Terminal),
            Diagnostics::Terminal | Diagnostics::Stream => Ok(()),
        }
    }

    /// The working directory as the compiler will name it in debug information: `PWD` if that
    /// leads to the same place.
    fn logical_directory(&self) -> String {
        match self.text_environment.get("PWD") {
            Some(pwd) if pwd.starts_with('/') && same_place(pwd, &self.directory) => pwd.clone(),
            _ => self.directory.clone(),
        }
    }

    fn reader(
        &self,
        compiler: &Resolved,
        plan: &Arc<Plan>,
        toolchain: &ReadyToolchain,
        travelling: &BTreeMap<String, String>,
    ) -> Reader {
        Reader {
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

impl Kept {
    fn reply(&self, exit: Exit) -> Reply {
        Reply::Compiled { exit, stdout: self.stdout.to_vec(), stderr: self.stderr.to_vec() }
    }
}

fn same_place(one: &str, other: &str) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    place(one).is_some_and(|found| Some(found) == place(other))
}

async fn resolve(daemon: &Daemon, request: &Request) -> Result<Resolved, LocalReason> {
    let resolved = daemon
        .resolver
        .resolve(&request.program, Path::new(&request.directory), &request.environment)
        .await;
    resolved.map_err(|error| match error {
        ResolveError::CompilerScript(_) => LocalReason::CompilerScript(error.to_string()),
        _ => LocalReason::Toolchain(error.to_string()),
    })
}

/// A response file, unless it is none: reading a pipe would take from the compiler what is in it.
fn read_response_file(path: &str) -> io::Result<Vec<u8>> {
    // Without NONBLOCK a pipe would hold us until somebody writes.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(RESPONSE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn plan(request: &Request, compiler: &Resolved) -> Verdict {
    let invocation = Invocation {
        family: compiler.family,
        program: &compiler.argv0,
        arguments: &request.arguments,
        directory: &request.directory,
    };
    compiler::plan(&invocation, &read_response_file)
}

/// The same command as the user's, with the variables that it may see.
fn action(
    request: &Request,
    compiler: &Resolved,
    plan: &Plan,
    mut environment: BTreeMap<String, String>,
    toolchain: &ReadyToolchain,
    inputs: &Inputs,
) -> Action {
    let executable = compiler.executable.display().to_string();
    environment.insert("PATH".into(), toolchain.path.clone());
    let mut arguments = vec![compiler.argv0.clone()];
    arguments.extend(plan.arguments.iter().cloned());
    Action {
        pool: Pool::of_this_machine(),
        toolchain: toolchain.digest,
        command: Command {
            executable,
            arguments,
            environment,
            directory: request.logical_directory(),
        },
        inputs: inputs.digest,
        outputs: plan.outputs.clone(),
    }
}

/// What the compiler wrote to its streams.
async fn streams(
    blobs: &crate::store::Blobs,
    outcome: &Outcome,
) -> Result<(Bytes, Bytes), StoreError> {
    let open = async |stream| content::unpack(blobs, stream, STREAM_BYTES_MAX).await;
    Ok((open(&outcome.stdout).await?, open(&outcome.stderr).await?))
}
