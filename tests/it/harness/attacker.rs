//! Somebody with a valid token who does not keep to the rules: a raw connection to the server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};

use super::farm::Farm;
use super::wait::until;

/// How long a message that should not come is waited for, after everything sent was answered.
const SILENCE: Duration = Duration::from_millis(300);
/// The client library keeps 128 events that were not looked at, and drops more.
const COMPLAINTS_AT_ONCE: usize = 64;

/// A connection as one name, with the server's complaints about it.
pub(crate) struct Attacker {
    client: Client,
    complaints: Arc<Mutex<Vec<String>>>,
    heard: Subscriber,
}

impl Attacker {
    /// Connects as `user`, whose inbox is its own.
    pub(crate) async fn connect(farm: &Farm, user: &str, token: &str) -> Self {
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let seen = complaints.clone();
        let options = ConnectOptions::with_user_and_password(user.into(), token.into())
            .custom_inbox_prefix(format!("_INBOX.{user}"))
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    seen.lock().unwrap().push(error.to_string());
                }
                std::future::ready(())
            });
        let client = options.connect(farm.nats_url()).await.unwrap();
        let heard = client.subscribe(format!("_INBOX.{user}.heard")).await.unwrap();
        Self { client, complaints, heard }
    }

    /// Whether the server refuses to let `user` in.
    pub(crate) async fn is_turned_away(farm: &Farm, user: &str, token: &str) -> bool {
        let options = ConnectOptions::with_user_and_password(user.into(), token.into());
        options.connect(farm.nats_url()).await.is_err()
    }

    /// Publishes `payload` on each subject, and asserts that the server refuses every one.
    pub(crate) async fn is_refused(&self, subjects: &[String], payload: &'static [u8]) {
        for some in subjects.chunks(COMPLAINTS_AT_ONCE) {
            for subject in some {
                self.client.publish(subject.clone(), payload.into()).await.unwrap();
            }
            self.refusals("Publish", some).await;
        }
    }

    /// Subscribes to each subject, alone and in a group, and asserts that the server refuses.
    pub(crate) async fn is_deaf_to(&self, subjects: &[&str]) {
        let mut kept = Vec::new();
        for subject in subjects {
            kept.push(self.client.subscribe(subject.to_string()).await.unwrap());
            let group = self.client.queue_subscribe(subject.to_string(), "schedulers".into());
            kept.push(group.await.unwrap());
        }
        let subjects: Vec<String> = subjects.iter().map(ToString::to_string).collect();
        self.refusals("Subscription", &subjects).await;
        for mut subscriber in kept {
            assert!(subscriber.next().now_or_never().flatten().is_none());
        }
    }

    /// Waits until the server has complained about each subject.
    async fn refusals(&self, what: &str, subjects: &[String]) {
        self.client.flush().await.unwrap();
        for subject in subjects {
            until(&format!("the server refuses {what} to {subject}"), async || {
                self.was_refused(what, subject).then_some(())
            })
            .await;
        }
    }

    /// Whether the server has complained about `what` (`Publish`, `Subscription`) to `subject`.
    pub(crate) fn was_refused(&self, what: &str, subject: &str) -> bool {
        let words = format!("permissions violation for {what} to \"{subject}\"").to_lowercase();
        let complaints = self.complaints.lock().unwrap();
        complaints.iter().any(|said| said.to_lowercase().contains(&words))
    }

    /// Sends `payload` to a subject that is allowed, asking that the answer go to `reply`.
    pub(crate) async fn ask(&self, subject: &str, reply: &str, payload: &[u8]) {
        let payload = payload.to_vec().into();
        let (subject, reply) = (subject.to_owned(), reply.to_owned());
        self.client.publish_with_reply(subject, reply, payload).await.unwrap();
        self.client.flush().await.unwrap();
    }

    /// The same, and what is answered to ourselves.
    pub(crate) async fn answer(&mut self, subject: &str, payload: &[u8]) -> String {
        let answer = self.answer_to(subject, HeaderMap::new(), payload).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The same for a message with headers, as bytes.
    pub(crate) async fn answer_to(
        &mut self,
        subject: &str,
        headers: HeaderMap,
        payload: &[u8],
    ) -> Vec<u8> {
        let message = self.message(subject, headers, payload).await;
        message.expect("an answer").payload.to_vec()
    }

    /// The next job that a consumer of the queue has: its bytes, and the queue's name for its delivery.
    pub(crate) async fn pull(&mut self, consumer: &str, how: &str) -> Option<(Vec<u8>, String)> {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.JOBS.{consumer}");
        let message = self.message(&subject, HeaderMap::new(), how.as_bytes()).await?;
        let delivery = message.reply.filter(|_| message.status.is_none())?;
        Some((message.payload.to_vec(), delivery.to_string()))
    }

    async fn message(
        &mut self,
        subject: &str,
        headers: HeaderMap,
        payload: &[u8],
    ) -> Option<Message> {
        let reply = self.client.new_inbox();
        let reply = format!("{}.heard", reply.rsplit_once('.').unwrap().0);
        let (subject, payload) = (subject.to_owned(), payload.to_vec().into());
        let asked = self.client.publish_with_reply_and_headers(subject, reply, headers, payload);
        asked.await.unwrap();
        self.client.flush().await.unwrap();
        let message = tokio::time::timeout(Duration::from_secs(10), self.heard.next()).await;
        message.ok().flatten()
    }

    /// Asserts that nothing more is said to us.
    pub(crate) async fn hears_nothing(&mut self) {
        self.client.flush().await.unwrap();
        let message = tokio::time::timeout(SILENCE, self.heard.next()).await;
        assert!(message.is_err(), "{message:?}");
    }
}
