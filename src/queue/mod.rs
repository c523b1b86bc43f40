//! The line: what waits, in which order, and until when.
//!
//! Plain structs. Time comes in as an argument; there is no clock, lock or `await` here, so all of it is
//! tested without a runtime. From the outside in:
//!
//! - [`FairQueue`]: five levels, one for each priority. Higher ones first, each with its guaranteed share.
//! - [`PriorityLevel`](level::PriorityLevel): flows. The one that has had least of the inner's time first.
//! - [`Requests`](requests::Requests): requests, the oldest or the newest first, as [`AdaptiveLifo`](turn::AdaptiveLifo) says, and past
//!   those in [`Parked`](lanes::Parked), whose inner is not ready.
//!
//! [`Expiry`] is beside it: who is late, whatever the order. [`Pace`] says when the next may go, and
//! [`Cut`] who is not even let in under lasting overload.

mod adaptive_lifo;
mod charge;
mod controlled_delay;
mod expiry;
mod fair_queue;
mod flow_table;
mod heavy_hitters;
mod longest_queue;
mod open_charges;
mod parked;
mod priority_level;
mod requests;
mod rules;
#[cfg(test)]
mod tests;
mod virtual_time_heap;

pub(crate) use self::{
    adaptive_lifo::MIN_THRESHOLD,
    charge::Charge,
    expiry::Expiry,
    fair_queue::{FairQueue, Next, Times, Victim},
    open_charges::ChargeId,
    priority_level::LevelSummary,
    rules::Rules,
};

use tokio::time::Instant;

use crate::class::Rank;

/// Names the inner service that a request is for.
pub(crate) type InnerId = usize;

/// Names a queue of a priority level; given to another queue when the first is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueId(u32);

impl QueueId {
    #[inline]
    fn new(index: usize) -> Self {
        Self(index as u32)
    }

    #[inline]
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Something that waits, and may have gone without saying so to the line.
pub(crate) trait QueueItem {
    fn is_gone(&self) -> bool;
    /// Until when it may wait.
    fn late(&self) -> Option<Instant>;
}

/// One request in the line.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    /// Position in the order of arrival; given by the line.
    pub(crate) seq: u64,
    pub(crate) inner: InnerId,
    pub(crate) rank: Rank,
    pub(crate) admitted: Instant,
    pub(crate) item: T,
}

impl<T> Entry<T> {
    /// Slots that it takes.
    pub(crate) fn weight(&self) -> u64 {
        u64::from(self.rank.cost)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::{cell::Cell, rc::Rc};

    use tokio::time::Instant;

    use super::QueueItem;

    /// A request that can be told to have gone.
    #[derive(Clone, Debug)]
    pub(crate) struct Item {
        pub(crate) id: u32,
        pub(crate) gone: Rc<Cell<bool>>,
        pub(crate) late: Option<Instant>,
    }

    impl Item {
        pub(crate) fn new(id: u32) -> Self {
            Self { id, gone: Rc::default(), late: None }
        }
    }

    impl QueueItem for Item {
        fn is_gone(&self) -> bool {
            self.gone.get()
        }

        fn late(&self) -> Option<Instant> {
            self.late
        }
    }

    /// SplitMix64: the same numbers for the same seed, on every machine.
    #[derive(Debug)]
    pub(crate) struct Random(u64);

    impl Random {
        pub(crate) fn new(seed: u64) -> Self {
            Self(seed)
        }

        pub(crate) fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            crate::rng::mix(self.0)
        }

        pub(crate) fn below(&mut self, end: u64) -> u64 {
            self.next() % end
        }
    }
}
