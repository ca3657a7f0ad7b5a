//! The scheduler's half: requests of clients, the queue, the registry, results.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::kv::{Operation, Store};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{DirectGetError, DirectGetErrorKind, Stream};
use async_nats::jetstream::{self, Context};
use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use super::connect::{Connection, QueueError};
use super::queued::QueuedJobs;
use super::streams;
use super::subjects::{self, Question};
use crate::job::wire::{self, JobMessage, JobResult, WorkerState};
use crate::job::{ClientId, JobId, Principal, Tenant, WorkerId};

/// The server's error for a subject that has its most messages already.
const SUBJECT_FULL: u64 = 10_077;
/// Header in which the server itself says who sent a request across accounts.
const REQUEST_INFO: &str = "Nats-Request-Info";

/// Header by which the server knows a message that it has already.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";

/// A scheduler's place in the farm.
#[derive(Clone, Debug)]
pub struct Desk {
    connection: Connection,
    pub(super) context: Context,
    pub(super) queued: Arc<QueuedJobs>,
}

/// A question of a client whose identity the server vouches for.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub from: Principal,
    /// What is asked.
    pub question: Question,
    /// The question's message, undecoded.
    pub payload: Bytes,
    reply: Option<async_nats::Subject>,
}

/// What a stream holds, in the server's own words.
#[derive(Deserialize)]
pub(super) struct Counts {
    /// Messages by subject.
    #[serde(default)]
    pub(super) subjects: Option<HashMap<String, u32>>,
    /// The last place that was given.
    last_seq: u64,
}

/// Questions as they come.
#[derive(Debug)]
pub struct Requests(Subscriber);

/// What the server stamps on a request that crosses accounts.
#[derive(Deserialize)]
struct RequestInfo {
    user: Option<String>,
}

impl Requests {
    /// The next question; `None` when the connection is closed for good.
    pub async fn next(&mut self) -> Option<Request> {
        loop {
            let message = self.0.next().await?;
            if let Some(request) = Request::of(message) {
                return Some(request);
            }
        }
    }
}

impl Request {
    fn of(message: Message) -> Option<Self> {
        let (client, question) = subjects::parse_request(&message.subject)?;
        let user = asker(&message)?;
        match user.parse::<Principal>() {
            Ok(from) if from.client == client => {
                Some(Self { from, question, payload: message.payload, reply: message.reply })
            }
            _ => {
                tracing::warn!(%client, user, "request under another client's name dropped");
                None
            }
        }
    }
}

/// Who the server says sent a request across accounts: the name under which it was admitted.
pub(super) fn asker(message: &Message) -> Option<String> {
    let info = message.headers.as_ref()?.get(REQUEST_INFO)?;
    serde_json::from_str::<RequestInfo>(info.as_str()).ok()?.user
}

impl Desk {
    /// Takes a place: declares streams and buckets first.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the server refuses a stream.
    pub async fn open(connection: Connection) -> Result<Self, QueueError> {
        streams::declare(&connection).await?;
        let context = streams::context(&connection);
        Ok(Self { connection, context, queued: Arc::default() })
    }

    /// The connection, for declaring pools and watching reconnects.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The server may have lost its queue, and give places in it again.
    pub fn forget_places(&self) {
        self.queued.forget_all();
    }

    /// Questions of all clients, shared with the other schedulers.
    ///
    /// # Errors
    /// [`QueueError::Disconnected`] when the connection is gone.
    pub async fn requests(&self) -> Result<Requests, QueueError> {
        self.connection.share(subjects::CLIENT_REQUESTS).await.map(Requests)
    }

    /// Answers a question.
    pub async fn answer<T: Serialize>(&self, request: &Request, answer: &T) {
        let Some(reply) = request.reply.clone() else { return };
        if let Err(error) = self.connection.client().publish(reply, wire::encode(answer)).await {
            tracing::warn!(client = %request.from.client, %error, "answer was not sent");
        }
    }

    /// Jobs of each tenant that wait or run, all lanes together, and the last place that the queue had
    /// given when they were counted.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer.
    pub async fn outstanding(&self) -> Result<(HashMap<Tenant, u32>, u64), QueueError> {
        let mut tenants = HashMap::new();
        let Counts { subjects, last_seq } = self.counts(subjects::JOBS, "jobs.>").await?;
        for (subject, count) in subjects.unwrap_or_default() {
            if let Some((lane, tenant)) = subjects::parse_job(&subject)
                && lane != subjects::AUDIT_TOKEN
                && let Ok(tenant) = tenant.parse::<Tenant>()
            {
                *tenants.entry(tenant).or_default() += count;
            }
        }
        Ok((tenants, last_seq))
    }

    /// Messages of each subject of `stream` that `filter` takes.
    pub(super) async fn counts(&self, stream: &str, filter: &str) -> Result<Counts, QueueError> {
        #[derive(Deserialize)]
        struct Answer {
            state: Counts,
        }
        let question = serde_json::json!({ "subjects_filter": filter });
        let answer = self.context.request(format!("STREAM.INFO.{stream}"), &question).await;
        let answer: Answer = answer.map_err(|error| streams::refused(stream, &error))?;
        Ok(answer.state)
    }

