//! Messages between the parties, version 1: one version byte, then MessagePack with named fields.
//!
//! A reader ignores fields it does not know and refuses a version it does not know; a new meaning
//! needs a new version. Recorded messages of released versions must decode for ever.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::reads::{PathList, ReadLists, Reads, ReadsAsked};
use super::{
    Action, ActionKey, ClientId, Digest, JobId, Outcome, Output, Pool, Proof, Space, StepTimes,
    Tenant, WorkerId, bounded,
};

/// Version that this program writes, and the only one it reads.
pub const VERSION: u8 = 1;
/// Largest message that is decoded, in bytes; NATS servers refuse more than 1 MiB by default.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Most missing blobs named in one message.
pub const MISSING_MAX: usize = 4_096;
/// Most files inside one request.
pub const FILES_INSIDE_MAX: usize = 16;
/// What a worker shows instead of a token where nothing is checked: the word that makes it none of
/// the clients.
pub const INSECURE_WORKER: &str = "insecure-worker";
/// Most workers in one answer.
const WORKERS_MAX: usize = 16_384;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No bytes at all.
    #[error("message is empty")]
    Empty,
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("message has {0} bytes, wanted at most {MESSAGE_BYTES_MAX}")]
    TooLarge(usize),
    /// Written by a program that speaks another version.
    #[error(
        "message has version {0}, wanted {VERSION}\nhint: run the same jetcc release everywhere"
    )]
    Version(u8),
    /// The rest is no MessagePack of the wanted shape.
    #[error("message cannot be decoded: {0}")]
    Encoding(#[from] rmp_serde::decode::Error),
}

/// Encodes `message` with its version in front.
#[expect(clippy::missing_panics_doc, reason = "encoding plain data into memory cannot fail")]
#[expect(clippy::expect_used, reason = "encoding plain data into memory cannot fail")]
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write_named(&mut bytes, message).expect("messages are plain data");
    bytes.into()
}

/// Decodes what [`encode`] wrote.
///
/// # Errors
/// [`WireError`] when the bytes are not a message of this version and shape.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLarge(bytes.len()));
    }
    match bytes.split_first() {
        None => Err(WireError::Empty),
        Some((&VERSION, body)) => Ok(bounded::decode(body)?),
        Some((&version, _)) => Err(WireError::Version(version)),
    }
}

/// Which part of the blob store: each has its own retention and permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BlobClass {
    /// Sources, headers and input trees; written by clients, short-lived.
    Input,
    /// Objects and streams; written by workers.
    Output,
    /// Toolchain files and trees; written by clients, long-lived.
    Toolchain,
}

/// Client to scheduler: please run this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    /// The job's name, chosen by the client; the same id again means the same request.
    pub job: JobId,
    /// What to run.
    pub action: Action,
    /// The input tree's canonical bytes, zstd-compressed; absent when it is in the blob store
    /// under [`Action::inputs`].
    pub inputs_zstd: Option<Bytes>,
    /// The input tree as what differs from another one, instead. A worker that cannot have that one
    /// asks for the whole tree as for any blob.
    #[serde(default)]
    pub inputs_difference: Option<TreeDifference>,
    /// Small files of the tree that the blob store may lack, each a zstd frame: the source, which is
    /// read by this one job, and what was edited. The store would cost two round trips.
    #[serde(default, deserialize_with = "bounded::list::<_, _, FILES_INSIDE_MAX>")]
    pub files_zstd: Vec<Bytes>,
    /// References that prove the toolchain are in the blob store under this digest.
    pub references: Digest,
    /// After this moment (Unix time, ms) nobody waits for the result any more.
    pub deadline_unix_ms: u64,
    /// Somebody sits in front of it: a single file after an edit.
    pub interactive: bool,
    /// Whether a recorded result may answer and the new one may be recorded.
    pub cache: CacheUse,
    /// How the worker shall find out what the compile reads, if the client wants to know.
    #[serde(default)]
    pub reads: Option<ReadsAsked>,
    /// The output that the client wants as soon as the compiler says that it is written.
    #[serde(default, deserialize_with = "bounded::words_if_any")]
    pub announced: Option<String>,
    /// Its inputs may be more than the compile reads: if the result is not known under them, but
    /// something of what compiles of this command read, it rather hears that first.
    #[serde(default)]
    pub offers: bool,
}

/// A tree that is nearly one which the store holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeDifference {
    /// The tree in the store, an input blob of the client's space.
    pub base: Digest,
    /// The encoded [`Difference`](super::Difference), zstd-compressed.
    pub zstd: Bytes,
}

/// What the action cache may do for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheUse {
    /// Answer from it and record into it.
    ReadWrite,
    /// Run again and record the new result.
    Refresh,
    /// Neither.
    Off,
}

