//! The state of the queue in atomics: a refusal needs no lock (law 4).

use super::{
    flow_length::FlowLength,
    flow_weights::{Added, FlowPlace, FlowWeights},
    queue_size::QueueSize,
};
use crate::{
    class::{NO_FLOW, Priority, Rank},
    options::Overflow,
    queue::{Gone, LevelSummary, PassedOver},
    sync::{
        CachePadded,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, Release, SeqCst},
        },
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
    /// By priority: written for each request.
    levels: CachePadded<[Level; LEVELS]>,
    /// The weight of each flow.
    flows: FlowWeights,
    /// By priority: the sum of the shares of the flows in the upper half, the weight of their
    /// requests in the lower.
    of_flows: [AtomicU64; LEVELS],
    /// By priority: the sum of the weights of the flows taking turns.
    shares: [AtomicU64; LEVELS],
    /// By priority: the requests that the queue passes over, in halves as in `waiting`.
    passed_over: [AtomicU64; LEVELS],
    /// Set if the queue passes over any request.
    passes_over: AtomicBool,
    /// By priority: an upper bound of the longest flow. As a word, see [`FlowLength`].
    longest: [AtomicU64; LEVELS],
    /// By priority: a lower bound of the longest flow, once all of [`Departed`] up to the second
    /// number had left. The first as a word, see [`FlowLength`].
    surely_longest: [[AtomicU64; 2]; LEVELS],
}

/// The counts of a priority.
#[derive(Debug, Default)]
struct Level {
    /// The number of waiting requests in the upper half, the weight in the lower.
    waiting: AtomicU64,
    departed: Departed,
}

/// The weight gone from the queue since the leveler was built. Two counts: a dispatched entry is no
/// longer in the queue, and does not make a flow look longer.
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

/// The unit of the upper half of `of_flows`.
const SHARE: u64 = 1 << 32;