    /// A stream, to be read from or deleted in.
    pub(super) async fn stream(&self, name: &str) -> Result<Stream<()>, QueueError> {
        let stream = self.context.get_stream_no_info(name).await;
        stream.map_err(|error| streams::refused(name, &error))
    }

    /// The message at `place` of the stream `name`, if it is there.
    pub(super) async fn message_at(
        &self,
        name: &str,
        place: u64,
    ) -> Result<Option<StreamMessage>, QueueError> {
        found(name, self.stream(name).await?.direct_get(place).await)
    }

    /// The last message on `subject` of the stream `name`, if there is one.
    pub(super) async fn last_message(
        &self,
        name: &str,
        subject: &str,
    ) -> Result<Option<StreamMessage>, QueueError> {
        found(name, self.stream(name).await?.direct_get_last_for_subject(subject).await)
    }

    /// The stored result of a client's job.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer.
    pub async fn stored_result(
        &self,
        client: &ClientId,
        job: JobId,
    ) -> Result<Option<JobResult>, QueueError> {
        let subject = subjects::results_of_job(client, job);
        let stored = self.last_message(subjects::RESULTS, &subject).await?;
        Ok(stored.and_then(|message| wire::decode(&message.payload).ok()))
    }

    /// Tells all schedulers, this one too, that `tenant` has sent more than it may.
    pub async fn say_over(&self, tenant: &Tenant) {
        let client = self.connection.client();
        let said = client.publish(subjects::over(tenant.as_str()), Bytes::new()).await;
        if said.is_err() || client.flush().await.is_err() {
            tracing::warn!(%tenant, "other schedulers do not hear that a tenant is over its limit");
        }
    }

    /// Tenants of which any scheduler says so.
    ///
    /// # Errors
    /// [`QueueError::Disconnected`] when the connection is gone.
    pub async fn overs(&self) -> Result<Overs, QueueError> {
        let heard = self.connection.client().subscribe(subjects::over("*")).await;
        heard.map(Overs).map_err(|_| QueueError::Disconnected)
    }

    /// Follows the registry of workers: first those known, then every change.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the bucket cannot be watched.
    pub async fn watch_workers(&self) -> Result<WorkerWatch, QueueError> {
        let store = self.bucket(subjects::WORKERS).await?;
        let watch = store.watch_with_history(">").await;
        let watch = watch.map_err(|error| streams::refused(subjects::WORKERS, &error))?;
        Ok(WorkerWatch(watch))
    }

    /// Takes a worker out of the registry in its place.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the server refuses.
    pub async fn forget_worker(&self, worker: &WorkerId) -> Result<(), QueueError> {
        let store = self.bucket(subjects::WORKERS).await?;
        let deleted = store.delete(worker.as_str()).await;
        deleted.map_err(|error| streams::refused(subjects::WORKERS, &error))
    }

    async fn bucket(&self, name: &str) -> Result<Store, QueueError> {
        self.context.get_key_value(name).await.map_err(|error| streams::refused(name, &error))
    }

    /// Results to be recorded, shared with the other schedulers.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the consumer cannot be read.
    pub async fn results(&self) -> Result<BoxStream<'static, Letter>, QueueError> {
        self.letters(subjects::RECORDER, subjects::RESULTS).await
    }

    /// Advisories of jobs that were given up, shared with the other schedulers.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the consumer cannot be read.
    pub async fn dead(&self) -> Result<BoxStream<'static, Letter>, QueueError> {
        self.letters(subjects::UNDERTAKER, subjects::DEAD).await
    }

    /// Messages of a consumer, until it breaks and has to be opened again.
    async fn letters(
        &self,
        consumer: &str,
        stream: &str,
    ) -> Result<BoxStream<'static, Letter>, QueueError> {
        let consumer: jetstream::consumer::Consumer<pull::Config> = self
            .context
            .get_consumer_from_stream(consumer, stream)
            .await
            .map_err(|error| streams::refused(consumer, &error))?;
        let messages = consumer.messages().await;
        let messages = messages.map_err(|error| streams::refused(stream, &error))?;
        let letters = messages.scan((), |(), message| {
            let message = message.inspect_err(|error| tracing::debug!(%error, "consumer broke"));
            std::future::ready(message.ok().map(Letter))
        });
        Ok(letters.boxed())
    }

    /// Takes the job that an advisory speaks of out of the queue and returns it, if it is there.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer.
    pub async fn exhume(&self, advisory: &[u8]) -> Result<Option<JobMessage>, QueueError> {
        #[derive(Deserialize)]
        struct Advisory {
            stream_seq: u64,
        }
        match serde_json::from_slice(advisory) {
            Ok(Advisory { stream_seq }) => self.take_out(stream_seq, |_| true).await,
            Err(_) => Ok(None),
        }
    }

    /// Takes the job at `place` out of the queue, if it is there and `wanted` says so; an unreadable
    /// job is `None`.
    pub(super) async fn take_out(
        &self,
        place: u64,
        wanted: impl FnOnce(Option<&JobMessage>) -> bool,
    ) -> Result<Option<JobMessage>, QueueError> {
        let jobs = self.stream(subjects::JOBS).await?;
        let Ok(message) = jobs.direct_get(place).await else { return Ok(None) };
        let job = wire::decode::<JobMessage>(&message.payload).ok();
        if !wanted(job.as_ref()) {
            return Ok(None);
        }
        if let Err(error) = jobs.delete_message(place).await {
            tracing::debug!(%error, place, "job was gone already");
        }
        Ok(job)
    }

    /// Gives a result in the schedulers' name, whoever ran it.
    ///
    /// # Errors
    /// [`QueueError`] when the stream did not confirm.
    pub async fn publish_result(
        &self,
        client: &ClientId,
        result: &JobResult,
    ) -> Result<(), QueueError> {
        let subject = subjects::result_by_schedulers(client, result.job);
        let sent = self.context.publish(subject.clone(), wire::encode(result)).await;
        let acked = sent.map_err(|error| streams::refused(&subject, &error))?.await;
        acked.map(drop).map_err(|error| streams::refused(&subject, &error))
    }
}