/// Scheduler to client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SubmitReply {
    /// It stands in the queue; the result will carry this proof.
    Accepted {
        /// What the result must show.
        proof: Proof,
        /// Its place in the queue, to be named when it is called off.
        place: u64,
        /// Jobs of all clients that wait or run.
        outstanding: u32,
        /// Slots of all workers of the pool.
        slots: u32,
    },
    /// The result is known.
    Cached(Box<ActionRecord>),
    /// It is not queued: what compiles of this command were seen to read. The client looks whether
    /// its own files are the same, and asks again either way.
    Offered(ReadLists),
    /// No live worker serves the pool.
    NoWorker,
    /// The expected wait, in seconds, is not worth it.
    Busy {
        /// Expected wait in seconds.
        wait_seconds: u32,
    },
    /// The tenant has used up what it may; which limit, for people.
    OverQuota(#[serde(deserialize_with = "bounded::words")] String),
    /// The request breaks a rule; for people.
    Refused(#[serde(deserialize_with = "bounded::words")] String),
}

/// Scheduler to client, once a connection and before a toolchain goes up: where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// Its blobs and results are in a space, which is there.
    Welcome {
        /// The space.
        space: Space,
        /// Its tenant has used up what it may, and nothing of its goes up now; which limit, for
        /// people.
        #[serde(default, deserialize_with = "bounded::words_if_any")]
        over_quota: Option<String>,
    },
    /// Its space cannot be made; for people.
    Refused(#[serde(deserialize_with = "bounded::words")] String),
}

/// Client to scheduler: nobody waits for this any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallOff {
    /// Which job.
    pub job: JobId,
    /// Its place in the queue, as the scheduler said when it took the job.
    pub place: u64,
}

/// Client or worker to scheduler: what is stored under a blob's name is something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongBlob {
    /// Whose blob; a client reports on its own space, whatever it says.
    pub space: Space,
    /// Which part of the store.
    pub class: BlobClass,
    /// The blob's name.
    pub digest: Digest,
    /// The action whose known result names it, if one does.
    pub action: Option<ActionKey>,
}

/// Scheduler to client: what it found where wrong bytes were reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Examined {
    /// The right bytes.
    Sound,
    /// Other bytes, which are deleted now.
    Discarded,
    /// Nothing.
    Missing,
    /// It did not look: the store does not answer, or too many are reported at once.
    NotExamined,
}

/// Scheduler to worker, through the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobMessage {
    /// What the client asked.
    pub submit: Submit,
    /// Who asked: names the subjects of progress and result.
    pub client: ClientId,
    /// Whose share it counts against.
    pub tenant: Tenant,
    /// Where its inputs and toolchain are, and where its outputs go.
    #[serde(default = "Space::shared")]
    pub space: Space,
    /// To be shown with the result.
    pub proof: Proof,
    /// When it was published, Unix time in ms.
    pub published_unix_ms: u64,
}

/// Worker to scheduler: what shall become of a job that it was given. The queue itself would believe
/// anybody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holding {
    /// The queue's name for this delivery of the job.
    #[serde(deserialize_with = "bounded::words")]
    pub delivery: String,
    /// As it came with the job.
    pub proof: Proof,
    /// What shall become of it.
    pub word: HoldWord,
}

/// What a worker says of a job in its hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldWord {
    /// It is still at it.
    Extend,
    /// It is done for good: the job leaves the queue.
    Finish,
    /// Somebody else shall have it now.
    GiveBack,
}

/// Worker to client while a job is under way; lost ones do no harm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Progress {
    /// A worker took the job.
    Started {
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker lives and the compiler runs.
    Running,
    /// The store lacks these blobs: upload them again, the worker looks until they are there.
    Missing(
        #[serde(deserialize_with = "bounded::list::<_, _, MISSING_MAX>")] Vec<(BlobClass, Digest)>,
    ),
    /// The output that was to be announced is written and in the store.
    Early(Box<EarlyOutput>),
}

/// An output before the compile has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyOutput {
    /// As it came with the job.
    pub proof: Proof,
    /// The output.
    pub output: Output,
    /// All that the compiler has written to standard error until it said so.
    pub stderr: Bytes,
    /// What the compiler says that it read, empty where it has not said it so far.
    #[serde(default)]
    pub told: Bytes,
}

