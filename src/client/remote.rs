//! One job from its submission to its result, with everything that may go wrong on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::bases::{Form, Kin};
use super::early;
use super::inputs::{self, Extent, Inputs};
use super::link::Reach;
use super::ready_toolchain::ReadyToolchain;
use super::report::Report;
use super::sent::Sent;
use super::settings::{Dist, Settings};
use super::upload::{Extra, Inside, Name, Source, Uploads};
use crate::job::reads::{PathList, ReadLists, ReadsAsked};
use crate::job::wire::{
    self, BlobClass, CacheUse, CallOff, EarlyOutput, JobEnd, JobResult, Progress, Submit,
    SubmitReply, Trouble,
};
use crate::job::{Action, ActionKey, JobId, LocalReason, Outcome, Proof, StepTimes, Tree};
use crate::queue::QueueError;
use crate::queue::submit::{Farm, Following, Word};

/// Silence after which the farm is asked again whether it still knows the job.
const ASK_AFTER: Duration = Duration::from_secs(3);
/// How long a lost connection may take to come back.
const RECONNECT_WAIT: Duration = Duration::from_secs(2);
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(500);

/// A job as it is handed to the farm.
pub struct Job {
    /// What to run.
    pub action: Action,
    /// What it reads.
    pub inputs: Arc<Inputs>,
    /// Their tree, if they were narrowed: held for whoever asks for it.
    pub tree: Option<Arc<Tree>>,
    /// What its tree may be near to.
    pub kin: Kin,
    /// The toolchain, with every blob of it.
    pub toolchain: Arc<ReadyToolchain>,
    /// What the action cache may do.
    pub cache: CacheUse,
    /// How the worker shall find out what the compile reads.
    pub reads: Option<ReadsAsked>,
    /// Whether the inputs may be more than the compile reads.
    pub extent: Extent,
    /// The output that is wanted before the compile has ended, and who wants it.
    pub early: Option<(String, UnboundedSender<EarlyOutput>)>,
}

impl Job {
    /// Asks next time for what one of the lists leaves of `inputs`, or for all of them for good.
    pub fn narrow(&mut self, inputs: &Inputs, lists: &ReadLists) {
        self.extent = Extent::Exact;
        if let Some((precise, tree)) = inputs::choose(inputs, lists) {
            self.action.inputs = precise.digest;
            (self.inputs, self.tree) = (Arc::new(precise), Some(tree));
        }
    }

    fn submit(&self, job: JobId, patience: Patience, form: &Form, inside: &Inside) -> Submit {
        Submit {
            job,
            action: self.action.clone(),
            inputs_zstd: form.whole().cloned(),
            inputs_difference: form.difference().cloned(),
            files_zstd: inside.values().cloned().collect(),
            references: self.toolchain.references,
            deadline_unix_ms: unix_ms() + millis(patience.job),
            interactive: false,
            cache: self.cache,
            reads: self.reads.clone(),
            offers: self.extent == Extent::Larger,
            announced: self.early.as_ref().map(|(path, _)| path.clone()),
        }
    }

    /// Every file that it needs.
    fn sources(&self) -> impl Iterator<Item = (&Name, &Source)> {
        self.inputs.sources.iter().chain(&self.toolchain.sources)
    }

    fn source(&self, name: &Name) -> Option<&Source> {
        self.inputs.sources.get(name).or_else(|| self.toolchain.sources.get(name))
    }
}

/// How a request ended.
#[derive(Debug)]
pub enum Came {
    /// With the job's answer.
    Answer(Box<Answer>),
    /// With what other compiles of the command read; nothing was queued.
    Offered(ReadLists),
}

/// What came of a job.
#[derive(Debug)]
pub struct Answer {
    /// The outcome.
    pub outcome: Outcome,
    /// Who ran it.
    pub worker: String,
    /// The job's name.
    pub job: JobId,
    /// Whether it ran for us or was known.
    pub origin: Origin,
    /// How long the worker's steps took.
    pub times: StepTimes,
    /// What the compile read, if it is known.
    pub reads: Option<PathList>,
}

/// Where a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A worker ran it for us.
    Ran,
    /// It was recorded.
    Cached,
}

