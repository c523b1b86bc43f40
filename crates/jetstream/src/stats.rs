use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The books of a worker. `delivered` = `acked` + `naked` + `requeued` + `buried` + `repeated` +
/// `in_hand`, up to changes during the read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Messages delivered to the worker.
    pub delivered: u64,
    /// Messages done.
    pub acked: u64,
    /// Of the messages acked: late ones, acked without a call since the asker had stopped waiting.
    pub late: u64,
    /// Messages given back, to be delivered again.
    pub naked: u64,
    /// Messages stored again at the tail of the stream for a retry, since too many waited for
    /// theirs already.
    pub requeued: u64,
    /// Messages moved to the dead-letter stream.
    pub buried: u64,
    /// Messages delivered again while still in hand. Each is worked on once.
    pub repeated: u64,
    /// Messages in hand now: waiting in the worker, in the leveler, or running.
    pub in_hand: u64,
    /// The most messages in hand at once.
    pub most_in_hand: u64,
    /// Messages asked for and not delivered yet.
    pub asked_for: u64,
    /// Requests to the broker for more messages.
    pub pulls: u64,
    /// Signs to the broker of a message still worked on.
    pub progress: u64,
    /// Connections and subscriptions, the first included.
    pub generations: u64,
    /// Messages left by a killed broker and acked by the worker before, now removed.
    pub debris: u64,
    /// Messages left by a killed broker without a chance of delivery, now stored again. Some may
    /// have been done.
    pub rescued: u64,
}

/// The work of a worker, returned at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The books. Messages still in hand go to others after
    /// [`ack_wait`](crate::queue::Builder::ack_wait).
    pub stats: WorkerStats,
    /// Whether everything in hand was settled before the deadline of the drain.
    pub drained: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) delivered: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) naked: AtomicU64,
    pub(crate) requeued: AtomicU64,
    pub(crate) buried: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) in_hand: AtomicU64,
    pub(crate) most_in_hand: AtomicU64,
    pub(crate) asked_for: AtomicU64,
    pub(crate) pulls: AtomicU64,
    pub(crate) progress: AtomicU64,
    pub(crate) generations: AtomicU64,
    pub(crate) debris: AtomicU64,
    pub(crate) rescued: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> WorkerStats {
        WorkerStats {
            delivered: self.delivered.load(Relaxed),
            acked: self.acked.load(Relaxed),
            late: self.late.load(Relaxed),
            naked: self.naked.load(Relaxed),
            requeued: self.requeued.load(Relaxed),
            buried: self.buried.load(Relaxed),
            repeated: self.repeated.load(Relaxed),
            in_hand: self.in_hand.load(Relaxed),
            most_in_hand: self.most_in_hand.load(Relaxed),
            asked_for: self.asked_for.load(Relaxed),
            pulls: self.pulls.load(Relaxed),
            progress: self.progress.load(Relaxed),
            generations: self.generations.load(Relaxed),
            debris: self.debris.load(Relaxed),
            rescued: self.rescued.load(Relaxed),
        }
    }
}

impl WorkerStats {
    /// Returns whether the books balance. A snapshot of a running worker may be off by
    /// changes during the read.
    #[must_use]
    pub fn balances(&self) -> bool {
        let settled = self.acked + self.naked + self.requeued + self.buried;
        self.delivered == settled + self.repeated + self.in_hand
    }
}

impl fmt::Display for WorkerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivered, acked, naked, requeued, buried, repeated, in_hand, .. } = self;
        write!(
            f,
            "delivered {delivered} = acked {acked} + naked {naked} + requeued {requeued} + \
             buried {buried} + repeated {repeated} + in hand {in_hand}"
        )
    }
}