/// Tenants that have sent more than they may, as schedulers say it.
#[derive(Debug)]
pub struct Overs(Subscriber);

impl Overs {
    /// The next one.
    pub async fn next(&mut self) -> Tenant {
        loop {
            let Some(message) = self.0.next().await else { return std::future::pending().await };
            if let Some(tenant) = subjects::parse_over(&message.subject) {
                return tenant;
            }
        }
    }
}

/// Changes in the registry of workers.
pub struct WorkerWatch(jetstream::kv::Watch);

/// A change in the registry.
#[derive(Debug)]
pub enum WorkerChange {
    /// It said something of itself.
    Said(WorkerState),
    /// It took itself out.
    Gone(WorkerId),
}

impl WorkerWatch {
    /// The next change; `None` when the watch broke and has to be opened again.
    pub async fn next(&mut self) -> Option<WorkerChange> {
        loop {
            let entry = match self.0.next().await? {
                Ok(entry) => entry,
                Err(error) => {
                    tracing::warn!(%error, "registry watch broke");
                    return None;
                }
            };
            let Ok(worker) = entry.key.parse::<WorkerId>() else { continue };
            if !matches!(entry.operation, Operation::Put) {
                return Some(WorkerChange::Gone(worker));
            }
            match wire::decode::<WorkerState>(&entry.value) {
                // A worker may only speak of itself: the key is what permissions vouch for.
                Ok(state) if state.worker == worker => return Some(WorkerChange::Said(state)),
                Ok(_) => tracing::warn!(%worker, "worker spoke for another, passed over"),
                Err(error) => tracing::warn!(%worker, %error, "unreadable worker state"),
            }
        }
    }
}

/// One message of a durable consumer; it must be finished.
pub struct Letter(jetstream::Message);

impl Letter {
    /// The message's bytes.
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// The client whose result this is, and the worker that gave it: the server vouches for both.
    pub fn result_parties(&self) -> Option<(ClientId, WorkerId)> {
        subjects::parse_result(&self.0.subject)
    }

    /// Dealt with, for good.
    pub async fn finish(&self) {
        if let Err(error) = self.0.ack().await {
            tracing::debug!(%error, "letter was not acknowledged; it will come again");
        }
    }
}

/// What a stream answered; nothing there is no error.
fn found(
    stream: &str,
    answer: Result<StreamMessage, DirectGetError>,
) -> Result<Option<StreamMessage>, QueueError> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(streams::refused(stream, &error)),
    }
}

/// The last message on `subject` of `stream`, read straight from its file.
pub(super) async fn direct_get(
    connection: &Connection,
    stream: &str,
    subject: &str,
) -> Result<Option<Message>, QueueError> {
    let api = subjects::direct_get(stream, subject);
    let answer = connection.client().request(api, Bytes::new()).await;
    let message = answer.map_err(|error| match error.kind() {
        async_nats::RequestErrorKind::TimedOut => QueueError::TimedOut(subject.to_owned()),
        async_nats::RequestErrorKind::NoResponders => QueueError::NoResponders(subject.to_owned()),
        _ => streams::refused(subject, &error),
    })?;
    match message.status.map(|status| status.as_u16()) {
        None => Ok(Some(message)),
        Some(404) => Ok(None),
        Some(status) => Err(QueueError::BadAnswer {
            subject: subject.to_owned(),
            message: format!("status {status}"),
        }),
    }
}

/// Whether a publish was refused because the subject has its most messages already.
pub(super) fn is_full(error: &jetstream::context::PublishError) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<jetstream::Error>() {
            return error.error_code().0 == SUBJECT_FULL;
        }
        source = cause.source();
    }
    false
}

/// How often schedulers look at the queue's length.
pub const OUTSTANDING_EVERY: Duration = Duration::from_millis(500);
