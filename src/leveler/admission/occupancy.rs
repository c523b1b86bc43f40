//! What a newcomer is measured by: atomics, so that a refusal needs no lock (law 4).

use std::{
    iter::Sum,
    ops::Add,
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst,
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    class::{NO_FLOW, Priority, Rank},
    leveler::{
        places::WhenFull,
        shedder::{Arrivals, Cut},
    },
    options::Overflow,
    queue::LevelSummary,
    rng::{mix, seed},
};

const LEVELS: usize = Priority::ALL.len();

/// What is known outside of the line about those in it.
///
/// Each request in the queue is counted in by [`on_queued`](Self::on_queued) and out by [`on_dequeued`](Self::on_dequeued); what
/// only the line knows is [published](Self::publish) by the drain task.
#[derive(Debug)]
pub(crate) struct Occupancy {
    /// How much of each priority waits: requests in the upper half, and in the lower what they weigh.
    waiting: [AtomicU64; LEVELS],
    /// How much of each flow waits, as the lesser of two sums that it shares with others (a count-min sketch).
    flows: [[AtomicU32; CELLS]; 2],
    /// In each priority, how many flows take turns, and what the longest weighs.
    active: [AtomicUsize; LEVELS],
    longest: [AtomicU64; LEVELS],
    /// What those without a flow weigh.
    flowless: [AtomicU64; LEVELS],
    /// Whether a request of another priority than the default has ever come.
    has_priorities: AtomicBool,
    arrivals: Arrivals,
    /// The first level that is refused, and until when, in microseconds after `origin`: the drain task does not
    /// run when nothing happens.
    cut: AtomicU32,
    cut_until: AtomicU64,
    /// Hours since 1970, as of the last window: cohorts are to be the same in all services.
    hour: AtomicU64,
    /// The time since 1970 at `origin`.
    since_1970: Duration,
    origin: Instant,
}

/// Requests, and what they cost together.
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

/// Weights fit below it: no more than all places.
const REQUEST: u64 = 1 << 32;

const CELLS: usize = 512;

/// A priority that is cut off keeps this part of the limit waiting, so that there is somebody whenever its
/// guaranteed share comes round.
const KEPT: usize = 4;

