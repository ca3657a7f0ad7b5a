//! The life of one job on a worker, from message to outcome.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::job::reads::Reads;
use crate::job::wire::{BlobClass, JobEnd, JobMessage, Submit, Trouble};
use crate::job::{Outcome, StepTimes, Tree};
use crate::lifecycle::beside;
use crate::store::{Blobs, DiskCache};

use super::capacity::SlotPermit;
use super::early::Early;
use super::fetch::{Patience, Source, Word, decode_inline};
use super::folder::{Builds, Caches};
use super::outputs;
use super::prepare::{Request, Runner, blocking};
use super::reads;
use super::sandbox::Sandbox;
use super::settings::Settings;
use super::toolchains::Toolchains;
use super::{WorkerError, check};

/// What came of a job.
#[derive(Debug)]
pub struct Executed {
    /// Its end.
    pub end: JobEnd,
    /// What the compile read, if the client asked and the compiler told.
    pub reads: Option<Reads>,
    /// How long each step took.
    pub times: StepTimes,
}

/// Runs jobs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Executor {
    settings: Arc<Settings>,
    /// For the shared space; each job has that of its own.
    runner: Runner,
    toolchains: Arc<Toolchains>,
}

impl Executor {
    /// Opens the caches, finds out how bubblewrap works here, and removes what a dead predecessor
    /// left. Call it on the runtime that will run the jobs.
    ///
    /// # Errors
    /// [`WorkerError`] when this machine cannot run jobs.
    pub async fn open(settings: &Settings, blobs: Blobs) -> Result<Self, WorkerError> {
        Self::with(settings, blobs, Sandbox::open(settings).await?)
    }

    /// Runs jobs in `sandbox`.
    pub(super) fn with(
        settings: &Settings,
        blobs: Blobs,
        sandbox: Sandbox,
    ) -> Result<Self, WorkerError> {
        let builds = Arc::new(Builds::open(settings, sandbox.mode.memory)?);
        let cache = |name, bytes_max| DiskCache::open(settings.cache_dir.join(name), bytes_max);
        let caches = Caches {
            toolchains: cache("toolchains", settings.toolchain_cache_size)?,
            inputs: cache("inputs", settings.blob_cache_size)?,
        };
        Ok(Self {
            runner: Runner { sandbox, builds, source: Source { blobs, caches } },
            toolchains: Arc::new(Toolchains::new(settings.toolchain_cache_size)),
            settings: Arc::new(settings.clone()),
        })
    }

    /// Runs `job` to its end. `slot` is given back as soon as the compiler has exited. `says` hears
    /// when the store lacks blobs or holds wrong ones.
    ///
    /// Dropping the future ends the compile and removes its folder. Poll it on a thread of the
    /// runtime, not on one made for blocking work: bubblewrap dies with the thread that started it.
    pub async fn execute(
        &self,
        job: &JobMessage,
        slot: SlotPermit,
        says: impl Fn(Word) + Send + Sync,
    ) -> Executed {
        let mut times =
            StepTimes { queue_ms: ms_since(job.published_unix_ms), ..StepTimes::default() };
        let mut patience = Patience::new(&says, self.settings.upload_wait());
        let (end, reads) = match self.steps(job, slot, &mut patience, &mut times).await {
            Ok((outcome, reads)) => (JobEnd::Done(outcome), reads),
            Err(trouble) => (JobEnd::Undone(trouble), None),
        };
        Executed { end, reads, times }
    }

    async fn steps(
        &self,
        job: &JobMessage,
        slot: SlotPermit,
        patience: &mut Patience<'_>,
        times: &mut StepTimes,
    ) -> Result<(Outcome, Option<Reads>), Trouble> {
        let JobMessage { submit, space, .. } = job;
        let (action, runner) = (&submit.action, &self.runner.of(space)?);
        let limit = self.settings.output_bytes_max;

        // 1. Is it something that we run at all?
        check::submit(submit)?;

        // 2. What it reads, and a toolchain that was proved on this machine.
        let start = Instant::now();
        let inputs = Arc::new(self.inputs(submit, runner, patience).await?);
        let toolchain = self.toolchains.ready(runner, submit, patience).await?;
        let kind = check::command(&action.command, &toolchain)?;
        check::code(&action.command, &inputs, &toolchain)?;
        times.fetch_ms = ms(start);

        // 3. Both trees at the client's own paths, in a folder that removes itself.
        let start = Instant::now();
        let trees = [inputs.clone(), toolchain.clone()];
        let request = Request {
            job: submit.job,
            kind,
            toolchain,
            inputs,
            command: action.command.clone(),
            outputs: action.outputs.clone(),
        };
        let prepared = runner.prepare(request, patience).await?;
        let fetch_ms = prepared.fetch_time.as_secs_f64() * 1e3;
        times.fetch_ms += fetch_ms;
        times.layout_ms = ms(start) - fetch_ms;

        // 4. The client's own command.
        let start = Instant::now();
        let command = reads::asking(&action.command, submit.reads.as_ref());
        let mut sent = None;
        let finished = match Early::of(job) {
            None => runner.run(&prepared, &command, action.terminal, None).await?,
            Some((early, listener)) => {
                let running = runner.run(&prepared, &command, action.terminal, Some(listener));
                let (source, tell) = (&runner.source, patience.tell());
                beside(running, early.announce(&prepared, source, tell, &mut sent)).await?
            }
        };
        drop(slot);
        times.run_ms = ms(start);

        // 5. What it left, in the store before anybody hears of it.
        let start = Instant::now();
        let (asked, action, looked) = (submit.reads.clone(), action.clone(), prepared.clone());
        let (gathered, reads) = blocking(move || {
            let gathered = outputs::gather(&looked, limit)?;
            let trees = [&*trees[0], &*trees[1]];
            let reads = reads::found(&looked, &gathered, &action, asked.as_ref(), trees);
            Ok((gathered, reads))
        })
        .await?;
        let (source, inline_bytes_max) = (&runner.source, self.settings.inline_bytes_max);
        let ran = (finished, sent);
        let outcome = outputs::store(source, inline_bytes_max, prepared, ran, gathered).await?;
        times.store_ms = ms(start);
        Ok((outcome, reads))
    }

    /// The input tree, from the message or from the store; files that came with it are kept.
    async fn inputs(
        &self,
        submit: &Submit,
        runner: &Runner,
        patience: &mut Patience<'_>,
    ) -> Result<Tree, Trouble> {
        let (digest, source) = (submit.action.inputs, &runner.source);
        let came = match (&submit.inputs_zstd, &submit.inputs_difference) {
            (Some(zstd), _) => Some(decode_inline(zstd, digest)?),
            (None, Some(difference)) => source.differing(difference, digest, patience).await?,
            (None, None) => None,
        };
        let tree = match came {
            Some(tree) => tree,
            None => source.tree((BlobClass::Input, digest), patience).await?,
        };
        check::inputs(&tree, self.settings.input_bytes_max)?;
        source.keep(&submit.files_zstd, &tree)?;
        Ok(tree)
    }

    /// Waits until every job has ended and its folder is removed.
    pub async fn cleaned(&self) {
        self.runner.builds.removed().await;
    }
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds since a moment on another machine's clock, never negative.
fn ms_since(unix_ms: u64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(std::time::Duration::from_millis(unix_ms)).as_secs_f64() * 1e3
}
