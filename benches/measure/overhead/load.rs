//! The situations in which the contenders are measured.

use tokio::runtime::{Builder, Runtime};

use crate::work::Work;

pub(crate) const LIMIT: usize = 64;
pub(crate) const CAPACITY: usize = 1024;

#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) work: Work,
    /// Tasks that make one call after the other.
    pub(crate) callers: usize,
    /// All their calls together.
    pub(crate) calls: usize,
    /// How many calls may run at once.
    pub(crate) limit: usize,
    /// Whether it is counted which calls were queued. That takes a nanosecond or two.
    pub(crate) watched: bool,
}

impl Load {
    pub(crate) fn new(work: Work, callers: usize, calls: usize) -> Self {
        Self { work, callers, calls, limit: LIMIT, watched: false }
    }

    pub(crate) fn calls_of_each(&self) -> usize {
        self.calls.div_ceil(self.callers)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Threads {
    Current,
    Two,
    Four,
}

impl Threads {
    /// With a timer, which an adaptive limit needs.
    pub(crate) fn runtime(self) -> Runtime {
        let mut builder = match self {
            Self::Current => Builder::new_current_thread(),
            Self::Two | Self::Four => Builder::new_multi_thread(),
        };
        let workers = if self == Self::Four { 4 } else { 2 };
        builder.worker_threads(workers).enable_time().build().expect("a runtime")
    }
}
