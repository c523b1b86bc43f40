//! The state of the queue in atomics: a refusal needs no lock (law 4).

use super::{flow_length::FlowLength, queue_size::QueueSize};
use crate::{
    class::{NO_FLOW, Priority, Rank},
    options::Overflow,
    queue::{Gone, LevelSummary},
    rng::mix,
    sync::{
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
        figure::AtomicU32,
    },
};

const LEVELS: usize = Priority::ALL.len();

/// The state of the queue, readable without a lock.
///
/// [`on_queued`](Self::on_queued) counts each request in, and
/// [`on_dispatched`](Self::on_dispatched) or [`on_gone`](Self::on_gone) out. The drain task
/// [publishes](Self::publish) the facts known only to the queue.
#[derive(Debug)]
pub(crate) struct Occupancy {
    /// By priority: the number of requests in the upper half, the weight in the lower.
    waiting: [AtomicU64; LEVELS],
    /// The weight of each flow, as the lesser of two sums shared with other flows (a count-min
    /// sketch).
    flows: [[AtomicU32; CELLS]; 2],
    /// By priority: the weight of the requests with a flow.
    of_flows: [AtomicU64; LEVELS],
    /// By priority: the weight gone from the queue since the leveler was built.
    departed: [Departed; LEVELS],
    /// By priority: the number of flows taking turns.
    active: [AtomicUsize; LEVELS],
    /// By priority: the sum of the weights of the flows taking turns.
    shares: [AtomicU64; LEVELS],
    /// By priority: the weight of the held flows, at their limit.
    held: [AtomicU64; LEVELS],
    /// By priority: an upper bound of the longest flow. As a word, see [`FlowLength`].
    longest: [AtomicU64; LEVELS],
    /// By priority: a lower bound of the longest flow, once all of [`Departed`] up to the second
    /// number had left. The first as a word, see [`FlowLength`].
    surely_longest: [[AtomicU64; 2]; LEVELS],
}

/// The weight gone from the queue. Two counts: a dispatched entry is no longer in the queue, and
/// does not make a flow look longer.
#[derive(Debug, Default)]
struct Departed {
    dispatched: AtomicU64,
    /// Cancelled or removed. May lie in the queue as a tombstone.
    gone: AtomicU64,
}

impl Departed {
    fn all(&self) -> u64 {
        self.dispatched.load(SeqCst).wrapping_add(self.gone.load(SeqCst))
    }
}

