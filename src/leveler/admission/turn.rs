//! The turn to dispatch.

use crate::sync::{
    atomic::{AtomicU8, Ordering::SeqCst},
    fault::{Fault, is_planted},
};

/// Lets only one task at a time take requests out of the queue to call the inner: calls are made in
/// the order of the queue (law 7).
///
/// ```text
/// Free ──▶ Taken ──▶ Missed       another came, found the turn taken, and left
///   ▲        │          │
///   └────────┴──────────┘         the end: after Missed, the drain task looks again
/// ```
///
/// Nobody waits for the turn, which is held within one poll. If a task finds the turn taken, it
/// leaves its free slot to the holder, and a mark. All these operations are `SeqCst`: the mark
/// comes before the end of the turn, and the holder wakes the drain task after the end.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicU8);

const FREE: u8 = 0;
const TAKEN: u8 = 1;
const MISSED: u8 = 2;

impl Turn {
    /// Takes the turn. Returns whether the turn was free.
    #[inline]
    pub(super) fn try_take(&self) -> bool {
        self.0.compare_exchange(FREE, TAKEN, SeqCst, SeqCst).is_ok()
    }

    /// Takes the turn, or leaves a mark for the holder.
    pub(super) fn take_or_mark(&self) -> bool {
        loop {
            if self.try_take() {
                return true;
            }
            if is_planted(Fault::TurnMissed) {
                return false;
            }
            match self.0.compare_exchange(TAKEN, MISSED, SeqCst, SeqCst) {
                Ok(_) | Err(MISSED) => return false,
                Err(_) => {}
            }
        }
    }

    /// Ends the turn. Returns whether other tasks came meanwhile.
    pub(super) fn end(&self) -> bool {
        self.0.swap(FREE, SeqCst) == MISSED
    }
}
