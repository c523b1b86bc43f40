//! Controlled delay: what stood too long in a queue that never empties is removed.

use std::time::Duration;

use tokio::time::Instant;

/// The rule of folly's `Codel` class: when the *shortest* wait of an interval was above the target, the queue
/// is a standing one, and those that have waited more than twice the target are removed, until an interval
/// shows that it is one no more. A burst that drains within an interval is left alone.
///
/// Unlike the square-root law of RFC 8289 it does not wait for senders to slow down, which requests do not.
#[derive(Debug, Default)]
pub(super) struct ControlledDelay {
    /// End of the interval.
    until: Option<Instant>,
    /// The shortest wait in it so far.
    shortest: Duration,
    is_standing: bool,
}

/// As in folly.
const INTERVAL: Duration = Duration::from_millis(100);

impl ControlledDelay {
    /// Whether the oldest request, waiting for `age` at its turn, is to be removed.
    pub(super) fn is_overdue(&mut self, now: Instant, age: Duration, target: Duration) -> bool {
        match self.until {
            Some(until) if now < until => self.shortest = self.shortest.min(age),
            until => {
                // After a time in which nobody came to its turn, one old request proves nothing.
                let is_recent = until.is_some_and(|until| now < until + INTERVAL);
                self.is_standing = is_recent && self.shortest > target;
                self.until = Some(now + INTERVAL);
                self.shortest = age;
                // The first of an interval is spared: it may be the one that shows that the queue is short.
                return false;
            }
        }
        self.is_standing && age > target * 2
    }

    /// Nothing waits any more.
    pub(super) fn on_empty(&mut self) {
        self.shortest = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(5);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_standing_queue_is_cut_to_twice_the_target() {
        let (mut delay, start) = (ControlledDelay::default(), Instant::now());
        let mut overdue = |at, age| delay.is_overdue(start + ms(at), ms(age), TARGET);
        assert!((0..10).all(|nth| !overdue(nth * 10, 30)), "an interval has to pass first");
        assert!(!overdue(100, 30), "the first of an interval is spared");
        assert!(overdue(101, 11));
        assert!(!overdue(102, 10), "twice the target is not more than twice the target");
    }

    #[test]
    fn one_short_wait_in_an_interval_shows_that_the_queue_does_not_stand() {
        let (mut delay, start) = (ControlledDelay::default(), Instant::now());
        let mut overdue = |at, age| delay.is_overdue(start + ms(at), ms(age), TARGET);
        overdue(0, 30);
        overdue(50, 2);
        overdue(100, 30);
        assert!(!overdue(110, 30));
    }

    #[test]
    fn emptying_the_queue_ends_it() {
        let (mut delay, start) = (ControlledDelay::default(), Instant::now());
        delay.is_overdue(start, ms(30), TARGET);
        delay.on_empty();
        delay.is_overdue(start + ms(100), ms(30), TARGET);
        assert!(!delay.is_overdue(start + ms(110), ms(30), TARGET));
    }

    #[test]
    fn a_stale_request_after_an_idle_time_proves_nothing() {
        let (mut delay, start) = (ControlledDelay::default(), Instant::now());
        delay.is_overdue(start, ms(30), TARGET);
        delay.is_overdue(start + ms(10_000), ms(9000), TARGET);
        assert!(!delay.is_overdue(start + ms(10_001), ms(9001), TARGET));
    }
}
