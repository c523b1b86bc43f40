//! The guaranteed share of each priority.

use crate::class::Priority;

/// The number of priority levels.
pub(crate) const LEVELS: usize = Priority::ALL.len();

/// The debts to the levels from their guaranteed share, in nanoseconds of the inner's time.
///
/// A waiting level is owed the share of each dispatch. Once the debt is worth a request, the level
/// goes before higher levels, and the request pays off the debt.
#[derive(Debug)]
pub(super) struct GuaranteedShare {
    /// The part of each dispatch owed to each waiting level; see
    /// [`Rules::guaranteed_share`](super::rules::Rules::guaranteed_share).
    share: f64,
    owed: [f64; LEVELS],
    /// Set if any level is owed anything.
    is_owing: bool,
}

impl GuaranteedShare {
    pub(super) fn new(share: f64) -> Self {
        Self { share, owed: [0.0; LEVELS], is_owing: false }
    }

    /// The debt to a level.
    #[inline]
    pub(super) fn owed(&self, level: usize) -> f64 {
        self.owed[level]
    }

    #[inline]
    pub(super) fn is_owing(&self) -> bool {
        self.is_owing
    }

    /// Adds the share of a dispatch of `nanos` to the debts to the waiting levels, and pays off the
    /// debt to its own `level`. A level without a waiting request is owed nothing any more.
    /// `is_only` says that no other level waits. Returns how much was paid.
    #[inline(always)]
    pub(super) fn on_dispatch(
        &mut self,
        level: usize,
        nanos: u64,
        is_only: bool,
        is_waiting: impl Fn(usize) -> bool,
    ) -> f64 {
        let nanos = nanos as f64;
        if is_only && !self.is_owing {
            // The level pays off at once what the dispatch adds.
            return nanos * self.share;
        }
        self.on_dispatch_among(level, nanos, is_waiting)
    }

    /// Adds and pays off as [`on_dispatch`](Self::on_dispatch) says, if debts matter.
    fn on_dispatch_among(
        &mut self,
        level: usize,
        nanos: f64,
        is_waiting: impl Fn(usize) -> bool,
    ) -> f64 {
        for (index, owed) in self.owed.iter_mut().enumerate() {
            let takes_part = index == level || is_waiting(index);
            *owed = if takes_part { *owed + nanos * self.share } else { 0.0 };
        }
        let owed = &mut self.owed[level];
        let paid = nanos.min(*owed);
        *owed -= paid;
        self.update();
        paid
    }

    /// Undoes the dispatch of a request of `nanos`, after which the debt to `level` was `paid` off.
    pub(super) fn refund(&mut self, level: usize, nanos: u64, paid: f64) {
        self.owed[level] += paid;
        let gathered = nanos as f64 * self.share;
        self.owed.iter_mut().for_each(|owed| *owed = (*owed - gathered).max(0.0));
        self.update();
    }

    #[inline]
    fn update(&mut self) {
        self.is_owing = self.owed.iter().any(|owed| *owed > 0.0);
    }
}
