//! Items and random numbers for tests.

use std::{cell::Cell, rc::Rc};

use tokio::time::Instant;

use super::item::QueueItem;

/// A request for tests, with the answers to give.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: u32,
    pub(crate) gone: Rc<Cell<bool>>,
    pub(crate) left: Rc<Cell<bool>>,
    pub(crate) late: Option<Instant>,
}

impl Item {
    pub(crate) fn new(id: u32) -> Self {
        Self { id, gone: Rc::default(), left: Rc::default(), late: None }
    }

    /// Returns how often this thread has asked whether a request is gone.
    pub(crate) fn looks() -> u64 {
        LOOKS.get()
    }
}

thread_local! {
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

impl QueueItem for Item {
    fn is_gone(&self) -> bool {
        LOOKS.set(LOOKS.get() + 1);
        self.gone.get()
    }

    fn has_left(&self) -> bool {
        self.left.get()
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