/// Runs `job` on the farm.
///
/// # Errors
/// Why it has to run locally.
pub async fn run(
    reach: &Reach,
    job: &Job,
    uploads: &Arc<Uploads>,
    dist: &Dist,
    report: &mut Report,
) -> Result<Came, LocalReason> {
    let Report { laps, sent, .. } = report;
    let id = JobId::random().map_err(|error| LocalReason::Refused(error.to_string()))?;
    let key = job.action.key();
    let patience = Patience::of(dist);

    // What goes inside the request: the tree in its shortest form, and what was edited.
    let holds = |tree| uploads.knows((BlobClass::Input, tree));
    let form = uploads.bases.form(&job.inputs, &job.kin, holds);
    let main = job.inputs.main.map(|digest| (BlobClass::Input, digest));
    let extra = form.difference().map_or(Extra::None, |_| Extra::Edited);
    let inside = uploads.inside(main, extra, &job.inputs.sources).await?;
    let submit = wire::encode(&job.submit(id, patience, &form, &inside));
    let mut wait = Wait {
        reach,
        id,
        submit,
        job,
        form: &form,
        uploads,
        sent,
        patience,
        begun: Instant::now(),
        heard: Instant::now(),
        away: None,
        started: false,
        place: Arc::default(),
        following: reach.farm.follow(id),
        proof: None,
    };
    laps.end("key");
    let told = wait.submit().await?;
    laps.end("submit");
    match told {
        Told::Cached(answer) => Ok(Came::Answer(answer)),
        Told::Offered(lists) => Ok(Came::Offered(lists)),
        Told::Queued { proof, place } => {
            wait.place.store(place, Ordering::Relaxed);
            let (farm, place) = (reach.farm.clone(), wait.place.clone());
            let mut guard = CallOffGuard { farm, job: id, place, armed: true };
            uploads.note_inside(inside.keys());
            match &form {
                Form::Stored => wait.upload_tree().await?,
                form if form.wants_base() => drop(tokio::spawn(wait.upload_tree())),
                Form::Whole(_) | Form::Difference(_) => {}
            }
            let rest = job.sources().filter(|(name, _)| !inside.contains_key(name)).collect();
            uploads.ensure(&reach.blobs, rest, wait.sent).await?;
            laps.end("upload");
            wait.proof = Some(proof.clone());
            let answer = wait.answer(&proof, &key).await?;
            laps.end("answer");
            guard.armed = false;
            Ok(Came::Answer(Box::new(answer)))
        }
    }
}

/// Tells the farm, when dropped, that nobody waits for the job any more: also when the wrapper was
/// interrupted and its compile is dropped in the middle.
struct CallOffGuard {
    farm: Farm,
    job: JobId,
    place: Arc<AtomicU64>,
    armed: bool,
}

impl Drop for CallOffGuard {
    fn drop(&mut self) {
        if self.armed {
            let off = CallOff { job: self.job, place: self.place.load(Ordering::Relaxed) };
            let farm = self.farm.clone();
            tokio::spawn(async move { farm.cancel(&off).await });
        }
    }
}

/// How long things may take.
#[derive(Clone, Copy)]
struct Patience {
    queue: Duration,
    silence: Duration,
    job: Duration,
}

impl Patience {
    fn of(dist: &Dist) -> Self {
        let queue = dist.queue_wait_seconds_max.unwrap_or(Settings::QUEUE_WAIT_SECONDS_MAX);
        let silence = dist.silence_seconds_max.unwrap_or(Settings::SILENCE_SECONDS_MAX);
        let job = dist.job_seconds_max.unwrap_or(Settings::JOB_SECONDS_MAX);
        Self {
            queue: Duration::from_secs(queue.into()),
            silence: Duration::from_secs(silence.into()),
            job: Duration::from_secs(job),
        }
    }
}

/// What a submission is told.
enum Told {
    Queued { proof: Proof, place: u64 },
    Cached(Box<Answer>),
    Offered(ReadLists),
}

/// What a word or a question brought.
enum Found {
    Nothing,
    Result(Box<JobResult>),
    Recorded(Box<Answer>),
}

/// Waiting for one job.
struct Wait<'a> {
    reach: &'a Reach,
    id: JobId,
    /// The request, encoded.
    submit: Bytes,
    job: &'a Job,
    form: &'a Form,
    uploads: &'a Arc<Uploads>,
    sent: &'a Sent,
    patience: Patience,
    begun: Instant,
    heard: Instant,
    /// When the connection was first seen away.
    away: Option<Instant>,
    started: bool,
    /// Where the job that we wait for stands in the queue, our own or an equal one.
    place: Arc<AtomicU64>,
    following: Following,
    /// What an answer has to show, once the job is queued.
    proof: Option<Proof>,
}

