//! The line: what waits, in which order, and until when.
//!
//! Plain structs. Time comes in as an argument; there is no clock, lock or `await` here, so all of it is
//! tested without a runtime. From the outside in:
//!
//! - [`Line`]: five levels, one for each priority. Higher ones first, each with its guaranteed share.
//! - [`Level`](level::Level): flows. The one that has had least of the inner's time first.
//! - [`Flow`](flow::Flow): requests, the oldest or the newest first, as [`Turn`](turn::Turn) says, and past
//!   those in [`Lanes`](lanes::Lanes), whose inner is not ready.
//!
//! [`Expiry`] is beside it: who is late, whatever the order. [`Pace`] says when the next may go, and
//! [`Cut`] who is not even let in under lasting overload.

mod bills;
mod charge;
mod cut;
mod delay;
mod expiry;
mod flow;
mod group;
mod homes;
mod known;
mod lanes;
mod lengths;
mod level;
mod line;
mod loads;
mod pace;
mod rules;
#[cfg(test)]
mod tests;
mod turn;

pub(crate) use self::{
    bills::Bill,
    charge::Charge,
    cut::{Arrivals, Cut},
    expiry::Expiry,
    level::Shape,
    line::{Line, Next, Times, Victim},
    pace::{Pace, Rate},
    rules::Rules,
    turn::MIN_THRESHOLD,
};

use tokio::time::Instant;

use crate::class::Rank;

/// Names the inner service that a request is for.
pub(crate) type LaneId = usize;

/// Something that waits, and may have gone without saying so to the line.
pub(crate) trait Waiting {
    fn is_gone(&self) -> bool;
    /// Until when it may wait.
    fn late(&self) -> Option<Instant>;
}

/// One request in the line.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    /// Position in the order of arrival; given by the line.
    pub(crate) seq: u64,
    pub(crate) lane: LaneId,
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

/// Spreads the bits of a number over all of it: the last step of SplitMix64, by Steele, Lea and Flood.
pub(crate) fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
pub(crate) mod testing {
    use std::{cell::Cell, rc::Rc};

    use tokio::time::Instant;

    use super::Waiting;

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

    impl Waiting for Item {
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
            super::mix(self.0)
        }

        pub(crate) fn below(&mut self, end: u64) -> u64 {
            self.next() % end
        }
    }
}
