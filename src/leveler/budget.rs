use std::time::Duration;

/// The time given to a request by the caller, as a kind and a fraction.
///
/// The upper byte is the kind: the power of two below the time, in milliseconds. The lower byte is
/// the way to the next power, in 256ths. Requests with similar deadlines count as one kind. With a
/// single mean for all, long calls of another kind would get short calls refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Budget(u16);

impl Budget {
    pub(crate) const KINDS: usize = 24;

    /// The budget of a request without a deadline: nothing is predicted or learned.
    pub(crate) const NONE: Self = Self(0);

    /// The budget of all times above about 35 minutes.
    const LAST: Self = Self((Self::KINDS as u16 - 1) << 8);

    /// Returns the budget of a request with the time `left` until the deadline.
    pub(crate) fn of(left: Duration) -> Self {
        let seconds = left.as_secs().saturating_mul(1_000_000);
        let micros = seconds.saturating_add(u64::from(left.subsec_micros()));
        // The first kind is for all times below a millisecond.
        let power = (micros / 1000).checked_ilog2();
        let kind = power.map_or(1, |power| power as u16 + 2);
        if kind >= Self::LAST.0 >> 8 {
            return Self::LAST;
        }
        // In units of the kind's power of a millisecond. The kind has the whole part, and the mask
        // drops the whole part.
        let fraction = (micros * 256 / 1000) >> power.unwrap_or(0);
        Self(kind << 8 | fraction as u16 & 0xff)
    }

    /// Returns whether the budget is used up after `time`, give or take a 256th.
    pub(crate) fn is_over(self, time: Duration) -> bool {
        self.time().is_some_and(|whole| time >= whole)
    }

    /// Returns the whole time, give or take a 256th. `None` if unbounded.
    pub(crate) fn time(self) -> Option<Duration> {
        if self == Self::NONE || self == Self::LAST {
            return None;
        }
        let (kind, fraction) = (self.0 >> 8, u64::from(self.0 & 0xff));
        let parts = if kind == 1 { fraction } else { (256 + fraction) << (kind - 2) };
        Some(Duration::from_micros(parts * 1000 / 256))
    }

    pub(crate) fn kind(self) -> usize {
        usize::from(self.0 >> 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn requests_with_other_deadlines_are_of_another_kind() {
        let budget = |ms: u32| Budget::of(MS * ms);
        assert_eq!(budget(130).kind(), budget(250).kind());
        assert_eq!(budget(0).kind(), 1);
        assert_ne!(budget(100).kind(), budget(200).kind());
        assert_eq!(Budget::of(Duration::MAX).kind(), Budget::KINDS - 1);
        assert_ne!(budget(0), Budget::NONE);
    }

    #[test]
    fn a_budget_is_over_when_its_deadline_has_come() {
        for micros in [1, 999, 1000, 7300, 100_000, 250_000, 999_999, 30_000_000, 1_800_000_000] {
            let left = Duration::from_micros(micros);
            let budget = Budget::of(left);
            assert!(budget.is_over(left), "{left:?}");
            assert!(!budget.is_over(left.mul_f64(0.99)) || micros < 1000, "{left:?}");
        }
        assert!(!Budget::of(MS * 100).is_over(MS * 100 - MS / 1000), "most are exact");
        for never in [Budget::NONE, Budget::of(Duration::MAX)] {
            assert!(!never.is_over(Duration::from_secs(1 << 40)));
        }
    }
}