/// What a waiting client waits for.
enum Event {
    Word(Option<Word>),
    Tick,
}

impl Wait<'_> {
    async fn submit(&self) -> Result<Told, LocalReason> {
        let ask = || {
            self.sent.message(self.submit.len());
            self.reach.farm.submit_encoded(self.submit.clone())
        };
        let reply = match ask().await {
            // That scheduler may have died over it; another one asks nothing twice.
            Err(QueueError::TimedOut(_)) => ask().await,
            reply => reply,
        };
        let reply = reply.map_err(|error| match error {
            QueueError::NoResponders(_) | QueueError::TimedOut(_) => LocalReason::NoScheduler,
            QueueError::Disconnected => LocalReason::NoServer(error.to_string()),
            _ => LocalReason::Refused(error.to_string()),
        })?;
        match reply {
            SubmitReply::Accepted { proof, place, .. } => Ok(Told::Queued { proof, place }),
            SubmitReply::Cached(record) => Ok(Told::Cached(Box::new(Answer {
                outcome: record.outcome,
                worker: record.worker.to_string(),
                job: self.id,
                origin: Origin::Cached,
                times: StepTimes { run_ms: record.run_ms, ..StepTimes::default() },
                reads: record.reads,
            }))),
            SubmitReply::Offered(lists) => Ok(Told::Offered(lists)),
            SubmitReply::NoWorker => Err(LocalReason::NoWorker),
            SubmitReply::Busy { wait_seconds } => Err(LocalReason::QueueTooLong(wait_seconds)),
            SubmitReply::OverQuota(limit) => Err(LocalReason::OverQuota(limit)),
            SubmitReply::Refused(words) => Err(LocalReason::Refused(words)),
        }
    }

    /// The job's answer: a result that bears `proof`, or one that was recorded meanwhile.
    async fn answer(&mut self, proof: &Proof, key: &ActionKey) -> Result<Answer, LocalReason> {
        let mut clock = tokio::time::interval(TICK);
        let mut asked = Instant::now();
        loop {
            let event = tokio::select! {
                word = self.following.next() => Event::Word(word),
                _ = clock.tick() => Event::Tick,
            };
            let found = match event {
                Event::Word(None) => return Err(LocalReason::Stopping),
                Event::Word(Some(word)) => self.hear(word).await?,
                Event::Tick => {
                    self.check_patience()?;
                    if self.heard.elapsed() < ASK_AFTER || asked.elapsed() < ASK_AFTER {
                        continue;
                    }
                    asked = Instant::now();
                    self.ask_again().await?
                }
            };
            match found {
                Found::Nothing => {}
                Found::Recorded(answer) => return Ok(*answer),
                Found::Result(result) if result.proof == *proof => return read(*result, key),
                Found::Result(_) => {
                    tracing::warn!(job = %self.id, "result without proof dropped");
                }
            }
        }
    }

    async fn hear(&mut self, word: Word) -> Result<Found, LocalReason> {
        self.heard = Instant::now();
        match word {
            Word::Result(result) => Ok(Found::Result(result)),
            Word::Progress(Progress::Started { .. } | Progress::Running) => {
                self.started = true;
                Ok(Found::Nothing)
            }
            Word::Progress(Progress::Missing(names)) => {
                self.upload_again(&names).await?;
                Ok(Found::Nothing)
            }
            Word::Progress(Progress::Early(early)) => {
                self.pass_on(*early);
                Ok(Found::Nothing)
            }
            Word::Reconnected => self.ask_again().await,
        }
    }

    /// Gives an early output to who wants it, if it is that one and comes from who was given the job.
    fn pass_on(&self, early: EarlyOutput) {
        if let Some((path, wants)) = &self.job.early
            && early::is_wanted(&early, path, self.proof.as_ref())
        {
            // Who wanted it may have gone away.
            let _ = wants.send(early);
        }
    }

    /// Uploads what a worker did not find; it may only name blobs of this very job.
    async fn upload_again(&self, names: &[Name]) -> Result<(), LocalReason> {
        tracing::debug!(job = %self.id, blobs = names.len(), "uploading again");
        self.uploads.forget(names);
        if names.contains(&self.job.inputs.tree_name()) {
            // Whoever asks for all of it cannot have what it differs from.
            let base = self.form.difference().map(|tree| (BlobClass::Input, tree.base));
            self.uploads.forget(base.as_slice());
            self.upload_tree().await?;
        }
        let wanted = names.iter().filter_map(|name| Some((name, self.job.source(name)?))).collect();
        self.uploads.ensure(&self.reach.blobs, wanted, self.sent).await
    }

    /// Uploads the tree, from which later ones may differ.
    fn upload_tree(&self) -> impl Future<Output = Result<(), LocalReason>> + Send + use<> {
        let (blobs, uploads) = (self.reach.blobs.clone(), self.uploads.clone());
        let (inputs, kin, sent) = (self.job.inputs.clone(), self.job.kin, self.sent.clone());
        async move {
            uploads.ensure_packed(&blobs, BlobClass::Input, &inputs.tree_blob()?, &sent).await?;
            uploads.bases.remember(&inputs, &kin);
            Ok(())
        }
    }

    /// Is there a result that we missed? Does the farm still know the job?
    async fn ask_again(&self) -> Result<Found, LocalReason> {
        if let Ok(Some(result)) = self.reach.farm.result(self.id).await {
            return Ok(Found::Result(Box::new(result)));
        }
        // The same id is the same job: this queues it only if the queue does not have it.
        match self.submit().await {
            Ok(Told::Cached(answer)) => match self.reach.farm.result(self.id).await {
                // It has ended between the two questions: that is no hit.
                Ok(Some(result)) => Ok(Found::Result(Box::new(result))),
                Ok(None) | Err(_) => Ok(Found::Recorded(answer)),
            },
            Err(LocalReason::NoWorker) if self.started => Err(LocalReason::WorkerLost),
            Err(LocalReason::NoWorker) => Err(LocalReason::NoWorker),
            Ok(Told::Queued { place, .. }) => {
                self.place.store(place, Ordering::Relaxed);
                Ok(Found::Nothing)
            }
            // Anything else may pass: the worker answers without the scheduler's help.
            Ok(Told::Offered(_)) | Err(_) => Ok(Found::Nothing),
        }
    }

    fn check_patience(&mut self) -> Result<(), LocalReason> {
        let silence = self.heard.elapsed();
        let is_away = !self.reach.farm.is_up();
        self.away = is_away.then(|| self.away.unwrap_or_else(Instant::now));
        if self.away.is_some_and(|away| away.elapsed() > RECONNECT_WAIT) {
            Err(LocalReason::NoServer("connection was lost during the compile".into()))
        } else if self.started && silence > self.patience.silence {
            Err(LocalReason::WorkerLost)
        } else if !self.started && self.begun.elapsed() > self.patience.queue {
            let seconds = self.patience.queue.as_secs();
            Err(LocalReason::QueueTooLong(u32::try_from(seconds).unwrap_or(u32::MAX)))
        } else if self.begun.elapsed() > self.patience.job {
            Err(LocalReason::WorkerTrouble(format!(
                "no result within {} s",
                self.patience.job.as_secs()
            )))
        } else {
            Ok(())
        }
    }
}

fn read(result: JobResult, key: &ActionKey) -> Result<Answer, LocalReason> {
    if result.action != *key {
        return Err(LocalReason::BadResult("it is for another action".into()));
    }
    let outcome = match result.end {
        JobEnd::Done(outcome) => outcome,
        JobEnd::Undone(Trouble::Toolchain(why)) => return Err(LocalReason::Toolchain(why)),
        JobEnd::Undone(
            trouble @ (Trouble::MissingBlob(_) | Trouble::Store(_) | Trouble::Space(_)),
        ) => {
            return Err(LocalReason::Store(trouble.to_string()));
        }
        JobEnd::Undone(trouble) => return Err(LocalReason::WorkerTrouble(trouble.to_string())),
    };
    Ok(Answer {
        outcome,
        worker: result.worker.to_string(),
        job: result.job,
        origin: Origin::Ran,
        times: result.times,
        reads: result.reads.map(|reads| reads.paths),
    })
}

fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
