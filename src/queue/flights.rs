//! Flights: the queue takes the same request once, and who asked for it later waits for its result.
//!
//! The claim of a request is the name under which its job is published: the queue itself refuses a
//! second message of that name, and says where the first one stands. So the first who asks pays no
//! round trip for it, and schedulers need to agree on nothing. Who waits for a job stands in the stream
//! `FLIGHTS`, under the job that came first.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;

use super::connect::QueueError;
use super::queued::QueuedJob;
use super::serve::{Desk, MESSAGE_ID, is_full};
use super::{streams, subjects};
use crate::job::wire::{self, CallOff, JobMessage, Progress};
use crate::job::{ActionKey, ClientId, JobId, Lane, Space};

/// How long somebody who finds a job ended waits until its result is recorded, and how often they look.
const RECORDER_WAIT: Duration = Duration::from_millis(500);
const RECORDER_LOOK: Duration = Duration::from_millis(5);

/// The name under which the queue takes a job once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    name: String,
    /// The place of the last job that bore it, when that has ended.
    after: Option<u64>,
}

impl Claim {
    /// Of a request that is like no other.
    pub fn alone(job: JobId) -> Self {
        Self { name: job.to_string(), after: None }
    }

    /// Of everybody in `space` who wants `action` now.
    pub fn shared(space: &Space, action: &ActionKey) -> Self {
        Self { name: format!("{space}.{}", action.digest()), after: None }
    }

    /// The next one, when the job at `place` that bore this one has ended.
    #[must_use]
    pub fn after(&self, place: u64) -> Self {
        Self { after: Some(place), ..self.clone() }
    }

    fn message_id(&self) -> String {
        match self.after {
            None => self.name.clone(),
            Some(place) => format!("{}.{place}", self.name),
        }
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It was queued there.
    New(u64),
    /// One of the same claim was queued there before.
    Taken(u64),
}

/// Somebody who waits for another's job.
#[derive(Debug)]
pub struct Waiting {
    /// Who waits, with which job.
    pub who: Option<(ClientId, JobId)>,
    /// Until when, which the proof for it covers.
    pub deadline_unix_ms: u64,
    sequence: u64,
}

impl Desk {
    /// Puts a job into the queue, unless one of the same claim was put there in the last two minutes.
    ///
    /// # Errors
    /// [`QueueError::Full`] when the tenant has its most jobs in that lane.
    pub async fn enqueue(
        &self,
        job: &JobMessage,
        lane: Lane,
        claim: &Claim,
    ) -> Result<Place, QueueError> {
        let subject = subjects::job(&job.submit.action.pool, lane, &job.tenant);
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, claim.message_id());
        let sent = self
            .context
            .publish_with_headers(subject.clone(), headers, wire::encode(job))
            .await
            .map_err(|error| streams::refused(&subject, &error))?;
        match sent.await {
            Ok(stored) if stored.duplicate => Ok(Place::Taken(stored.sequence)),
            Ok(stored) => {
                self.queued.note(stored.sequence, QueuedJob::new(subject, job));
                Ok(Place::New(stored.sequence))
            }
            Err(error) if is_full(&error) => Err(QueueError::Full(subject)),
            Err(error) => Err(streams::refused(&subject, &error)),
        }
    }

    /// The job at `place`, if it waits or runs. An unreadable one counts as none.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer.
    pub async fn job_at(&self, place: u64) -> Result<Option<JobMessage>, QueueError> {
        let found = self.message_at(subjects::JOBS, place).await?;
        Ok(found.and_then(|message| wire::decode(&message.payload).ok()))
    }

    /// Keeps that `job` of `client` waits for `first` until `deadline_unix_ms`. Twice is once.
    ///
    /// # Errors
    /// [`QueueError::Refused`], also when too many wait.
    pub async fn wait_for(
        &self,
        first: JobId,
        client: &ClientId,
        job: JobId,
        deadline_unix_ms: u64,
    ) -> Result<(), QueueError> {
        self.note(subjects::waiting(first, client, job), wire::encode(&deadline_unix_ms)).await
    }

    /// Forgets that `job` of `client` waits for `first`, and says whether it did.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer.
    pub async fn wait_no_more(
        &self,
        first: JobId,
        client: &ClientId,
        job: JobId,
    ) -> Result<bool, QueueError> {
        let Some(found) = self.noted(&subjects::waiting(first, client, job)).await? else {
            return Ok(false);
        };
        self.strike(found.sequence).await;
        Ok(true)
    }

    /// One of those who wait for `first`.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer.
    pub async fn waiting_for(&self, first: JobId) -> Result<Option<Waiting>, QueueError> {
        let found = self.noted(&subjects::waiting_for(first)).await?;
        Ok(found.map(|message| Waiting {
            who: subjects::parse_waiting(&message.subject),
            deadline_unix_ms: wire::decode(&message.payload).unwrap_or(0),
            sequence: message.sequence,
        }))
    }