impl Occupancy {
    pub(crate) fn new(origin: Instant) -> Self {
        // Not for measuring time, which is tokio's: a date.
        let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            waiting: Default::default(),
            flows: [const { [const { AtomicU32::new(0) }; CELLS] }; 2],
            active: Default::default(),
            longest: Default::default(),
            flowless: Default::default(),
            has_priorities: AtomicBool::new(false),
            arrivals: Arrivals::new(),
            cut: AtomicU32::new(Cut::OPEN),
            cut_until: AtomicU64::new(0),
            hour: AtomicU64::new(since_1970.as_secs() / 3600),
            since_1970,
            origin,
        }
    }

    /// Counts an arrival; `false` when it is to be refused for its priority. `now` is asked only where that is in
    /// question.
    #[inline]
    pub(crate) fn is_open_to(
        &self,
        rank: Rank,
        limit: usize,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        let has_priorities = self.has_priorities.load(Relaxed);
        if !has_priorities && rank.priority == Priority::default() {
            return true;
        }
        self.is_open_by_priority(rank, limit, now)
    }

    fn is_open_by_priority(&self, rank: Rank, limit: usize, now: impl FnOnce() -> Instant) -> bool {
        if !self.has_priorities.load(Relaxed) {
            self.has_priorities.store(true, Relaxed);
        }
        let cohort = if rank.flow == NO_FLOW {
            // Nobody to be fair or unfair to: every cohort gets its part.
            mix(seed())
        } else {
            mix(rank.flow ^ mix(self.hour.load(Relaxed)))
        };
        let level = self.arrivals.count(rank.priority, rank.flow, cohort);
        level < self.cut.load(Relaxed)
            || self.arrivals.loads.is_light(rank.priority, rank.flow)
            || self.weight_of(rank.priority.index()) < limit.div_ceil(KEPT) as u64
            || self.micros(now()) > self.cut_until.load(Relaxed)
    }

    pub(crate) fn has_priorities(&self) -> bool {
        self.has_priorities.load(Relaxed)
    }

    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// A window ends, and from now on this is the first level that is refused.
    pub(crate) fn set_cut(&self, level: u32, now: Instant) {
        self.cut.store(level, Relaxed);
        self.cut_until.store(self.micros(now + 2 * WINDOW), Relaxed);
        let since_1970 = self.since_1970 + now.saturating_duration_since(self.origin);
        self.hour.store(since_1970.as_secs() / 3600, Relaxed);
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())
    }

    /// What happens to this newcomer when so many places are missing. Nobody gives way where that would not be
    /// enough.
    pub(crate) fn when_full(&self, overflow: Overflow, rank: Rank, missing: usize) -> WhenFull {
        let from = match overflow {
            Overflow::EvictOldest => 0,
            _ => rank.priority.index() + 1,
        };
        let yielding: u64 = (from..LEVELS).map(|index| self.weight_of(index)).sum();
        let gives_way = yielding >= missing as u64 || self.is_short(rank);
        if gives_way { WhenFull::Evict } else { WhenFull::Refuse }
    }

    /// Whether the place it does not get is one more than the share of its flow: others wait beside it, and none
    /// has more waiting.
    pub(crate) fn is_over_share(&self, rank: Rank) -> bool {
        rank.flow != NO_FLOW
            && self.active[rank.priority.index()].load(Relaxed) > 1
            && !self.is_short(rank)
    }

    /// Whether a flow has less waiting than the longest of its priority, which would give way to it.
    fn is_short(&self, rank: Rank) -> bool {
        let index = rank.priority.index();
        let own = match rank.flow {
            NO_FLOW => self.flowless[index].load(Relaxed),
            _ => self.weight_of_flow(rank),
        };
        own + u64::from(rank.cost) < self.longest[index].load(Relaxed)
    }

    /// A request joins the queue.
    pub(crate) fn on_queued(&self, rank: Rank) {
        self.waiting[rank.priority.index()].fetch_add(REQUEST + u64::from(rank.cost), SeqCst);
        if rank.flow != NO_FLOW {
            for cell in self.cells(rank) {
                cell.fetch_add(rank.cost, Relaxed);
            }
        }
    }

    /// A request leaves the queue, by whatever way.
    pub(crate) fn on_dequeued(&self, rank: Rank) {
        self.waiting[rank.priority.index()].fetch_sub(REQUEST + u64::from(rank.cost), SeqCst);
        if rank.flow != NO_FLOW {
            for cell in self.cells(rank) {
                cell.fetch_sub(rank.cost, Relaxed);
            }
        }
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

    fn weight_of(&self, index: usize) -> u64 {
        self.waiting[index].load(SeqCst) % REQUEST
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        Priority::ALL.map(|priority| self.waiting_of(priority)).iter().sum()
    }

    pub(crate) fn waiting_of(&self, priority: Priority) -> usize {
        (self.waiting[priority.index()].load(SeqCst) / REQUEST) as usize
    }

    /// What goes before a newcomer, if the oldest goes first: what waits of its priority and of higher ones; or,
    /// if that is less, what all flows of its priority will have had by the time it is served.
    pub(crate) fn ahead_of(&self, rank: Rank) -> QueueSize {
        let index = rank.priority.index();
        let higher: QueueSize = (0..index).map(|index| self.waiting_at(index)).sum();
        let equal = self.waiting_at(index);
        let active = self.active[index].load(Relaxed) as u64;
        if rank.flow == NO_FLOW || active == 0 {
            return higher + equal;
        }
        let own = self.weight_of_flow(rank) + u64::from(rank.cost);
        let share = own * active;
        if share >= equal.weight {
            return higher + equal;
        }
        // As many as have that weight, if they are like all.
        let requests = (equal.requests * share).div_ceil(equal.weight);
        higher + QueueSize { requests, weight: share }
    }

    /// All that waits.
    pub(crate) fn all(&self) -> QueueSize {
        (0..LEVELS).map(|index| self.waiting_at(index)).sum()
    }

    fn waiting_at(&self, index: usize) -> QueueSize {
        let both = self.waiting[index].load(SeqCst);
        QueueSize { requests: both / REQUEST, weight: both % REQUEST }
    }

    /// Takes over what the line knows of each priority.
    pub(crate) fn publish(&self, shapes: [LevelSummary; LEVELS]) {
        for (index, shape) in shapes.into_iter().enumerate() {
            self.active[index].store(shape.active, Relaxed);
            self.longest[index].store(shape.longest, Relaxed);
            self.flowless[index].store(shape.flowless, Relaxed);
        }
    }
}