/// For each priority, the weight gone from the queue before a look at the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DepartedBefore {
    all: [u64; LEVELS],
    /// The weight cancelled or removed. Bounds the tombstones.
    pub(crate) gone: Gone,
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
            of_flows: Default::default(),
            departed: Default::default(),
            active: Default::default(),
            shares: Default::default(),
            held: Default::default(),
            longest: Default::default(),
            surely_longest: Default::default(),
        }
    }

    /// Counts in a request joining the queue. Returns whether no other request of the priority
    /// waits.
    #[inline]
    pub(crate) fn on_queued(&self, rank: Rank) -> bool {
        let (index, cost) = (rank.priority.index(), u64::from(rank.cost));
        let before = self.waiting[index].fetch_add(REQUEST + cost, SeqCst);
        if rank.flow != NO_FLOW {
            self.of_flows[index].fetch_add(cost, SeqCst);
            for cell in self.cells(rank) {
                cell.fetch_add(rank.cost, Relaxed);
            }
        }
        before < REQUEST
    }

    /// Counts out a request leaving the queue to run.
    #[inline]
    pub(crate) fn on_dispatched(&self, rank: Rank) {
        self.departed[rank.priority.index()].dispatched.fetch_add(u64::from(rank.cost), SeqCst);
        self.on_dequeued(rank);
    }

    /// Counts out a request leaving the queue for any other reason.
    #[inline]
    pub(crate) fn on_gone(&self, rank: Rank) {
        self.departed[rank.priority.index()].gone.fetch_add(u64::from(rank.cost), SeqCst);
        self.on_dequeued(rank);
    }

    #[inline]
    fn on_dequeued(&self, rank: Rank) {
        let (index, cost) = (rank.priority.index(), u64::from(rank.cost));
        self.waiting[index].fetch_sub(REQUEST + cost, SeqCst);
        if rank.flow != NO_FLOW {
            self.of_flows[index].fetch_sub(cost, SeqCst);
            for cell in self.cells(rank) {
                cell.fetch_sub(rank.cost, Relaxed);
            }
        }
    }

    /// Returns the weight gone from the queue so far. Call before looking at the queue.
    pub(crate) fn departed(&self) -> DepartedBefore {
        DepartedBefore {
            all: self.departed.each_ref().map(Departed::all),
            gone: self.departed.each_ref().map(|departed| departed.gone.load(SeqCst)),
        }
    }

    /// Stores the queue's own summary of each priority.
    pub(crate) fn publish(&self, summaries: [LevelSummary; LEVELS], before: &DepartedBefore) {
        for (index, summary) in summaries.into_iter().enumerate() {
            self.active[index].store(summary.active, Relaxed);
            self.shares[index].store(summary.shares, Relaxed);
            self.held[index].store(summary.held, Relaxed);
            let word = |weight| FlowLength::word(weight, summary.longest);
            self.longest[index].store(word(summary.longest.weight), Relaxed);
            let [weight, departed] = &self.surely_longest[index];
            // The new weight holds for the new number. A reader of one old and one new value must
            // not take the flow for longer than it is.
            weight.store(0, SeqCst);
            departed.store(before.all[index], SeqCst);
            weight.store(word(summary.surely_longest), SeqCst);
        }
    }

    /// Returns the most by which newcomers of this rank may exceed the bound, in all: the waiting
    /// weight that surely gives way to them.
    ///
    /// All lower priorities give way. So does the excess of the longest flow of the same priority
    /// over the newcomer's flow, in proportion to the shares. So does the same excess of the
    /// longest flow of a higher priority, if held: requests beyond a flow's limit have no priority.
    /// Under `EvictOldest` everything gives way.
    pub(crate) fn yields_to(&self, rank: Rank, overflow: Overflow, has_held: bool) -> usize {
        let from = match overflow {
            Overflow::EvictOldest => 0,
            _ => rank.priority.index() + 1,
        };
        let weight: u64 = (from..LEVELS).map(|index| self.weight_at(index)).sum();
        let own = rank.priority.index();
        let highest = if has_held { 0 } else { own };
        let longer: u64 = (highest..=own).map(|index| self.is_longer_by(index, rank)).sum();
        usize::try_from(weight + longer).unwrap_or(usize::MAX)
    }

    /// Returns by how much the longest flow of a priority, the newcomer's or a higher one, surely
    /// exceeds the newcomer's flow, by the time that the newcomer waits. 0 if the flow may not be
    /// longer, or if the priority is higher and the flow not held.
    fn is_longer_by(&self, index: usize, rank: Rank) -> u64 {
        let [weight, departed] = &self.surely_longest[index];
        let published = weight.load(SeqCst);
        if published == 0 {
            return 0;
        }
        // All the weight gone since may have been of the longest flow.
        let since = self.departed[index].all().wrapping_sub(departed.load(SeqCst));
        if weight.load(SeqCst) != published {
            // The number may belong to the next weight.
            return 0;
        }
        let FlowLength { weight, share, is_held } = FlowLength::of(published);
        if index < rank.priority.index() && !is_held {
            return 0;
        }
        let weight = weight.saturating_sub(since).min(self.weight_at(index));
        let (longest, own) = (FlowLength { weight, share, is_held }, self.own(rank));
        if !FlowLength::with_newcomer(rank, own).is_below(longest) {
            return 0;
        }
        // The longest flow gives way while longer than the newcomer's. The newcomer may find some
        // room, and exceed the bound by less than its cost: by 1 at least.
        weight - (own + 1) * share / u64::from(rank.share)
    }

    /// Returns whether the flow has used up its share: other flows of the priority wait, and none
    /// is longer.
    #[inline]
    pub(crate) fn is_over_share(&self, rank: Rank) -> bool {
        rank.flow != NO_FLOW && self.is_longest_of_several(rank)
    }

    fn is_longest_of_several(&self, rank: Rank) -> bool {
        let index = rank.priority.index();
        if self.active[index].load(Relaxed) <= 1 {
            return false;
        }
        let own = self.own(rank);
        let longest = FlowLength::of(self.longest[index].load(Relaxed));
        self.weight_at(index) > own && !FlowLength::with_newcomer(rank, own).is_below(longest)
    }

    /// Returns the weight of the newcomer's flow.
    fn own(&self, rank: Rank) -> u64 {
        let index = rank.priority.index();
        match rank.flow {
            NO_FLOW => {
                let of_flows = self.of_flows[index].load(SeqCst);
                self.weight_at(index).saturating_sub(of_flows)
            }
            _ => self.weight_of_flow(rank),
        }
    }

    #[inline]
    fn cells(&self, rank: Rank) -> impl Iterator<Item = &AtomicU32> {
        let hash = mix(rank.flow ^ rank.priority.index() as u64);
        let cells = [hash as usize, (hash >> 32) as usize];
        self.flows.iter().zip(cells).filter_map(|(row, cell)| row.get(cell % CELLS))
    }

    #[inline]
    fn weight_of_flow(&self, rank: Rank) -> u64 {
        let least = self.cells(rank).map(|cell| cell.load(Relaxed)).min();
        least.map_or(0, u64::from)
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

    /// Returns the work served before a newcomer: all requests of higher priorities, and of its
    /// own. If the newcomer's flow takes turns with other flows, only a part of its own priority
    /// counts: the flow's waiting requests, with the newcomer, and the other flows' part of the
    /// inner's time meanwhile. With `has_held`, held flows do not count.
    #[inline]
    pub(crate) fn ahead_of(&self, rank: Rank, has_held: bool) -> QueueSize {
        let index = rank.priority.index();
        let size_at = |index| if has_held { self.eligible_at(index) } else { self.size_at(index) };
        let higher: QueueSize = (0..index).map(size_at).sum();
        let equal = size_at(index);
        let shares = self.shares[index].load(Relaxed);
        if rank.flow == NO_FLOW || shares == 0 {
            return higher + equal;
        }
        let own = self.weight_of_flow(rank) + u64::from(rank.cost);
        let share = (own * shares).div_ceil(rank.share.into());
        if share >= equal.weight {
            return higher + equal;
        }
        higher + equal.part(share)
    }

    /// Returns the size of the newcomer's flow, with the newcomer.
    pub(crate) fn size_of_flow(&self, rank: Rank) -> QueueSize {
        let all = self.size_at(rank.priority.index());
        let own = self.weight_of_flow(rank) + u64::from(rank.cost);
        QueueSize { requests: all.requests.max(1), weight: all.weight.max(own) }.part(own)
    }

    /// Returns the number of waiting requests, without those that wait because their flow is held.
    pub(crate) fn eligible(&self) -> usize {
        (0..LEVELS).map(|index| self.eligible_at(index)).sum::<QueueSize>().requests as usize
    }

    /// Returns the weight of a priority, without the weight of held flows.
    pub(crate) fn eligible_weight(&self, priority: Priority) -> u64 {
        self.eligible_at(priority.index()).weight
    }

    fn eligible_at(&self, index: usize) -> QueueSize {
        let all = self.size_at(index);
        let held = self.held[index].load(Relaxed).min(all.weight);
        if held == 0 { all } else { all.part(all.weight - held) }
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
    use crate::{class::Class, queue::LongestFlow};

    /// Returns summaries with `normal` at the default priority, and the rest empty.
    fn only(normal: LevelSummary) -> [LevelSummary; LEVELS] {
        let mut summaries = [LevelSummary::default(); LEVELS];
        summaries[Priority::Normal.index()] = normal;
        summaries
    }

    /// Publishes summaries with `normal` at the default priority, and the rest empty.
    fn publish(occupancy: &Occupancy, normal: LevelSummary) {
        occupancy.publish(only(normal), &occupancy.departed());
    }

    /// A queue of the default priority with an exactly known longest flow.
    fn flows(active: usize, longest: u64) -> LevelSummary {
        let shares = active as u64;
        let of_one = LongestFlow { weight: longest, ..LongestFlow::default() };
        LevelSummary { active, shares, longest: of_one, surely_longest: longest, held: 0 }
    }

    #[test]
    fn a_higher_priority_and_a_shorter_flow_are_let_in_when_others_can_give_way() {
        let occupancy = Occupancy::new();
        let gives_way =
            |class: Class| occupancy.yields_to(class.rank, Overflow::Reject, false) >= 1;
        let low = Class::new().priority(Priority::Low).rank;
        assert!(!gives_way(Class::new()));
        occupancy.on_queued(low);
        assert!(gives_way(Class::new()));
        assert!(!gives_way(Class::new().priority(Priority::Background)));
        occupancy.on_gone(low);
        assert!(!gives_way(Class::new()));

        let long = Class::new().flow("long");
        (0..5).for_each(|_| _ = occupancy.on_queued(long.rank));
        publish(&occupancy, flows(1, 5));
        assert!(!gives_way(long));
        assert!(gives_way(Class::new().flow("short")));
        assert!(gives_way(Class::new()), "requests without a flow are one flow");
        (0..4).for_each(|_| _ = occupancy.on_queued(Class::new().rank));
        publish(&occupancy, flows(2, 5));
        assert!(!gives_way(Class::new()));
    }

    #[test]
    fn a_flow_gives_way_only_while_it_is_surely_longer() {
        let occupancy = Occupancy::new();
        let (long, other) = (Class::new().flow("long").rank, Class::new().flow("other").rank);
        (0..100).for_each(|_| _ = occupancy.on_queued(long));
        (0..30).for_each(|_| _ = occupancy.on_queued(other));
        publish(&occupancy, flows(2, 100));
        let allowance = |class: Class| occupancy.yields_to(class.rank, Overflow::Reject, false);
        let short = || Class::new().flow("short");
        assert_eq!(allowance(short()), 99, "the last of them would be as many as are left");
        assert_eq!(allowance(Class::new().flow("other")), 69);
        (0..30).for_each(|_| occupancy.on_gone(other));
        assert_eq!(allowance(short()), 69, "they may have been of the longest");
        (0..70).for_each(|_| occupancy.on_dispatched(long));
        assert_eq!(allowance(short()), 0);
        publish(&occupancy, flows(1, 30));
        assert_eq!(allowance(short()), 29);
        (0..29).for_each(|_| occupancy.on_gone(long));
        assert_eq!(allowance(Class::new()), 0, "one against one");
        (0..400).for_each(|_| _ = occupancy.on_queued(Class::new().rank));
        assert_eq!(allowance(Class::new()), 0, "the newcomers themselves make nobody longer");
    }

    #[test]
    fn what_goes_before_a_newcomer_is_what_its_share_leaves() {
        let occupancy = Occupancy::new();
        let long = Class::new().flow("long").rank;
        (0..100).for_each(|_| _ = occupancy.on_queued(long));
        occupancy.on_queued(Class::new().priority(Priority::High).rank);
        publish(&occupancy, flows(2, 100));
        let ahead_of = |rank| occupancy.ahead_of(rank, false).requests;
        assert_eq!(ahead_of(long), 101);
        assert_eq!(ahead_of(Class::new().flow("short").rank), 3);
        assert_eq!(ahead_of(Class::new().priority(Priority::High).rank), 1);
    }
}
