//! Asks the partitions of a queue in order: each for a message, as long as none is in hand.

use std::time::{Duration, Instant};

use async_nats::{
    StatusCode, Subject,
    jetstream::consumer::{
        Consumer,
        pull::{BatchConfig, Config},
    },
};

use crate::{
    Delivery, order,
    partitions::{Ask, Partitions},
};

/// The life of a pull of a worker with room for a pull at each partition. Shorter: a lowered limit
/// and a forgotten pull show sooner, at the price of more pulls.
const EXPIRES: Duration = Duration::from_secs(2);

/// The life of a pull at a partition known to have messages. A second worker may hold the
/// partition.
const KNOWN: Duration = Duration::from_millis(100);

/// The time of a look at a perhaps empty partition, for each message of the worker's room. An idle
/// worker makes a look in each `LOOK`.
const LOOK: Duration = Duration::from_millis(5);

/// The same until all partitions have been looked at in vain. Messages found lead to more.
const QUICK_LOOK: Duration = Duration::from_millis(1);

/// The time of the broker to tell of the end of a pull.
const SILENCE: Duration = Duration::from_secs(3);

/// The pulls at all partitions. The inbox of a pull tells the partition.
pub(crate) struct InOrder {
    consumers: Vec<Consumer<Config>>,
    partitions: Partitions,
    /// The end of the patience with the last pull of each partition.
    due: Vec<Instant>,
    /// Pulls in a row without a message.
    in_vain: usize,
}

impl InOrder {
    pub(crate) fn new(consumers: Vec<Consumer<Config>>) -> Self {
        let many = consumers.len();
        // A different first partition for each worker, up to chance.
        let first = nuid::next()
            .bytes()
            .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let partitions = Partitions::new(many, first);
        Self { consumers, partitions, due: vec![Instant::now(); many], in_vain: 0 }
    }

    pub(crate) fn asked_for(&self) -> usize {
        self.partitions.asked_for()
    }

    /// Asks up to `messages` partitions. `None` if a pull could not be sent.
    pub(crate) async fn ask(
        &mut self,
        messages: usize,
        most: usize,
        inbox: &Subject,
    ) -> Option<u64> {
        let mut pulls = 0;
        for _ in 0..messages {
            let Some(ask) = self.partitions.next(most) else { break };
            let expires = self.lifetime(ask, most);
            self.due[ask.partition] = Instant::now() + expires + SILENCE;
            let batch = BatchConfig { batch: 1, expires: Some(expires), ..BatchConfig::default() };
            let inbox = Subject::from(format!("{inbox}.{}", ask.partition));
            self.consumers[ask.partition].request_batch(batch, inbox).await.ok()?;
            pulls += 1;
        }
        Some(pulls)
    }

    fn lifetime(&self, ask: Ask, most: usize) -> Duration {
        if most >= self.partitions.len() {
            EXPIRES
        } else if ask.known {
            KNOWN
        } else {
            let quick = self.in_vain < self.partitions.len();
            let look = if quick { QUICK_LOOK } else { LOOK };
            let room = u32::try_from(most).unwrap_or(u32::MAX);
            look.saturating_mul(room).clamp(10 * QUICK_LOOK, EXPIRES / 4)
        }
    }

    /// Notes a message or the end of a pull. False if the pulls are to be forgotten.
    pub(crate) fn heard(&mut self, message: &async_nats::Message, is_message: bool) -> bool {
        let Some(partition) = order::nth(&message.subject) else { return false };
        if is_message {
            self.in_vain = 0;
            self.partitions.delivered(partition);
            return true;
        }
        match message.status {
            Some(StatusCode::IDLE_HEARTBEAT) => true,
            Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => {
                self.in_vain = self.in_vain.saturating_add(1);
                self.partitions.ended(partition);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn settled(&mut self, delivery: &Delivery) {
        if let Some(partition) = order::nth(delivery.subject()) {
            self.partitions.settled(partition, delivery.pending() > 0);
        }
    }

    /// Whether a pull has not ended in time.
    pub(crate) fn is_silent(&self) -> bool {
        let now = Instant::now();
        let mut due = self.due.iter().enumerate();
        due.any(|(partition, due)| self.partitions.is_asked(partition) && *due < now)
    }
}
