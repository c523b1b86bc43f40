//! The messages in the hand of a worker.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::Delivery;

/// Messages delivered and not settled.
#[derive(Default)]
pub(crate) struct Hand {
    held: HashMap<u64, Held>,
    /// The messages to be started, oldest first.
    waiting: VecDeque<u64>,
}

struct Held {
    delivery: Arc<Delivery>,
    since: Instant,
    /// The last sign to the broker for the message.
    told: Instant,
}

impl Hand {
    /// Takes a message into the hand. False if the hand holds the message already.
    pub(crate) fn take(&mut self, delivery: Delivery) -> bool {
        let (sequence, now) = (delivery.sequence(), Instant::now());
        if self.held.contains_key(&sequence) {
            return false;
        }
        let held = Held { delivery: Arc::new(delivery), since: now, told: now };
        self.held.insert(sequence, held);
        self.waiting.push_back(sequence);
        true
    }

    /// The oldest waiting message, no longer waiting.
    pub(crate) fn next_waiting(&mut self) -> Option<Arc<Delivery>> {
        let sequence = self.waiting.pop_front()?;
        self.held.get(&sequence).map(|held| Arc::clone(&held.delivery))
    }

    /// Puts an unstarted message back.
    pub(crate) fn put_back(&mut self, sequence: u64) {
        self.waiting.push_front(sequence);
    }

    pub(crate) fn settled(&mut self, sequence: u64) -> Option<Arc<Delivery>> {
        self.held.remove(&sequence).map(|held| held.delivery)
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The messages without a sign to the broker for `every`, except messages that have
    /// been in hand for `give_up_after`.
    pub(crate) fn due(
        &mut self,
        every: Duration,
        give_up_after: Option<Duration>,
    ) -> Vec<Arc<Delivery>> {
        let now = Instant::now();
        let mut due = Vec::new();
        for held in self.held.values_mut() {
            let hopeless = give_up_after.is_some_and(|after| now - held.since >= after);
            if !hopeless && now - held.told >= every {
                held.told = now;
                due.push(Arc::clone(&held.delivery));
            }
        }
        due
    }
}