/// How long the windows are at whose end the cut is found anew: as in DAGOR.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;

    /// The default priority has this shape, and the others are empty.
    fn shapes(normal: LevelSummary) -> [LevelSummary; LEVELS] {
        let mut shapes = [LevelSummary::default(); LEVELS];
        shapes[Priority::Normal.index()] = normal;
        shapes
    }

    #[test]
    fn a_higher_priority_and_a_shorter_flow_are_let_in_when_others_can_give_way() {
        let door = Occupancy::new(Instant::now());
        let when_full = |class: Class| door.when_full(Overflow::Reject, class.rank, 1);
        let low = Class::new().priority(Priority::Low).rank;
        assert_eq!(when_full(Class::new()), WhenFull::Refuse);
        door.on_queued(low);
        assert_eq!(when_full(Class::new()), WhenFull::Evict);
        assert_eq!(when_full(Class::new().priority(Priority::Background)), WhenFull::Refuse);
        door.on_dequeued(low);
        assert_eq!(when_full(Class::new()), WhenFull::Refuse);

        let long = Class::new().flow("long");
        (0..5).for_each(|_| door.on_queued(long.rank));
        door.publish(shapes(LevelSummary { active: 1, longest: 5, flowless: 0 }));
        assert_eq!(when_full(long), WhenFull::Refuse);
        assert_eq!(when_full(Class::new().flow("short")), WhenFull::Evict);
        assert_eq!(when_full(Class::new()), WhenFull::Evict, "those without a flow are one");
        door.publish(shapes(LevelSummary { active: 2, longest: 5, flowless: 5 }));
        assert_eq!(when_full(Class::new()), WhenFull::Refuse);
    }

    #[test]
    fn what_goes_before_a_newcomer_is_what_its_share_leaves() {
        let door = Occupancy::new(Instant::now());
        let long = Class::new().flow("long").rank;
        (0..100).for_each(|_| door.on_queued(long));
        door.on_queued(Class::new().priority(Priority::High).rank);
        door.publish(shapes(LevelSummary { active: 2, longest: 100, flowless: 0 }));
        let ahead_of = |rank| door.ahead_of(rank).requests;
        assert_eq!(ahead_of(long), 101);
        assert_eq!(ahead_of(Class::new().flow("short").rank), 3);
        assert_eq!(ahead_of(Class::new().priority(Priority::High).rank), 1);
    }

    #[test]
    fn a_priority_that_is_cut_off_keeps_a_little_waiting() {
        let now = Instant::now();
        let door = Occupancy::new(now);
        let low = Class::new().priority(Priority::Low).rank;
        door.set_cut(0, now);
        assert!(door.is_open_to(low, 4, || now));
        door.on_queued(low);
        assert!(!door.is_open_to(low, 4, || now));
        assert!(door.is_open_to(low, 5, || now));
        assert!(door.is_open_to(low, 4, || now + 3 * WINDOW), "nobody was there to lift the cut");
    }
}