/// Worker to client, and to the stream that keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// Which job.
    pub job: JobId,
    /// Which action ran.
    pub action: ActionKey,
    /// As it came with the job.
    pub proof: Proof,
    /// The job's space, which the proof covers.
    #[serde(default = "Space::shared")]
    pub space: Space,
    /// The job's deadline (Unix time, ms), which the proof covers: a later answer is not recorded.
    #[serde(default)]
    pub deadline_unix_ms: u64,
    /// Who ran it.
    pub worker: WorkerId,
    /// What came of it.
    pub end: JobEnd,
    /// How long each step took.
    pub times: StepTimes,
    /// Whether the scheduler may record it.
    pub cache: CacheUse,
    /// What the compile read, if it was asked and told.
    #[serde(default)]
    pub reads: Option<Reads>,
    /// The queue's name for the delivery that this ends; none for a result that is passed on.
    #[serde(default, deserialize_with = "bounded::words_if_any")]
    pub delivery: Option<String>,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobEnd {
    /// The compiler ran to its end.
    Done(Outcome),
    /// It did not, and that is our trouble, not the user's.
    Undone(Trouble),
}

/// Why a worker gave no outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Trouble {
    /// Blobs never came.
    #[error("blob `{0}` is not in the store")]
    MissingBlob(Digest),
    /// The store failed.
    #[error("blob store: {0}")]
    Store(#[serde(deserialize_with = "bounded::words")] String),
    /// What the store holds for this job is wrong, or its space has no room: no fault of the worker.
    #[error("blob store: {0}")]
    Space(#[serde(deserialize_with = "bounded::words")] String),
    /// The toolchain does not reproduce its references here.
    #[error("toolchain is not usable here: {0}")]
    Toolchain(#[serde(deserialize_with = "bounded::words")] String),
    /// The request breaks a rule of the worker.
    #[error("refused: {0}")]
    Refused(#[serde(deserialize_with = "bounded::words")] String),
    /// The sandbox or the layout failed.
    #[error("sandbox: {0}")]
    Sandbox(#[serde(deserialize_with = "bounded::words")] String),
    /// The compile took longer than the worker allows.
    #[error("ran longer than {0} s")]
    TimedOut(u64),
    /// Outputs or streams are larger than the worker allows.
    #[error("wrote more than {0} bytes")]
    TooMuchOutput(u64),
    /// The worker is stopping.
    #[error("worker is stopping")]
    Stopping,
    /// The compile needed more memory than the worker allows.
    #[error("needed more than {0} bytes of memory")]
    TooMuchMemory(u64),
}

/// What the action cache holds under an action's key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionRecord {
    /// The recorded outcome.
    pub outcome: Outcome,
    /// Who ran it.
    pub worker: WorkerId,
    /// When, Unix time in ms.
    pub recorded_unix_ms: u64,
    /// Milliseconds the compiler took, for statistics.
    #[serde(deserialize_with = "bounded::milliseconds")]
    pub run_ms: f64,
    /// What the compile read, if it is known.
    #[serde(default)]
    pub reads: Option<PathList>,
}

/// What a worker says of itself, in the registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerState {
    /// Its name.
    pub worker: WorkerId,
    /// Which jobs it takes.
    pub pool: Pool,
    /// Compiles it runs at once when the machine is otherwise idle.
    pub slots: u32,
    /// Slots that are free now.
    pub free: u32,
    /// Compiles under way.
    pub running: u32,
    /// CPU cores of the machine.
    pub cores: u32,
    /// Program version.
    #[serde(deserialize_with = "bounded::words")]
    pub version: String,
    /// It takes no jobs: it stops, or its machine is in trouble.
    pub draining: bool,
}

/// Client to scheduler and back: `--dist-status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FarmStatus {
    /// Live workers.
    #[serde(deserialize_with = "bounded::list::<_, _, WORKERS_MAX>")]
    pub workers: Vec<WorkerState>,
    /// Jobs that wait or run.
    pub outstanding: u32,
    /// What the answering scheduler found to be wrong.
    #[serde(default)]
    pub findings: Findings,
}

/// What one scheduler found since it started; who is denied is known to all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// Workers, clients, users and tenants that are kept out now.
    pub denied: u32,
    /// Blobs whose bytes were not those of their name; they were deleted and are stored again by
    /// who has the right ones.
    pub corrupt_blobs: u64,
    /// Known results that were withdrawn because they are wrong, or may be.
    pub withdrawn: u64,
    /// What audits gave.
    pub audits: AuditCounts,
    /// Workers of which one told a falsehood, and there was no third one to say which.
    #[serde(deserialize_with = "bounded::list::<_, _, WORKERS_MAX>")]
    pub suspected: Vec<[WorkerId; 2]>,
}

/// How audits ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditCounts {
    /// The other worker agreed.
    pub passed: u64,
    /// Two other workers agreed against one, which is quarantined.
    pub failed: u64,
    /// Results differ, and nobody can be blamed: a compile that is not repeatable, or no third
    /// worker.
    pub unclear: u64,
    /// No second result came: the farm was loaded, inputs were gone, or the other worker did not
    /// finish.
    pub dropped: u64,
}
