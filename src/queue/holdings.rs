//! What workers say of jobs in their hands, passed on to the queue by schedulers.
//!
//! The queue takes an acknowledgement from whoever names a delivery, and names can be guessed. So workers
//! have no right to acknowledge: they show the proof that came with the job, and a scheduler compares
//! it with the job that it queued itself, or with the one in the queue.

use async_nats::Message;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use super::connect::QueueError;
use super::queued::QueuedJob;
use super::serve::Desk;
use super::subjects::{self, Delivery};
use crate::job::wire::{self, HoldWord, Holding, JobMessage};
use crate::job::{Proof, WorkerId};

/// One word of a worker, whose name the server vouches for.
#[derive(Debug)]
pub struct Heard {
    /// Who says it.
    pub worker: WorkerId,
    message: Message,
}

/// Whether a word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The worker was given the job, and the queue has its word.
    Real,
    /// The job is not in the queue any more.
    Gone,
    /// The worker does not show that it was given the job.
    Unproved,
}

impl Desk {
    /// Words of all workers, shared with the other schedulers.
    ///
    /// # Errors
    /// [`QueueError::Disconnected`] when the connection is gone.
    pub async fn holdings(&self) -> Result<BoxStream<'static, Heard>, QueueError> {
        let messages = self.connection().share(subjects::HOLDINGS).await?;
        let heard = messages.filter_map(async |message| {
            let worker = subjects::parse_holding(&message.subject)?;
            Some(Heard { worker, message })
        });
        Ok(heard.boxed())
    }

    /// Passes the word on if it counts, and tells the worker that it was heard.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer; the worker is not told then.
    pub async fn pass_on(&self, heard: &Heard) -> Result<Hold, QueueError> {
        let hold = match wire::decode::<Holding>(&heard.message.payload) {
            Ok(Holding { delivery, proof, word }) => self.hold(&delivery, &proof, word).await?,
            Err(_) => Hold::Unproved,
        };
        if let Some(reply) = heard.message.reply.clone() {
            let told = self.connection().client().publish(reply, Bytes::new()).await;
            told.map_err(|_| QueueError::Disconnected)?;
        }
        Ok(hold)
    }

    /// Passes a word on if it counts.
    ///
    /// # Errors
    /// [`QueueError`] when the server does not answer.
    pub async fn hold(
        &self,
        delivery: &str,
        proof: &Proof,
        word: HoldWord,
    ) -> Result<Hold, QueueError> {
        let Some(Delivery { consumer, place, .. }) = subjects::parse_delivery(delivery) else {
            return Ok(Hold::Unproved);
        };
        let Some(job) = self.queued_at(place).await? else { return Ok(Hold::Gone) };
        let delivered_by = subjects::consumers_of(&job.subject);
        let ours = delivered_by.is_some_and(|names| names.iter().any(|name| name == consumer));
        if !ours || job.proof != *proof {
            return Ok(Hold::Unproved);
        }
        let said = match word {
            HoldWord::Extend => "+WPI",
            HoldWord::Finish => "+ACK",
            HoldWord::GiveBack => "-NAK",
        };
        let client = self.connection().client();
        let said = client.publish(delivery.to_owned(), said.into()).await;
        said.map_err(|_| QueueError::Disconnected)?;
        match word {
            HoldWord::Extend => self.tell_waiting(job.job).await?,
            HoldWord::Finish => self.queued.forget(place),
            HoldWord::GiveBack => {}
        }
        Ok(Hold::Real)
    }

    /// The job at `place`: as it was queued here, or else as the queue has it. An unreadable one counts
    /// as none.
    async fn queued_at(&self, place: u64) -> Result<Option<QueuedJob>, QueueError> {
        if let Some(job) = self.queued.at(place) {
            return Ok(Some(job));
        }
        let Some(found) = self.message_at(subjects::JOBS, place).await? else { return Ok(None) };
        let job = wire::decode::<JobMessage>(&found.payload).ok();
        Ok(job.map(|job| QueuedJob::new(found.subject.to_string(), &job)))
    }
}
