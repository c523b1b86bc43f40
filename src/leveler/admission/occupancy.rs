//! The state of the queue in atomics: a refusal needs no lock (law 4).

use std::{iter::Sum, ops::Add};

use crate::{
    class::{NO_FLOW, Priority, Rank},
    options::Overflow,
    queue::LevelSummary,
    rng::mix,
    sync::{
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
        figure::AtomicU32,
    },
};

const LEVELS: usize = Priority::ALL.len();

/// The state of the queue, readable without a lock.
///
/// [`on_queued`](Self::on_queued) counts each request in, and [`on_dequeued`](Self::on_dequeued)
/// out. The drain task [publishes](Self::publish) the facts known only to the queue.
#[derive(Debug)]
pub(crate) struct Occupancy {
    /// By priority: the number of requests in the upper half, the weight in the lower.
    waiting: [AtomicU64; LEVELS],
    /// The weight of each flow, as the lesser of two sums shared with other flows (a count-min
    /// sketch).
    flows: [[AtomicU32; CELLS]; 2],
    /// By priority: the number of flows taking turns.
    active: [AtomicUsize; LEVELS],
    /// By priority: the weight of the longest flow.
    longest: [AtomicU64; LEVELS],
    /// By priority: the weight of the requests without a flow.
    flowless: [AtomicU64; LEVELS],
}

/// A number of requests, and the weight: the sum of the costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueSize {
    pub(crate) requests: u64,
    pub(crate) weight: u64,
}

impl Add for QueueSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (requests, weight) = (self.requests + other.requests, self.weight + other.weight);
        Self { requests, weight }
    }
}