impl Occupancy {
    /// Returns the state of an empty queue of this capacity.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            levels: Default::default(),
            flows: FlowWeights::new(capacity),
            of_flows: Default::default(),
            shares: Default::default(),
            passed_over: Default::default(),
            passes_over: AtomicBool::new(false),
            longest: Default::default(),
            surely_longest: Default::default(),
        }
    }

    /// Counts in a request joining the queue. Returns whether no other request of the priority
    /// waits, and the place of the request in the table of flows.
    #[inline]
    pub(crate) fn on_queued(&self, rank: Rank) -> (bool, FlowPlace) {
        let (index, cost) = (rank.priority.index(), u64::from(rank.cost));
        let before = self.levels[index].waiting.fetch_add(REQUEST + cost, SeqCst);
        let place = match rank.flow {
            NO_FLOW => FlowPlace::NONE,
            flow => self.on_flow_queued(rank.priority, flow, rank.cost, rank.share),
        };
        (before < REQUEST, place)
    }

    /// Counts out a request leaving the queue to run. For the holder of the turn alone.
    #[inline]
    pub(crate) fn on_dispatched(&self, rank: Rank, place: FlowPlace) {
        // No other thread writes, and the end of the turn hands the count over. The subtraction
        // below follows: a thread that finds the request gone from `waiting` finds it counted here.
        let dispatched = &self.levels[rank.priority.index()].departed.dispatched;
        let before = dispatched.load(Relaxed);
        dispatched.store(before.wrapping_add(rank.cost.into()), Release);
        self.on_dequeued(rank, place);
    }

    /// Counts out a request leaving the queue for any other reason.
    #[inline]
    pub(crate) fn on_gone(&self, rank: Rank, place: FlowPlace) {
        self.levels[rank.priority.index()].departed.gone.fetch_add(u64::from(rank.cost), SeqCst);
        self.on_dequeued(rank, place);
    }

    #[inline]
    fn on_dequeued(&self, rank: Rank, place: FlowPlace) {
        let (index, cost) = (rank.priority.index(), u64::from(rank.cost));
        self.levels[index].waiting.fetch_sub(REQUEST + cost, SeqCst);
        if place != FlowPlace::NONE {
            self.on_flow_dequeued(rank.priority, place, rank.cost);
        }
    }

    // Not inlined: requests without a flow would pay for it.
    #[inline(never)]
    fn on_flow_queued(&self, priority: Priority, flow: u64, cost: u32, share: u16) -> FlowPlace {
        match self.flows.add_first(hash(priority, flow), cost, share) {
            Some(added) => self.on_flow_added(priority, added, cost),
            None => self.on_flow_queued_anywhere(priority, flow, cost, share),
        }
    }

    #[inline(never)]
    fn on_flow_queued_anywhere(
        &self,
        priority: Priority,
        flow: u64,
        cost: u32,
        share: u16,
    ) -> FlowPlace {
        let added = self.flows.add(hash(priority, flow), cost, share);
        self.on_flow_added(priority, added, cost)
    }

    #[inline]
    fn on_flow_added(&self, priority: Priority, added: Added, cost: u32) -> FlowPlace {
        let change = added.shares.wrapping_mul(SHARE).wrapping_add(cost.into());
        self.of_flows[priority.index()].fetch_add(change, SeqCst);
        added.place
    }

    #[inline]
    fn on_flow_dequeued(&self, priority: Priority, place: FlowPlace, cost: u32) {
        let shares = self.flows.subtract(place, cost);
        let change = shares.wrapping_mul(SHARE).wrapping_sub(cost.into());
        self.of_flows[priority.index()].fetch_add(change, SeqCst);
    }

    /// Returns the weight gone from the queue so far. Call before looking at the queue.
    pub(crate) fn departed(&self) -> DepartedBefore {
        DepartedBefore {
            all: self.levels.each_ref().map(|level| level.departed.all()),
            gone: self.levels.each_ref().map(|level| level.departed.gone.load(SeqCst)),
        }
    }

    /// Stores the queue's own summary of each priority.
    pub(crate) fn publish(&self, summaries: [LevelSummary; LEVELS], before: &DepartedBefore) {
        let passes_over = |summary: &LevelSummary| summary.passed_over.requests > 0;
        self.passes_over.store(summaries.iter().any(passes_over), Relaxed);
        for (index, summary) in summaries.into_iter().enumerate() {
            self.shares[index].store(summary.shares, Relaxed);
            let PassedOver { requests, weight } = summary.passed_over;
            self.passed_over[index].store(requests * REQUEST + weight, Relaxed);
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
        let since = self.levels[index].departed.all().wrapping_sub(departed.load(SeqCst));
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

    /// Returns whether the newcomer's flow has used up its share: other flows of the priority wait,
    /// and the flow has at least as much of the waiting weight as is due by the weights of all.
    #[inline]
    pub(crate) fn is_over_share(&self, rank: Rank) -> bool {
        rank.flow != NO_FLOW && self.has_its_share(rank)
    }

    fn has_its_share(&self, rank: Rank) -> bool {
        let index = rank.priority.index();
        let (all, of_flows) = (self.weight_at(index), self.of_flows[index].load(SeqCst));
        // Requests without a flow are one flow.
        let shares = of_flows / SHARE + u64::from(all > of_flows % SHARE);
        let own = self.flows.get(hash(rank.priority, rank.flow));
        all > own.most && own.least * shares >= all * u64::from(rank.share)
    }

    /// Returns the weight of the newcomer's flow.
    fn own(&self, rank: Rank) -> u64 {
        let index = rank.priority.index();
        match rank.flow {
            NO_FLOW => {
                let of_flows = self.of_flows[index].load(SeqCst) % SHARE;
                self.weight_at(index).saturating_sub(of_flows)
            }
            _ => self.weight_of_flow(rank),
        }
    }

    /// Returns the weight of the newcomer's flow, or somewhat more.
    #[inline]
    fn weight_of_flow(&self, rank: Rank) -> u64 {
        self.flows.get(hash(rank.priority, rank.flow)).most
    }

    fn weight_at(&self, index: usize) -> u64 {
        self.levels[index].waiting.load(SeqCst) % REQUEST
    }

    /// Returns whether only requests of this priority wait, if any.
    #[inline]
    pub(crate) fn is_alone(&self, priority: Priority) -> bool {
        self.queued() == self.queued_of(priority)
    }

    /// Returns the number of waiting requests.
    pub(crate) fn queued(&self) -> usize {
        Priority::EACH.map(|priority| self.queued_of(priority)).iter().sum()
    }

    /// Returns the number of waiting requests of a priority.
    pub(crate) fn queued_of(&self, priority: Priority) -> usize {
        (self.levels[priority.index()].waiting.load(SeqCst) / REQUEST) as usize
    }

    /// Returns the work served before a newcomer: all requests of higher priorities, and of its
    /// own. If the newcomer's flow takes turns with other flows, only a part of its own priority
    /// counts: the flow's waiting requests, with the newcomer, and the other flows' part of the
    /// inner's time meanwhile. Requests that the queue passes over do not count.
    #[inline]
    pub(crate) fn ahead_of(&self, rank: Rank) -> QueueSize {
        let index = rank.priority.index();
        let higher: QueueSize = (0..index).map(|index| self.eligible_at(index)).sum();
        let equal = self.eligible_at(index);
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

    /// Returns the number of requests waiting for a slot: neither for an unready inner, nor for a
    /// call of their own flow. As of the last turn of the drain task.
    pub(crate) fn eligible(&self) -> usize {
        (0..LEVELS).map(|index| self.eligible_at(index)).sum::<QueueSize>().requests as usize
    }

    /// Returns the weight of the requests waiting for a slot.
    pub(crate) fn eligible_total(&self) -> usize {
        (0..LEVELS).map(|index| self.eligible_at(index)).sum::<QueueSize>().weight as usize
    }

    /// Returns the weight of the requests of a priority waiting for a slot.
    pub(crate) fn eligible_weight(&self, priority: Priority) -> u64 {
        self.eligible_at(priority.index()).weight
    }

    /// Returns the size of the part of the queue that waits for a slot. `all` is the whole queue.
    #[inline]
    pub(crate) fn eligible_of(&self, all: QueueSize) -> QueueSize {
        if self.passes_over.load(Relaxed) { self.eligible_size() } else { all }
    }

    #[cold]
    fn eligible_size(&self) -> QueueSize {
        (0..LEVELS).map(|index| self.eligible_at(index)).sum()
    }

    fn eligible_at(&self, index: usize) -> QueueSize {
        let all = self.size_at(index);
        let passed_over = self.passed_over[index].load(Relaxed);
        let weight = all.weight.saturating_sub(passed_over % REQUEST);
        let requests = all.requests.saturating_sub(passed_over / REQUEST);
        // With tombstones, or a turn later, one may be zero without the other.
        if weight == 0 || requests == 0 {
            QueueSize::default()
        } else {
            QueueSize { requests, weight }
        }
    }

    /// Returns the size of the whole queue.
    pub(crate) fn all(&self) -> QueueSize {
        (0..LEVELS).map(|index| self.size_at(index)).sum()
    }

    fn size_at(&self, index: usize) -> QueueSize {
        let both = self.levels[index].waiting.load(SeqCst);
        QueueSize { requests: both / REQUEST, weight: both % REQUEST }
    }
}

/// Returns the hash of a flow of a priority.
#[inline]
fn hash(priority: Priority, flow: u64) -> u64 {
    flow ^ priority.index() as u64
}

#[cfg(test)]
mod tests;
