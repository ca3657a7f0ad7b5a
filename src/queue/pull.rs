//! The worker's half: take jobs when there is room, keep hold of them, finish or give back.
//!
//! A free slot first sweeps the lanes without waiting, most urgent first, and then the audits that are
//! for this worker alone; when all are empty it parks one waiting pull on each. Where a pull is parked
//! it is known to be empty and is not asked again. Pulls are raw requests: workers have no right to ask for more.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connect::{Connection, QueueError};
use super::streams;
use super::subjects::{self, Order};
use crate::job::wire::{
    self, HoldWord, Holding, JobMessage, JobResult, Progress, WorkerState, WrongBlob,
};
use crate::job::{JobId, Lane, Pool, Proof, WorkerId};

/// How long a parked pull waits on the server.
const PARKED: Duration = Duration::from_secs(5);
/// How long its expiry may take to arrive before the pull counts as lost.
const PARKED_GRACE: Duration = Duration::from_millis(500);
/// How long a stopping worker gives back what its last pulls bring.
const CLOSING: Duration = Duration::from_millis(100);
/// How long the answer to a pull without waiting may take.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(1);
/// The lanes, and after them the audits that are for this worker alone.
const QUEUES: usize = Lane::ALL.len() + 1;
/// Every eighth sweep looks at the lanes in reverse, so that no lane starves.
const REVERSE_EVERY: u64 = 8;
/// How long to wait between tries when the queue does not answer.
const RETRY: Duration = Duration::from_millis(250);

/// Takes jobs from a pool's lanes.
pub struct Puller {
    connection: Connection,
    worker: WorkerId,
    pool: Pool,
    inbox: String,
    sweeping: Subscriber,
    /// Arrivals of parked pulls, with the index of their queue: a job's message does not say which
    /// pull it answers, so each queue has a subscription of its own.
    arrivals: SelectAll<BoxStream<'static, (usize, Message)>>,
    parked: [Option<Instant>; QUEUES],
    /// Changes when the connection was lost and is back: the server forgot what was parked.
    connects: watch::Receiver<u64>,
    sweeps: u64,
    requests: u64,
}

/// A job in our hands. Dropped without a word, it is delivered again after
/// [`streams::ACK_WAIT`].
#[derive(Debug)]
pub struct Held {
    /// The job.
    pub job: JobMessage,
    /// How often it has been delivered, this time included.
    pub deliveries: u64,
    hold: Hold,
}

/// The right to answer for a held job, which schedulers check: the queue would believe anybody.
#[derive(Clone, Debug)]
pub struct Hold {
    connection: Connection,
    subject: String,
    delivery: String,
    proof: Proof,
}

impl Hold {
    /// Tells the queue that we are still at it.
    pub async fn extend(&self) {
        let client = self.connection.client();
        if let Err(error) = client.publish(self.subject.clone(), self.say(HoldWord::Extend)).await {
            tracing::debug!(%error, "the job may be delivered again meanwhile");
        }
    }

    /// The queue's name for it, which goes with a result: who reads that takes the job out of the queue.
    pub fn delivery(&self) -> &str {
        &self.delivery
    }

    /// Done without a result: the job leaves the queue.
    pub async fn finish(&self) {
        self.tell(HoldWord::Finish).await;
    }

    /// Not ours after all: somebody else shall have it now.
    pub async fn give_back(&self) {
        self.tell(HoldWord::GiveBack).await;
    }

    fn say(&self, word: HoldWord) -> Bytes {
        let (delivery, proof) = (self.delivery.clone(), self.proof.clone());
        wire::encode(&Holding { delivery, proof, word })
    }

