use crate::error::Reason;

/// A count for every [`Reason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReasonCounts {
    /// Rejections with [`Reason::Full`].
    pub full: u64,
    /// Rejections with [`Reason::CutOff`].
    pub cut_off: u64,
    /// Rejections with [`Reason::Bypass`].
    pub bypass: u64,
    /// Rejections with [`Reason::Evicted`].
    pub evicted: u64,
    /// Rejections with [`Reason::MaxWait`].
    pub max_wait: u64,
    /// Rejections with [`Reason::Deadline`].
    pub deadline: u64,
    /// Rejections with [`Reason::WouldMissDeadline`].
    pub would_miss_deadline: u64,
    /// Rejections with [`Reason::Delay`].
    pub delay: u64,
    /// Rejections with [`Reason::Closed`].
    pub closed: u64,
    /// Rejections with [`Reason::NoRuntime`].
    pub no_runtime: u64,
    /// Rejections with [`Reason::Nested`].
    pub nested: u64,
}

impl ReasonCounts {
    /// Returns the sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        Reason::ALL.iter().map(|reason| self.get(*reason)).sum()
    }

    /// Builds the counts from an array in the order of [`Reason::ALL`].
    pub(crate) fn from_counts(counts: [u64; Reason::ALL.len()]) -> Self {
        let [
            full,
            cut_off,
            bypass,
            evicted,
            max_wait,
            deadline,
            would_miss_deadline,
            delay,
            closed,
            no_runtime,
            nested,
        ] = counts;
        Self {
            full,
            cut_off,
            bypass,
            evicted,
            max_wait,
            deadline,
            would_miss_deadline,
            delay,
            closed,
            no_runtime,
            nested,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self::from_counts(Reason::EACH.map(|reason| self.get(reason) + other.get(reason)))
    }

    /// Returns the counts since `earlier`.
    pub(crate) fn minus(self, earlier: Self) -> Self {
        let count = |reason: Reason| self.get(reason).saturating_sub(earlier.get(reason));
        Self::from_counts(Reason::EACH.map(count))
    }

    /// Returns the counts of the reasons that are signs of load on the queue. A request that
    /// bypasses the queue says nothing of the queue, and counts among the arrivals only if refused.
    pub(crate) fn of_queue_load(self) -> Self {
        let is_sign = |reason: Reason| reason.is_of_load() && reason != Reason::Bypass;
        let count = |reason: Reason| if is_sign(reason) { self.get(reason) } else { 0 };
        Self::from_counts(Reason::EACH.map(count))
    }

    /// Returns the reason with the highest count, if any is above zero. The first of
    /// [`Reason::ALL`] of several.
    #[must_use]
    pub fn largest(&self) -> Option<Reason> {
        let counted = Reason::EACH.into_iter().filter(|reason| self.get(*reason) > 0);
        counted.rev().max_by_key(|reason| self.get(*reason))
    }

    /// Returns the count for one reason.
    #[must_use]
    pub fn get(&self, reason: Reason) -> u64 {
        match reason {
            Reason::Full => self.full,
            Reason::CutOff => self.cut_off,
            Reason::Bypass => self.bypass,
            Reason::Evicted => self.evicted,
            Reason::MaxWait => self.max_wait,
            Reason::Deadline => self.deadline,
            Reason::WouldMissDeadline => self.would_miss_deadline,
            Reason::Delay => self.delay,
            Reason::Closed => self.closed,
            Reason::NoRuntime => self.no_runtime,
            Reason::Nested => self.nested,
        }
    }
}
