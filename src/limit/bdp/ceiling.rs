use super::interval::Interval;

/// Remembers a limit at which throughput collapsed, as if a backend ran out of memory or fought
/// over locks.
///
/// No limit above is tried until the ceiling is forgotten, after a number of tries that doubles
/// with each further collapse.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceiling {
    /// The highest limit to try.
    limit: f64,
    /// The number of tries, each a `Cruise`, until the ceiling is forgotten.
    left: u32,
    /// The number of tries for which the next ceiling holds.
    next: u32,
}

/// The number of tries for which the first ceiling holds. Few, since an apparent collapse may be
/// chance.
const FIRST: u32 = 4;
/// The most tries. A collapse costs some hundred calls, and a try 384: if a backend breaks at any
/// limit above, every 64 tries lose about 1 %.
const MAX: u32 = 64;
/// The fall of throughput that is a collapse, as a difference of logarithms (a quarter less), with
/// three standard errors on top. A pool of servers loses nothing with more calls.
const COLLAPSE: f64 = 0.3;

impl Default for Ceiling {
    fn default() -> Self {
        Self { limit: f64::INFINITY, left: 0, next: FIRST }
    }
}

impl Ceiling {
    /// Returns whether throughput is much lower at a higher limit than at a lower limit.
    pub(super) fn is_broken(lower: &Interval, higher: &Interval, variation: f64) -> bool {
        let error = (variation * (1.0 / higher.count + 1.0 / lower.count)).sqrt();
        lower.limit < higher.limit && (lower.rate / higher.rate).ln() > COLLAPSE + 3.0 * error
    }

    /// Remembers that `bad` was too much and `good` was not. The next try is in the geometric
    /// middle.
    pub(super) fn set(&mut self, good: f64, bad: f64) {
        self.limit = (good * bad).sqrt().min(bad - 1.0).max(good).floor();
        self.left = self.next;
        self.next = (2 * self.next).min(MAX);
    }

    /// Returns the limit, or the ceiling if lower.
    pub(super) fn cap(&self, limit: f64) -> f64 {
        if self.left > 0 { limit.min(self.limit) } else { limit }
    }

    /// Counts a try.
    pub(super) fn count_try(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}
