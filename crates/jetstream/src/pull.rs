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

use crate::{Delivery, pull_in_order::InOrder};

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
    inbox: Subject,
    subscriber: Subscriber,
    connects: u64,
    failed: bool,
    pulls: Pulls,
}

/// The consumers to ask.
enum Pulls {
    /// A single consumer, for as many messages as the credit.
    Any(Box<Any>),
    /// A consumer for each partition, for a message each.
    InOrder(InOrder),
}

struct Any {
    consumer: Consumer<Config>,
    /// How many messages are asked for and not delivered.
    asked_for: usize,
    heard: Instant,
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
    /// Subscribes. `None` if the connection is closed, or no consumer is given.
    pub(crate) async fn open(
        client: Client,
        consumers: Vec<Consumer<Config>>,
        in_order: bool,
    ) -> Option<Self> {
        let connects = client.statistics().connects.load(Ordering::Relaxed);
        let inbox = Subject::from(client.new_inbox());
        let pulls = if in_order {
            Pulls::InOrder(InOrder::new(consumers))
        } else {
            let consumer = consumers.into_iter().next()?;
            Pulls::Any(Box::new(Any { consumer, asked_for: 0, heard: Instant::now() }))
        };
        let heard_on = match pulls {
            Pulls::Any(_) => inbox.clone(),
            Pulls::InOrder(_) => format!("{inbox}.*").into(),
        };
        let subscriber = client.subscribe(heard_on).await.ok()?;
        Some(Self { client, inbox, subscriber, connects, failed: false, pulls })
    }

    pub(crate) fn asked_for(&self) -> usize {
        match &self.pulls {
            Pulls::Any(any) => any.asked_for,
            Pulls::InOrder(in_order) => in_order.asked_for(),
        }
    }

    /// Whether each pull is for a single message. No credit is too small for a pull then.
    pub(crate) fn asks_for_one(&self) -> bool {
        matches!(self.pulls, Pulls::InOrder(_))
    }

    /// Asks for `messages` more, for a worker with room for `most`. Returns the number of pulls.
    pub(crate) async fn ask(&mut self, messages: usize, most: usize) -> u64 {
        // If the client's buffer stays full, the connection is down: a new generation will ask.
        let asking = async {
            match &mut self.pulls {
                Pulls::Any(any) => any.ask(messages, &self.inbox).await,
                Pulls::InOrder(in_order) => in_order.ask(messages, most, &self.inbox).await,
            }
        };
        let asked = tokio::time::timeout(Duration::from_secs(1), asking).await;
        asked.ok().flatten().unwrap_or_else(|| {
            self.failed = true;
            0
        })
    }

    /// The next message or status. Cancel safe.
    pub(crate) async fn next(&mut self) -> Pulled {
        let Some(message) = self.subscriber.next().await else {
            return Pulled::Ended;
        };
        let is_message = matches!(message.status, None | Some(StatusCode::OK));
        let known = match &mut self.pulls {
            Pulls::Any(any) => any.heard(&message, is_message),
            Pulls::InOrder(in_order) => in_order.heard(&message, is_message),
        };
        self.failed |= !known;
        if is_message { Pulled::Message(Box::new(message)) } else { Pulled::Status }
    }

    /// A message has left the hand.
    pub(crate) fn settled(&mut self, delivery: &Delivery) {
        if let Pulls::InOrder(in_order) = &mut self.pulls {
            in_order.settled(delivery);
        }
    }

    /// Whether the broker may have forgotten the pulls.
    pub(crate) fn is_stale(&self) -> bool {
        let silent = match &self.pulls {
            Pulls::Any(any) => any.asked_for > 0 && any.heard.elapsed() > SILENCE,
            Pulls::InOrder(in_order) => in_order.is_silent(),
        };
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

impl Any {
    async fn ask(&mut self, messages: usize, inbox: &Subject) -> Option<u64> {
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
        self.consumer.request_batch(batch, inbox.clone()).await.ok().map(|()| 1)
    }

    /// Counts. False if the ended part of the pulls is unknown: all pulls are forgotten then.
    fn heard(&mut self, message: &async_nats::Message, is_message: bool) -> bool {
        self.heard = Instant::now();
        let ended = match message.status {
            _ if is_message => Some(1),
            Some(StatusCode::IDLE_HEARTBEAT) => Some(0),
            _ => undelivered(message),
        };
        self.asked_for = self.asked_for.saturating_sub(ended.unwrap_or(0));
        ended.is_some()
    }
}

/// How many messages of an ended pull were not delivered, by the status.
fn undelivered(status: &async_nats::Message) -> Option<usize> {
    let left = status.headers.as_ref()?.get("Nats-Pending-Messages")?;
    left.as_str().parse().ok()
}
