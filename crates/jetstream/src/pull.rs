//! Asks the broker for messages, and counts the messages asked for.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use async_nats::{
    Client, StatusCode, Subject, Subscriber,
    jetstream::consumer::{
        Consumer,
        pull::{BatchConfig, Config},
    },
};
use futures::StreamExt;

/// How often the broker says that a pull is still alive, in times without messages. Shorter:
/// a forgotten pull is noticed sooner, at the price of more signs.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long without a message or a sign a pull counts as forgotten: two signs lost.
const SILENCE: Duration = Duration::from_millis(5000);

/// How long a pull lives in the broker. The worker asks again then.
const EXPIRES: Duration = Duration::from_secs(30);

/// The pulls of one connection and one inbox: forgotten all together.
pub(crate) struct Generation {
    client: Client,
    consumer: Consumer<Config>,
    inbox: Subject,
    subscriber: Subscriber,
    /// How many messages are asked for and not delivered.
    asked_for: usize,
    heard: Instant,
    connects: u64,
    failed: bool,
}

/// News from the broker.
pub(crate) enum Pulled {
    Message(Box<async_nats::Message>),
    /// A sign of life, or the end of a pull.
    Status,
    /// The subscription has ended: the connection is closed for good.
    Ended,
}

impl Generation {
    pub(crate) async fn open(client: Client, consumer: Consumer<Config>) -> Option<Self> {
        let connects = client.statistics().connects.load(Ordering::Relaxed);
        let inbox = Subject::from(client.new_inbox());
        let subscriber = client.subscribe(inbox.clone()).await.ok()?;
        let heard = Instant::now();
        let (asked_for, failed) = (0, false);
        Some(Self { client, consumer, inbox, subscriber, asked_for, heard, connects, failed })
    }

    pub(crate) fn asked_for(&self) -> usize {
        self.asked_for
    }

    /// Asks for `messages` more.
    pub(crate) async fn ask(&mut self, messages: usize) {
        let batch = BatchConfig {
            batch: messages,
            expires: Some(EXPIRES),
            idle_heartbeat: HEARTBEAT,
            ..BatchConfig::default()
        };
        if self.asked_for == 0 {
            self.heard = Instant::now();
        }
        self.asked_for += messages;
        // If the client's buffer stays full, the connection is down: a new generation will ask.
        let asking = self.consumer.request_batch(batch, self.inbox.clone());
        if !matches!(tokio::time::timeout(Duration::from_secs(1), asking).await, Ok(Ok(()))) {
            self.failed = true;
        }
    }

    /// The next message or status. Cancel safe.
    pub(crate) async fn next(&mut self) -> Pulled {
        let Some(message) = self.subscriber.next().await else {
            return Pulled::Ended;
        };
        self.heard = Instant::now();
        match message.status {
            None | Some(StatusCode::OK) => {
                self.asked_for = self.asked_for.saturating_sub(1);
                Pulled::Message(Box::new(message))
            }
            Some(StatusCode::IDLE_HEARTBEAT) => Pulled::Status,
            Some(_) => {
                match undelivered(&message) {
                    Some(left) => self.asked_for = self.asked_for.saturating_sub(left),
                    // Unknown how much of which pull has ended: forget all pulls.
                    None => self.failed = true,
                }
                Pulled::Status
            }
        }
    }

    /// Whether the broker may have forgotten the pulls.
    pub(crate) fn is_stale(&self) -> bool {
        let silent = self.asked_for > 0 && self.heard.elapsed() > SILENCE;
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        self.failed || silent || connects != self.connects
    }

    /// Ends the subscription, and returns the messages received.
    pub(crate) async fn end(mut self) -> Vec<async_nats::Message> {
        let mut received = Vec::new();
        let ending = tokio::time::timeout(Duration::from_secs(1), self.subscriber.unsubscribe());
        if matches!(ending.await, Ok(Ok(()))) {
            // The channel is closed now, and has an end.
            while let Some(message) = self.subscriber.next().await {
                received.push(message);
            }
        }
        received.retain(|message| matches!(message.status, None | Some(StatusCode::OK)));
        received
    }
}

/// How many messages of an ended pull were not delivered, by the status.
fn undelivered(status: &async_nats::Message) -> Option<usize> {
    let left = status.headers.as_ref()?.get("Nats-Pending-Messages")?;
    left.as_str().parse().ok()
}