impl Sum for QueueSize {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// The unit of the upper half. Weights fit below, since all places together number less than 2^32.
const REQUEST: u64 = 1 << 32;

/// The number of cells in a row of the sketch: 2 KiB.
const CELLS: usize = 512;

impl Occupancy {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Default::default(),
            flows: [const { [const { AtomicU32::new(0) }; CELLS] }; 2],
            active: Default::default(),
            longest: Default::default(),
            flowless: Default::default(),
        }
    }

    /// Counts in a request joining the queue.
    pub(crate) fn on_queued(&self, rank: Rank) {
        self.waiting[rank.priority.index()].fetch_add(REQUEST + u64::from(rank.cost), SeqCst);
        if rank.flow != NO_FLOW {
            for cell in self.cells(rank) {
                cell.fetch_add(rank.cost, Relaxed);
            }
        }
    }

    /// Counts out a request leaving the queue, for any reason.
    pub(crate) fn on_dequeued(&self, rank: Rank) {
        self.waiting[rank.priority.index()].fetch_sub(REQUEST + u64::from(rank.cost), SeqCst);
        if rank.flow != NO_FLOW {
            for cell in self.cells(rank) {
                cell.fetch_sub(rank.cost, Relaxed);
            }
        }
    }

    /// Stores the queue's own summary of each priority.
    pub(crate) fn publish(&self, summaries: [LevelSummary; LEVELS]) {
        for (index, summary) in summaries.into_iter().enumerate() {
            self.active[index].store(summary.active, Relaxed);
            self.longest[index].store(summary.longest, Relaxed);
            self.flowless[index].store(summary.flowless, Relaxed);
        }
    }

    /// Returns the cost evictable for a newcomer of this rank: the weight of all lower priorities,
    /// or of all priorities under `EvictOldest`. Unlimited if a longer flow of the same priority
    /// waits.
    pub(crate) fn yields_to(&self, rank: Rank, overflow: Overflow) -> usize {
        let from = match overflow {
            Overflow::EvictOldest => 0,
            _ => rank.priority.index() + 1,
        };
        if self.is_short(rank) {
            return usize::MAX;
        }
        let weight: u64 = (from..LEVELS).map(|index| self.weight_at(index)).sum();
        usize::try_from(weight).unwrap_or(usize::MAX)
    }

    /// Returns whether the flow has used up its share: other flows of the priority wait, and none
    /// is longer.
    pub(crate) fn is_over_share(&self, rank: Rank) -> bool {
        rank.flow != NO_FLOW
            && self.active[rank.priority.index()].load(Relaxed) > 1
            && !self.is_short(rank)
    }

    /// Returns whether the flow, with the newcomer, is shorter than the longest of the priority.
    fn is_short(&self, rank: Rank) -> bool {
        let index = rank.priority.index();
        let own = match rank.flow {
            NO_FLOW => self.flowless[index].load(Relaxed),
            _ => self.weight_of_flow(rank),
        };
        own + u64::from(rank.cost) < self.longest[index].load(Relaxed)
    }

    fn cells(&self, rank: Rank) -> impl Iterator<Item = &AtomicU32> {
        let hash = mix(rank.flow ^ rank.priority.index() as u64);
        let cells = [hash as usize, (hash >> 32) as usize];
        self.flows.iter().zip(cells).filter_map(|(row, cell)| row.get(cell % CELLS))
    }

    fn weight_of_flow(&self, rank: Rank) -> u64 {
        let least = self.cells(rank).map(|cell| cell.load(Relaxed)).min();
        least.map_or(0, u64::from)
    }

    /// Returns the weight of a priority.
    pub(crate) fn weight_of(&self, priority: Priority) -> u64 {
        self.weight_at(priority.index())
    }

    fn weight_at(&self, index: usize) -> u64 {
        self.waiting[index].load(SeqCst) % REQUEST
    }

    /// Returns the number of waiting requests.
    pub(crate) fn queued(&self) -> usize {
        Priority::EACH.map(|priority| self.queued_of(priority)).iter().sum()
    }

    /// Returns the number of waiting requests of a priority.
    pub(crate) fn queued_of(&self, priority: Priority) -> usize {
        (self.waiting[priority.index()].load(SeqCst) / REQUEST) as usize
    }

    /// Returns the work that is served before a newcomer: all requests of higher priorities, and of
    /// its own. If its flow takes turns with others, less of its own priority counts: the weight of
    /// its flow, with the newcomer, times the number of flows that take turns.
    pub(crate) fn ahead_of(&self, rank: Rank) -> QueueSize {
        let index = rank.priority.index();
        let higher: QueueSize = (0..index).map(|index| self.size_at(index)).sum();
        let equal = self.size_at(index);
        let active = self.active[index].load(Relaxed) as u64;
        if rank.flow == NO_FLOW || active == 0 {
            return higher + equal;
        }
        let own = self.weight_of_flow(rank) + u64::from(rank.cost);
        let share = own * active;
        if share >= equal.weight {
            return higher + equal;
        }
        // The number of requests with the weight `share`, at the mean cost of the priority.
        let requests = (equal.requests * share).div_ceil(equal.weight);
        higher + QueueSize { requests, weight: share }
    }

    /// Returns the size of the whole queue.
    pub(crate) fn all(&self) -> QueueSize {
        (0..LEVELS).map(|index| self.size_at(index)).sum()
    }

    fn size_at(&self, index: usize) -> QueueSize {
        let both = self.waiting[index].load(SeqCst);
        QueueSize { requests: both / REQUEST, weight: both % REQUEST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;

    /// Returns summaries with `normal` at the default priority, and the others empty.
    fn only(normal: LevelSummary) -> [LevelSummary; LEVELS] {
        let mut summaries = [LevelSummary::default(); LEVELS];
        summaries[Priority::Normal.index()] = normal;
        summaries
    }

    #[test]
    fn a_higher_priority_and_a_shorter_flow_are_let_in_when_others_can_give_way() {
        let occupancy = Occupancy::new();
        let gives_way = |class: Class| occupancy.yields_to(class.rank, Overflow::Reject) >= 1;
        let low = Class::new().priority(Priority::Low).rank;
        assert!(!gives_way(Class::new()));
        occupancy.on_queued(low);
        assert!(gives_way(Class::new()));
        assert!(!gives_way(Class::new().priority(Priority::Background)));
        occupancy.on_dequeued(low);
        assert!(!gives_way(Class::new()));

        let long = Class::new().flow("long");
        (0..5).for_each(|_| occupancy.on_queued(long.rank));
        occupancy.publish(only(LevelSummary { active: 1, longest: 5, flowless: 0 }));
        assert!(!gives_way(long));
        assert!(gives_way(Class::new().flow("short")));
        assert!(gives_way(Class::new()), "requests without a flow are one flow");
        occupancy.publish(only(LevelSummary { active: 2, longest: 5, flowless: 5 }));
        assert!(!gives_way(Class::new()));
    }

    #[test]
    fn what_goes_before_a_newcomer_is_what_its_share_leaves() {
        let occupancy = Occupancy::new();
        let long = Class::new().flow("long").rank;
        (0..100).for_each(|_| occupancy.on_queued(long));
        occupancy.on_queued(Class::new().priority(Priority::High).rank);
        occupancy.publish(only(LevelSummary { active: 2, longest: 100, flowless: 0 }));
        let ahead_of = |rank| occupancy.ahead_of(rank).requests;
        assert_eq!(ahead_of(long), 101);
        assert_eq!(ahead_of(Class::new().flow("short").rank), 3);
        assert_eq!(ahead_of(Class::new().priority(Priority::High).rank), 1);
    }
}