    /// Nobody waits for `first` any more; strikes out that its asker has left, if that stands there.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer.
    pub async fn landed(&self, first: JobId) -> Result<(), QueueError> {
        if let Some(left) = self.noted(&subjects::left(first)).await? {
            self.strike(left.sequence).await;
        }
        Ok(())
    }

    /// Strikes one out who has been answered.
    pub async fn answered(&self, waiting: &Waiting) {
        self.strike(waiting.sequence).await;
    }

    /// Tells those who wait for `first` that it runs.
    pub(super) async fn tell_waiting(&self, first: JobId) -> Result<(), QueueError> {
        let filter = subjects::waiting_for(first);
        if self.noted(&filter).await?.is_none() {
            return Ok(());
        }
        let all = self.counts(subjects::FLIGHTS, &filter).await?;
        let running = wire::encode(&Progress::Running);
        for waiting in all.subjects.unwrap_or_default().into_keys() {
            let Some((client, job)) = subjects::parse_waiting(&waiting) else { continue };
            let subject = subjects::progress(&client, job);
            let told = self.connection().client().publish(subject, running.clone()).await;
            told.map_err(|_| QueueError::Disconnected)?;
        }
        Ok(())
    }

    /// Lets go of a client's job. When nobody waits for it any more it is called off: the worker that
    /// may run it is told, and it is taken out of the queue for the case that no worker does.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer.
    pub async fn let_go(&self, client: &ClientId, off: &CallOff) -> Result<(), QueueError> {
        let Some(job) = self.job_at(off.place).await? else { return Ok(()) };
        let first = job.submit.job;
        if job.client == *client && first == off.job {
            // Nobody waits: no mark is needed then, unless somebody comes between, who asks again.
            if self.noted(&subjects::waiting_for(first)).await?.is_none() {
                return self.call_off(first, off.place).await;
            }
            self.note(subjects::left(first), Bytes::new()).await?;
        } else if !self.wait_no_more(first, client, off.job).await? {
            // Somebody else's.
            return Ok(());
        }
        // The last one to go sees that it is: each has left its mark before it looks.
        let waits = self.noted(&subjects::waiting_for(first)).await?.is_some();
        match self.noted(&subjects::left(first)).await? {
            Some(left) if !waits => {
                self.strike(left.sequence).await;
                self.call_off(first, off.place).await
            }
            _ => Ok(()),
        }
    }

    async fn call_off(&self, job: JobId, place: u64) -> Result<(), QueueError> {
        let told = self.connection().client().publish(subjects::cancel(job), Bytes::new()).await;
        told.map_err(|_| QueueError::Disconnected)?;
        let is_it = |found: &JobMessage| found.submit.job == job;
        self.take_out(place, |found| found.is_some_and(is_it)).await.map(drop)
    }

    /// Waits until every result that is stored now has been recorded, or half a second.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer.
    pub async fn recorder_caught_up(&self) -> Result<(), QueueError> {
        let refused = |error: &dyn std::fmt::Display| streams::refused(subjects::RESULTS, &error);
        let results = self.context.get_stream(subjects::RESULTS).await;
        let results = results.map_err(|error| refused(&error))?;
        let wanted = results.cached_info().state.last_sequence;
        let begun = Instant::now();
        loop {
            let recorder: Consumer<pull::Config> =
                results.get_consumer(subjects::RECORDER).await.map_err(|error| refused(&error))?;
            let read = recorder.cached_info().ack_floor.stream_sequence;
            if read >= wanted || begun.elapsed() > RECORDER_WAIT {
                return Ok(());
            }
            tokio::time::sleep(RECORDER_LOOK).await;
        }
    }

    async fn note(&self, subject: String, payload: Bytes) -> Result<(), QueueError> {
        let sent = self.context.publish(subject.clone(), payload).await;
        let acked = sent.map_err(|error| streams::refused(&subject, &error))?.await;
        acked.map(drop).map_err(|error| streams::refused(&subject, &error))
    }

    async fn noted(&self, subject: &str) -> Result<Option<StreamMessage>, QueueError> {
        self.last_message(subjects::FLIGHTS, subject).await
    }

    async fn strike(&self, sequence: u64) {
        let Ok(flights) = self.stream(subjects::FLIGHTS).await else { return };
        if let Err(error) = flights.delete_message(sequence).await {
            tracing::debug!(%error, sequence, "it was struck out already");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Digest;

    #[test]
    fn claims_are_by_space_action_and_place_of_the_last() {
        let action = ActionKey::from(Digest::of(b"a"));
        let (ours, theirs) = (Space::shared(), "acme".parse().unwrap());
        let claim = Claim::shared(&ours, &action);
        assert_eq!(claim, Claim::shared(&ours, &action));
        assert_ne!(claim, Claim::shared(&theirs, &action));
        assert_ne!(claim, Claim::shared(&ours, &ActionKey::from(Digest::of(b"b"))));
        assert_eq!(claim.after(7).after(9), claim.after(9));
        assert_ne!(claim.after(7), claim.after(9));
    }
}
