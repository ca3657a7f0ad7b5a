//! The client's half: submit a job, follow it, fetch its result again, call it off.
//!
//! Two subscriptions for the whole life of the daemon carry the words about all its jobs; each
//! word goes to whoever follows its job, and words about unknown jobs are dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Message, RequestErrorKind, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::connect::{Connection, QueueError};
use super::subjects::{self, Question};
use crate::job::wire::{
    self, CallOff, Examined, FarmStatus, HelloReply, JobResult, Progress, Submit, SubmitReply,
    WrongBlob,
};
use crate::job::{ClientId, JobId};

/// Words about one job that may wait to be read.
const WORDS_MAX: usize = 64;

/// What a follower hears.
#[derive(Debug)]
pub enum Word {
    /// The job is under way.
    Progress(Progress),
    /// It ended.
    Result(Box<JobResult>),
    /// The connection was lost and is back: a word may have been missed.
    Reconnected,
}

type Followers = Arc<Mutex<HashMap<JobId, mpsc::Sender<Word>>>>;

/// A client's place in the farm.
#[derive(Clone, Debug)]
pub struct Farm {
    connection: Connection,
    id: ClientId,
    followers: Followers,
}

/// Hears of one job until it is dropped.
#[derive(Debug)]
pub struct Following {
    job: JobId,
    words: mpsc::Receiver<Word>,
    followers: Followers,
}

impl Following {
    /// The next word about the job.
    pub async fn next(&mut self) -> Option<Word> {
        self.words.recv().await
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        lock(&self.followers).remove(&self.job);
    }
}

impl Farm {
    /// Takes the place of `id`: subscribes to its results and progress.
    ///
    /// # Errors
    /// [`QueueError::Disconnected`] when the connection is gone.
    pub async fn join(connection: Connection, id: ClientId) -> Result<Self, QueueError> {
        let subscribe = async |subject| {
            connection.client().subscribe(subject).await.map_err(|_| QueueError::Disconnected)
        };
        let results = subscribe(subjects::results_of(&id)).await?;
        let progress = subscribe(subjects::progress_of(&id)).await?;
        let followers = Followers::default();
        let connects = connection.connects();
        tokio::spawn(dispatch(results, progress, connects, followers.clone()));
        Ok(Self { connection, id, followers })
    }

    /// Starts to hear of `job`; to be called before it is submitted.
    pub fn follow(&self, job: JobId) -> Following {
        let (sender, words) = mpsc::channel(WORDS_MAX);
        lock(&self.followers).insert(job, sender);
        Following { job, words, followers: self.followers.clone() }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether the connection stands.
    pub fn is_up(&self) -> bool {
        self.connection.is_up()
    }

    /// Asks where this client's blobs and results are; before, they may have no place.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn hello(&self) -> Result<HelloReply, QueueError> {
        self.ask(Question::Hello, Bytes::new()).await
    }

    /// Whether the connection stands, or stands again within `patience`.
    pub async fn is_up_within(&self, patience: Duration) -> bool {
        let mut connects = self.connection.connects();
        connects.mark_unchanged();
        if !self.is_up() {
            // Too late, or the connection was given up: it is not up then.
            let _ = tokio::time::timeout(patience, connects.changed()).await;
        }
        self.is_up()
    }

    /// Asks any scheduler to run a job. Asking again with the same job id does no harm.
    ///
    /// # Errors
    /// [`QueueError`]: nobody there, no answer in time, or an answer we cannot read.
    pub async fn submit(&self, submit: &Submit) -> Result<SubmitReply, QueueError> {
        self.submit_encoded(wire::encode(submit)).await
    }

    /// As [`Farm::submit`], for an encoded request.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn submit_encoded(&self, submit: Bytes) -> Result<SubmitReply, QueueError> {
        self.ask(Question::Submit, submit).await
    }

    /// The stored result of `job`, if it has ended.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn result(&self, job: JobId) -> Result<Option<JobResult>, QueueError> {
        self.ask(Question::Result, wire::encode(&job)).await
    }

    /// Tells the farm that nobody waits for a job any more. Best effort.
    pub async fn cancel(&self, call_off: &CallOff) {
        let subject = subjects::request(&self.id, Question::Cancel);
        let payload = wire::encode(call_off);
        if let Err(error) = self.connection.client().publish(subject, payload).await {
            tracing::debug!(job = %call_off.job, %error, "cancel was not sent");
        }
    }

    /// Asks any scheduler to look at a blob that has wrong bytes.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn report(&self, wrong: &WrongBlob) -> Result<Examined, QueueError> {
        self.ask(Question::Wrong, wire::encode(wrong)).await
    }

    /// Live workers and the number of jobs.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn status(&self) -> Result<FarmStatus, QueueError> {
        self.ask(Question::Status, Bytes::new()).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        question: Question,
        payload: Bytes,
    ) -> Result<T, QueueError> {
        if !self.is_up() {
            return Err(QueueError::Disconnected);
        }
        let subject = subjects::request(&self.id, question);
        let answer = self.connection.client().request(subject.clone(), payload).await;
        let message = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => QueueError::NoResponders(subject.clone()),
            RequestErrorKind::TimedOut => QueueError::TimedOut(subject.clone()),
            _ => QueueError::Refused { what: format!("`{subject}`"), message: error.to_string() },
        })?;
        wire::decode(&message.payload)
            .map_err(|error| QueueError::BadAnswer { subject, message: error.to_string() })
    }
}

/// What the dispatcher waits for.
enum Event {
    Result(Message),
    Progress(Message),
    Reconnected,
    Over,
}

async fn dispatch(
    mut results: Subscriber,
    mut progress: Subscriber,
    mut connects: tokio::sync::watch::Receiver<u64>,
    followers: Followers,
) {
    connects.mark_unchanged();
    loop {
        let event = tokio::select! {
            message = results.next() => message.map_or(Event::Over, Event::Result),
            message = progress.next() => message.map_or(Event::Over, Event::Progress),
            changed = connects.changed() => changed.map_or(Event::Over, |()| Event::Reconnected),
        };
        match event {
            Event::Over => return,
            Event::Reconnected => {
                for sender in lock(&followers).values() {
                    let _ = sender.try_send(Word::Reconnected);
                }
            }
            Event::Result(message) => {
                let word =
                    wire::decode(&message.payload).map(|result| Word::Result(Box::new(result)));
                deliver(&message, word, &followers);
            }
            Event::Progress(message) => {
                let word = wire::decode(&message.payload).map(Word::Progress);
                deliver(&message, word, &followers);
            }
        }
    }
}

fn deliver(message: &Message, word: Result<Word, wire::WireError>, followers: &Followers) {
    let Some(job) = subjects::parse_job_id(&message.subject) else { return };
    match word {
        Err(error) => tracing::warn!(%job, %error, "unreadable word about a job"),
        Ok(word) => {
            if let Some(sender) = lock(followers).get(&job) {
                // A full channel means that its reader is far behind; it will ask for the result.
                let _ = sender.try_send(word);
            }
        }
    }
}

fn lock(followers: &Followers) -> std::sync::MutexGuard<'_, HashMap<JobId, mpsc::Sender<Word>>> {
    followers.lock().unwrap_or_else(PoisonError::into_inner)
}
