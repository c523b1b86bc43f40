//! How a message leaves the hand of a worker: ack, nak, requeue, bury.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_nats::{
    Client, HeaderMap,
    jetstream::{AckKind, Context, message::PublishMessage},
};
use bytes::Bytes;
use tracing::{error, warn};

use crate::{Delivery, Late, answer::Answer, headers, stats::Counters};

/// Whether a worker waits until the broker has confirmed an ack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirm {
    /// An ack is done once in the client's buffer. If the broker or the worker dies then, the
    /// message is done again.
    #[default]
    Sent,
    /// An ack is done once the broker says so. The message stays in hand for a round trip more.
    Confirmed,
}

/// How a message has left the hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Acked,
    Naked,
    Requeued,
    Buried,
    /// Not at all: the message stays in hand, and waits for a call once more.
    Kept,
}

/// Settles the messages of one worker.
pub(crate) struct Settler {
    pub(crate) client: Client,
    pub(crate) context: Context,
    pub(crate) stream: String,
    pub(crate) dead: String,
    pub(crate) confirm: Confirm,
    /// Whether the queue is in order: a copy at the tail would come after later messages.
    pub(crate) in_order: bool,
    pub(crate) max_attempts: u64,
    pub(crate) max_deliveries: u64,
    pub(crate) backoff: (Duration, Duration),
    /// How many naks of this worker may wait at once. Further retries are requeued.
    pub(crate) most_parked: usize,
    /// The times of redelivery of the waiting naks.
    pub(crate) parked: Mutex<BinaryHeap<Reverse<Instant>>>,
    pub(crate) counters: std::sync::Arc<Counters>,
}

impl Settler {
    pub(crate) async fn ack(&self, delivery: &Delivery) -> Settled {
        self.answer(delivery, AckKind::Ack).await;
        Settled::Acked
    }

    /// Answers an asker, before the message leaves the hand.
    pub(crate) async fn reply(&self, delivery: &Delivery, answer: Answer) {
        answer.send(&self.client, &self.stream, delivery).await;
    }

    /// The asker has stopped waiting, and the inner has not been called.
    pub(crate) async fn late(&self, delivery: &Delivery, late: Late) -> Settled {
        if late == Late::Bury {
            return self.bury(delivery, "its asker had stopped waiting").await;
        }
        self.counters.late.fetch_add(1, Relaxed);
        self.reply(delivery, Answer::Late).await;
        self.ack(delivery).await
    }

    /// After an error: again later, or buried after the last attempt.
    pub(crate) async fn failed(
        &self,
        delivery: &Delivery,
        after: Option<Duration>,
        cause: &str,
    ) -> Settled {
        if delivery.attempt() >= self.max_attempts {
            return self.bury(delivery, cause).await;
        }
        let delay = after.unwrap_or_else(|| self.delay(delivery.attempt()));
        if self.in_order || self.parks() || delivery.pending() == 0 {
            return self.nak(delivery, Some(delay)).await;
        }
        self.requeue(delivery, delivery.attempt(), delay).await
    }

    /// The leveler removed the request. The removal counts as a delivery and must not bury the
    /// message.
    pub(crate) async fn overloaded(&self, delivery: &Delivery, after: Duration) -> Settled {
        if delivery.attempt() < self.max_deliveries {
            return self.nak(delivery, Some(after)).await;
        }
        if self.in_order {
            tokio::time::sleep(after).await;
            return Settled::Kept;
        }
        self.requeue(delivery, delivery.attempt().saturating_sub(1), after).await
    }

    /// Tells the broker of the work on the message.
    pub(crate) async fn progress(&self, delivery: &Delivery) {
        if let Some(reply) = delivery.reply() {
            let _ = self.client.publish(reply, AckKind::Progress.into()).await;
        }
    }

    /// The worker ends, without a start of the message.
    pub(crate) async fn given_back(&self, delivery: &Delivery) -> Settled {
        if self.in_order {
            // The place in the order is worth more than the count of deliveries.
            return self.nak(delivery, None).await;
        }
        self.overloaded(delivery, Duration::ZERO).await
    }

    /// A copy before its time.
    pub(crate) async fn too_early(&self, delivery: &Delivery, left: Duration) -> Settled {
        if delivery.attempt() >= self.max_deliveries {
            // A nak would count as one more delivery, and bury the message.
            let kept = left.min(LAST_TURN);
            tokio::time::sleep(kept).await;
            if self.in_order {
                return Settled::Kept;
            }
            let before = delivery.attempt().saturating_sub(1);
            return self.requeue(delivery, before, left.saturating_sub(kept)).await;
        }
        if self.in_order || self.parks() || delivery.pending() == 0 {
            return self.nak(delivery, Some(left)).await;
        }
        // All pending messages may be copies: do not turn over copies at full speed.
        tokio::time::sleep(left.min(TURN)).await;
        let left = left.saturating_sub(TURN);
        self.requeue(delivery, delivery.attempt().saturating_sub(1), left).await
    }

