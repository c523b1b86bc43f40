//! The choice of the partitions to ask. Pure.

use std::collections::VecDeque;

/// The number of known partitions asked between two looks at partitions that may be empty.
const TURN: usize = 4;

/// The partitions of a queue in order, as seen by a worker.
///
/// The broker lets a single message of a partition out. The worker asks a partition for a message,
/// and asks again after the settling. With less credit than partitions, the worker asks partitions
/// known to have more messages first, and looks at the rest in turn.
#[derive(Debug)]
pub(crate) struct Partitions {
    places: Vec<Place>,
    /// Partitions to ask, known to have messages.
    known: VecDeque<usize>,
    /// Partitions to ask, perhaps empty, or busy in a second worker.
    other: VecDeque<usize>,
    asked_for: usize,
    /// Partitions asked and perhaps empty.
    looks: usize,
    /// Known partitions asked since the last look.
    since: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a list. A list may hold stale entries too.
    Listed {
        known: bool,
    },
    Asked {
        known: bool,
    },
    InHand,
}

/// A partition to ask for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) partition: usize,
    /// Whether the partition is known to have messages.
    pub(crate) known: bool,
}

impl Partitions {
    /// The first look is at partition `first`: workers with different beginnings meet less.
    pub(crate) fn new(many: usize, first: usize) -> Self {
        let mut other: VecDeque<usize> = (0..many).collect();
        other.rotate_left(first % many.max(1));
        Self {
            places: vec![Place::Listed { known: false }; many],
            known: VecDeque::new(),
            other,
            asked_for: 0,
            looks: 0,
            since: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn asked_for(&self) -> usize {
        self.asked_for
    }

    /// Whether the partition has been asked and has not answered.
    pub(crate) fn is_asked(&self, partition: usize) -> bool {
        matches!(self.places.get(partition), Some(Place::Asked { .. }))
    }

    /// The next partition to ask, for a worker with room for `most` messages.
    pub(crate) fn next(&mut self, most: usize) -> Option<Ask> {
        let may_look = self.looks < (most / 4).max(1) && self.since >= TURN;
        let listed = |list: &mut VecDeque<usize>, places: &[Place], known| {
            std::iter::from_fn(|| list.pop_front())
                .find(|&nth| places.get(nth) == Some(&Place::Listed { known }))
        };
        let mut found = None;
        if !may_look {
            found = listed(&mut self.known, &self.places, true).map(|nth| (nth, true));
        }
        let found = found
            .or_else(|| listed(&mut self.other, &self.places, false).map(|nth| (nth, false)))
            .or_else(|| listed(&mut self.known, &self.places, true).map(|nth| (nth, true)));
        let (partition, known) = found?;
        self.places[partition] = Place::Asked { known };
        self.asked_for += 1;
        self.looks += usize::from(!known);
        self.since = if known { self.since + 1 } else { 0 };
        Some(Ask { partition, known })
    }

    /// A message has come.
    pub(crate) fn delivered(&mut self, partition: usize) {
        self.answered(partition, Place::InHand);
    }

    /// A pull has ended without a message.
    pub(crate) fn ended(&mut self, partition: usize) {
        if self.is_asked(partition) {
            self.answered(partition, Place::Listed { known: false });
            self.other.push_back(partition);
        }
    }

    /// The message has left the hand. `more`: whether more messages were behind.
    pub(crate) fn settled(&mut self, partition: usize, more: bool) {
        if self.places.get(partition) != Some(&Place::InHand) {
            return;
        }
        self.places[partition] = Place::Listed { known: more };
        let list = if more { &mut self.known } else { &mut self.other };
        list.push_back(partition);
    }

    fn answered(&mut self, partition: usize, now: Place) {
        let Some(place) = self.places.get_mut(partition) else { return };
        if let Place::Asked { known } = *place {
            self.asked_for -= 1;
            self.looks -= usize::from(!known);
        }
        *place = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A broker with `stored` messages in the partitions, and a worker with `most` in hand. Returns
    /// the partitions in the order of the deliveries.
    fn work(mut stored: Vec<usize>, most: usize, steps: usize) -> Vec<usize> {
        let mut partitions = Partitions::new(stored.len(), 0);
        let (mut in_hand, mut order) = (VecDeque::new(), Vec::new());
        for _ in 0..steps {
            let mut asked = Vec::new();
            while in_hand.len() + partitions.asked_for() < most {
                let Some(ask) = partitions.next(most) else { break };
                asked.push(ask.partition);
            }
            assert!(in_hand.len() + partitions.asked_for() <= most);
            for nth in asked {
                assert!(!in_hand.contains(&nth), "two of a partition");
                if stored[nth] > 0 {
                    stored[nth] -= 1;
                    partitions.delivered(nth);
                    in_hand.push_back(nth);
                    order.push(nth);
                } else {
                    partitions.ended(nth);
                }
            }
            if let Some(nth) = in_hand.pop_front() {
                partitions.settled(nth, stored[nth] > 0);
            }
        }
        order
    }

    proptest! {
        #[test]
        fn every_message_comes_in_the_end(
            stored in prop::collection::vec(0_usize..5, 1..40),
            most in 1_usize..50,
        ) {
            let all: usize = stored.iter().sum();
            prop_assert_eq!(work(stored, most, 40 * 6 * 10).len(), all);
        }
    }

    #[test]
    fn partitions_with_messages_share_the_worker_and_do_not_wait_for_the_empty_ones() {
        // Two of 64 have messages, and the worker holds four.
        let mut stored = vec![0; 64];
        (stored[20], stored[40]) = (1000, 1000);
        let order = work(stored, 4, 1000);
        assert!(order.len() > 900, "{}", order.len());
        let first = order.iter().filter(|&&nth| nth == 20).count();
        assert!((order.len() * 2 / 5..order.len() * 3 / 5).contains(&first), "{first}");
    }

    #[test]
    fn a_partition_behind_busy_ones_gets_its_turn() {
        // Three partitions with messages without end, and a partition with a single message.
        let mut stored = vec![0; 32];
        stored[..3].fill(100_000);
        stored[31] = 1;
        for most in [1, 2, 3] {
            let order = work(stored.clone(), most, 2000);
            assert!(order.contains(&31), "with {most} in hand");
        }
    }

    #[test]
    fn a_message_of_an_older_generation_changes_nothing() {
        let mut partitions = Partitions::new(2, 0);
        partitions.settled(0, true);
        partitions.ended(1);
        partitions.delivered(7);
        assert_eq!(partitions.asked_for(), 0);
        let asked: Vec<_> = std::iter::from_fn(|| partitions.next(8)).collect();
        assert_eq!(asked.len(), 2);
        assert_eq!(partitions.next(8), None);
    }
}