    /// Says `word` until a scheduler heard it; gives up when the queue has taken the job back anyway.
    async fn tell(&self, word: HoldWord) {
        let until = Instant::now() + streams::ACK_WAIT;
        let client = self.connection.client();
        while let Err(error) = client.request(self.subject.clone(), self.say(word)).await {
            if Instant::now() >= until {
                tracing::warn!(%error, ?word, "no scheduler hears; the job will be delivered again");
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl Held {
    /// The handle that answers for it.
    pub fn hold(&self) -> Hold {
        self.hold.clone()
    }
}

impl Puller {
    /// Prepares to take `pool`'s jobs as `worker`.
    ///
    /// # Errors
    /// [`QueueError::Disconnected`] when the connection is gone.
    pub async fn open(
        connection: Connection,
        worker: &WorkerId,
        pool: Pool,
    ) -> Result<Self, QueueError> {
        let inbox = format!("{}.pull", subjects::inbox(worker.as_str()));
        let client = connection.client().clone();
        let subscribe = async |kind: String| {
            let subject = format!("{inbox}.{kind}.*");
            client.subscribe(subject).await.map_err(|_| QueueError::Disconnected)
        };
        let sweeping = subscribe("sweep".to_owned()).await?;
        let mut arrivals = SelectAll::new();
        for queue in 0..QUEUES {
            let parked = subscribe(format!("parked-{queue}")).await?;
            arrivals.push(parked.map(move |message| (queue, message)).boxed());
        }
        let parked = [None; QUEUES];
        let mut connects = connection.connects();
        connects.mark_unchanged();
        Ok(Self {
            connection,
            worker: worker.clone(),
            pool,
            inbox,
            sweeping,
            arrivals,
            parked,
            connects,
            sweeps: 0,
            requests: 0,
        })
    }

    /// The next job, however long it takes. To be called when a slot is free.
    pub async fn next(&mut self) -> Held {
        loop {
            // What a parked pull brought while we were busy comes first.
            while let Some(Some((queue, message))) = self.arrivals.next().now_or_never() {
                if let Some(held) = self.arrived(queue, message).await {
                    return held;
                }
            }
            if let Some(held) = self.sweep().await {
                return held;
            }
            if let Some(held) = self.wait_parked().await {
                return held;
            }
        }
    }

    /// The next job that a parked pull brings while no slot is free; the caller gives it back.
    pub async fn stray(&mut self) -> Held {
        loop {
            match self.arrivals.next().await {
                Some((queue, message)) => {
                    if let Some(held) = self.arrived(queue, message).await {
                        return held;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Takes no more: gives back what still arrives, for a moment.
    pub async fn close(mut self) {
        let until = Instant::now() + CLOSING;
        loop {
            let message = tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                message = self.sweeping.next() => message,
                arrival = self.arrivals.next() => arrival.map(|(_, message)| message),
            };
            let Some(message) = message else { return };
            if let Some(held) = self.accept(message) {
                held.hold().give_back().await;
            }
        }
    }

    /// One look at every queue that may have jobs, without waiting.
    async fn sweep(&mut self) -> Option<Held> {
        self.sweeps += 1;
        self.note_reconnect();
        let mut queues: Vec<usize> = (0..QUEUES).filter(|queue| !self.is_parked(*queue)).collect();
        if queues.len() == 1 {
            // With nothing to choose between, a parked pull brings the same job.
            return None;
        }
        if self.sweeps.is_multiple_of(REVERSE_EVERY) {
            // Audits stay last: nobody waits for them.
            let lanes = queues.iter().filter(|queue| **queue < Lane::ALL.len()).count();
            queues[..lanes].reverse();
        }
        for queue in queues {
            let token = self.request(queue, Wait::No).await;
            let deadline = Instant::now() + SWEEP_TIMEOUT;
            // A status of an earlier sweep that came late is passed over.
            while let Ok(Some(message)) =
                tokio::time::timeout_at(deadline, self.sweeping.next()).await
            {
                let ours = message.subject.ends_with(&token);
                let job = message.status.is_none();
                if job && let Some(held) = self.accept(message) {
                    return Some(held);
                }
                if job || ours {
                    break;
                }
            }
        }
        None
    }

    /// Parks a pull on each queue that has none, and waits for the first job or expiry.
    async fn wait_parked(&mut self) -> Option<Held> {
        for queue in 0..QUEUES {
            if !self.is_parked(queue) {
                self.request(queue, Wait::Parked).await;
                self.parked[queue] = Some(Instant::now() + PARKED + PARKED_GRACE);
            }
        }
        let first = self.parked.iter().flatten().min().copied();
        let deadline = first.unwrap_or_else(|| Instant::now() + RETRY);
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => None,
            Ok(()) = self.connects.changed() => {
                self.parked = [None; QUEUES];
                None
            }
            arrival = self.arrivals.next() => match arrival {
                Some((queue, message)) => self.arrived(queue, message).await,
                None => None,
            },
        }
    }

    /// After a reconnect nothing is parked any more.
    fn note_reconnect(&mut self) {
        if self.connects.has_changed().unwrap_or(false) {
            self.connects.mark_unchanged();
            self.parked = [None; QUEUES];
        }
    }

    fn is_parked(&self, queue: usize) -> bool {
        self.parked[queue].is_some_and(|until| until > Instant::now())
    }

    /// A parked pull is used up by its job or its status.
    async fn arrived(&mut self, queue: usize, message: Message) -> Option<Held> {
        self.parked[queue] = None;
        match message.status {
            None => self.accept(message),
            Some(StatusCode::TIMEOUT) => None,
            Some(_) => {
                // No consumer yet, or the server changed: a short rest instead of a busy loop.
                tokio::time::sleep(RETRY).await;
                None
            }
        }
    }

    /// The consumer that serves a queue, and what a pull from it says besides.
    fn consumer(&self, queue: usize) -> (String, String) {
        let Some(lane) = Lane::ALL.get(queue) else {
            return (subjects::audit_consumer(&self.worker), String::new());
        };
        let order = streams::order(&self.connection);
        let group = match order {
            Order::ByPriority => format!(",\"group\":\"{}\"", subjects::PULL_GROUP),
            Order::RoundRobin => String::new(),
        };
        (subjects::lane_consumer(&self.pool, *lane, order), group)
    }

    async fn request(&mut self, queue: usize, wait: Wait) -> String {
        self.requests += 1;
        let (consumer, group) = self.consumer(queue);
        let subject = subjects::pull(&consumer);
        let (kind, payload) = match wait {
            Wait::No => ("sweep".to_owned(), format!("{{\"batch\":1,\"no_wait\":true{group}}}")),
            Wait::Parked => {
                let kind = format!("parked-{queue}");
                (kind, format!("{{\"batch\":1,\"expires\":{}{group}}}", PARKED.as_nanos()))
            }
        };
        let token = format!(".{}", self.requests);
        let reply = format!("{}.{kind}{token}", self.inbox);
        let sent =
            self.connection.client().publish_with_reply(subject, reply, payload.into()).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "pull was not sent");
            tokio::time::sleep(RETRY).await;
        }
        token
    }

    /// A job out of a message; statuses and unreadable messages give none.
    fn accept(&self, message: Message) -> Option<Held> {
        let delivery = message.reply.as_ref()?.to_string();
        if message.status.is_some() {
            return None;
        }
        match wire::decode::<JobMessage>(&message.payload) {
            Ok(job) => {
                let deliveries =
                    subjects::parse_delivery(&delivery).map_or(1, |known| known.deliveries);
                let hold = Hold {
                    connection: self.connection.clone(),
                    subject: subjects::holding(&self.worker),
                    delivery,
                    proof: job.proof.clone(),
                };
                Some(Held { job, deliveries, hold })
            }
            Err(error) => {
                tracing::error!(%error, "unreadable job passed over");
                None
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Wait {
    No,
    Parked,
}

/// What a worker says to the farm.
#[derive(Clone, Debug)]
pub struct Voice {
    connection: Connection,
    worker: WorkerId,
}

impl Voice {
    /// Speaks as `worker`.
    pub fn new(connection: Connection, worker: WorkerId) -> Self {
        Self { connection, worker }
    }

    /// Tells the client how its job fares; a lost word does no harm.
    pub async fn progress(&self, job: &JobMessage, progress: &Progress) {
        let subject = subjects::progress(&job.client, job.submit.job);
        if let Err(error) = self.connection.client().publish(subject, wire::encode(progress)).await
        {
            tracing::debug!(%error, "progress was not sent");
        }
    }

    /// Gives the result to the client and to the stream that keeps it.
    ///
    /// # Errors
    /// [`QueueError`] when the stream did not confirm: the job must not be acknowledged.
    pub async fn result(&self, job: &JobMessage, result: &JobResult) -> Result<(), QueueError> {
        let subject = subjects::result(&job.client, job.submit.job, &self.worker);
        let context = streams::context(&self.connection);
        let sent = context.publish(subject.clone(), wire::encode(result)).await;
        let acked = sent.map_err(|error| streams::refused(&subject, &error))?.await;
        acked.map(drop).map_err(|error| streams::refused(&subject, &error))
    }

    /// Asks a scheduler to look at a blob that has wrong bytes; a lost word does no harm.
    pub async fn report(&self, wrong: &WrongBlob) {
        let subject = subjects::worker_report(&self.worker);
        if let Err(error) = self.connection.client().publish(subject, wire::encode(wrong)).await {
            tracing::debug!(%error, "report was not sent");
        }
    }

    /// Renews this worker's entry in the registry.
    pub async fn presence(&self, state: &WorkerState) {
        let subject = subjects::worker_key(&self.worker);
        if let Err(error) = self.connection.client().publish(subject, wire::encode(state)).await {
            tracing::debug!(%error, "presence was not sent");
        }
    }

    /// Takes this worker out of the registry.
    pub async fn leave(&self) {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        let subject = subjects::worker_key(&self.worker);
        let client = self.connection.client();
        if let Err(error) = client.publish_with_headers(subject, headers, Bytes::new()).await {
            tracing::debug!(%error, "leaving was not announced; the entry ages out");
        }
    }

    /// Job ids that clients called off.
    ///
    /// # Errors
    /// [`QueueError::Disconnected`] when the connection is gone.
    pub async fn cancellations(&self) -> Result<Cancellations, QueueError> {
        let cancelled = self.connection.client().subscribe(subjects::CANCELLATIONS).await;
        Ok(Cancellations(cancelled.map_err(|_| QueueError::Disconnected)?))
    }
}

/// Stream of jobs that were called off.
#[derive(Debug)]
pub struct Cancellations(Subscriber);

impl Cancellations {
    /// The next job that nobody waits for.
    pub async fn next(&mut self) -> JobId {
        loop {
            match self.0.next().await {
                Some(message) => {
                    if let Some(job) = subjects::parse_job_id(&message.subject) {
                        return job;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }
}