    /// Stores the message in the dead-letter stream, then removes the original. Nothing is removed
    /// without a stored copy.
    pub(crate) async fn bury(&self, delivery: &Delivery, cause: &str) -> Settled {
        let (sequence, subject) = (delivery.sequence(), delivery.subject());
        let rest = subject.split_once('.').map_or("", |(_, rest)| rest);
        let mut headers = HeaderMap::new();
        // A letter stored again for a new try has no asker, and is not late.
        let asked = [headers::ANSWER_TO, headers::ANSWER_UNTIL];
        for (name, values) in delivery.headers().into_iter().flat_map(HeaderMap::iter) {
            for value in values.iter().filter(|_| !asked.contains(&name.as_ref())) {
                headers.append(name.clone(), value.clone());
            }
        }
        let id = format!("dead-{}-{sequence}", self.stream);
        headers::insert(&mut headers, headers::MESSAGE_ID, &id);
        headers::insert(&mut headers, headers::ID, delivery.id());
        headers::insert(&mut headers, headers::CAUSE, headers::shortened(cause));
        headers::insert(&mut headers, headers::ATTEMPT, &delivery.attempt().to_string());
        headers::insert(
            &mut headers,
            headers::ORIGIN,
            &format!("{}:{sequence}:{subject}", self.stream),
        );
        let stored = self.store(format!("{}.{rest}", self.dead), headers, delivery).await;
        if let Err(why) = stored {
            error!(id = delivery.id(), error = why, "a message could not be buried");
            return self.nak(delivery, Some(self.delay(delivery.attempt()))).await;
        }
        warn!(id = delivery.id(), attempt = delivery.attempt(), cause, "a message was buried");
        self.reply(delivery, Answer::Failed(cause.to_owned())).await;
        self.answer(delivery, AckKind::Term).await;
        Settled::Buried
    }

    async fn nak(&self, delivery: &Delivery, delay: Option<Duration>) -> Settled {
        let delay = delay.filter(|delay| !delay.is_zero());
        if let Some(delay) = delay {
            self.parked().push(Reverse(Instant::now() + delay));
        }
        self.answer(delivery, AckKind::Nak(delay)).await;
        Settled::Naked
    }

    /// Stores a copy at the tail, then removes the original. A nak if the stream is full.
    async fn requeue(&self, delivery: &Delivery, attempts: u64, delay: Duration) -> Settled {
        let mut headers = delivery.headers().cloned().unwrap_or_default();
        // One copy of one original: if the worker dies before the ack, the next copy is the same.
        let id = format!("{}+{}", delivery.id(), delivery.sequence());
        headers::insert(&mut headers, headers::MESSAGE_ID, &id);
        headers::insert(&mut headers, headers::ID, delivery.id());
        headers::insert(&mut headers, headers::ATTEMPTS, &attempts.to_string());
        let due = SystemTime::now() + delay;
        let due = due.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        headers::insert(&mut headers, headers::NOT_BEFORE, &due.to_string());
        match self.store(delivery.subject().to_owned(), headers, delivery).await {
            Ok(()) => {
                self.answer(delivery, AckKind::Ack).await;
                Settled::Requeued
            }
            Err(_) => self.nak(delivery, Some(delay)).await,
        }
    }

    async fn store(
        &self,
        subject: String,
        headers: HeaderMap,
        delivery: &Delivery,
    ) -> Result<(), String> {
        let message = PublishMessage::build().headers(headers).payload(delivery.payload().clone());
        let sent = self.context.send_publish(subject, message).await;
        let sent = sent.map_err(|error| error.to_string())?;
        sent.await.map_err(|error| error.to_string())?;
        Ok(())
    }

    /// A redelivery makes up for an answer lost with the connection.
    async fn answer(&self, delivery: &Delivery, kind: AckKind) {
        let Some(reply) = delivery.reply() else { return };
        let payload = match kind {
            // An empty answer is an ack, and four bytes less.
            AckKind::Ack => Bytes::new(),
            kind => kind.into(),
        };
        if self.confirm == Confirm::Confirmed {
            let _ = self.client.request(reply, payload).await;
        } else {
            let _ = self.client.publish(reply, payload).await;
        }
    }

    /// Whether room is left for a waiting nak.
    fn parks(&self) -> bool {
        let mut parked = self.parked();
        let now = Instant::now();
        while parked.peek().is_some_and(|Reverse(due)| *due <= now) {
            parked.pop();
        }
        parked.len() < self.most_parked
    }

    /// Doubles with the attempt, up to the longest, and is spread by 20 % either way.
    fn delay(&self, attempt: u64) -> Duration {
        let (first, longest) = self.backoff;
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(30);
        let delay = first.saturating_mul(1 << doublings).min(longest);
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        delay.mul_f64(0.8 + 0.4 * f64::from(seed.subsec_nanos() % 1000) / 1000.0)
    }

    fn parked(&self) -> std::sync::MutexGuard<'_, BinaryHeap<Reverse<Instant>>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, settled: Settled) {
        let counter = match settled {
            Settled::Acked => &self.counters.acked,
            Settled::Naked => &self.counters.naked,
            Settled::Requeued => &self.counters.requeued,
            Settled::Buried => &self.counters.buried,
            Settled::Kept => return,
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// How long an early copy is kept before the tail.
const TURN: Duration = Duration::from_millis(20);

/// The same for a copy at the last delivery.
const LAST_TURN: Duration = Duration::from_secs(1);

/// How long until a copy is due, if the copy came early.
pub(crate) fn until_due(delivery: &Delivery) -> Option<Duration> {
    let due: u64 = delivery.header(headers::NOT_BEFORE)?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(due).checked_sub(now).filter(|left| !left.is_zero())
}
