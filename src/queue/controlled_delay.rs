//! Controlled delay: the removal of requests from a standing queue.

use std::time::Duration;

use tokio::time::Instant;

/// The rule of folly's `Codel` class. If the *shortest* wait of an interval was above the target,
/// the queue is standing. Then the drain task removes requests with waits of more than twice the
/// target, until the shortest wait of an interval is no longer above the target. A burst drained
/// within an interval loses no request.
///
/// The square-root law of RFC 8289 waits for senders to slow down, and requests do not.
#[derive(Debug, Default)]
pub(super) struct ControlledDelay {
    /// The end of the interval.
    until: Option<Instant>,
    /// The shortest wait in the interval, up to now.
    shortest: Duration,
    /// Set if the shortest wait of the last interval was above the target.
    is_standing: bool,
}

/// The length of an interval: 100 ms, as in folly. A faster burst loses no request.
const INTERVAL: Duration = Duration::from_millis(100);

impl ControlledDelay {
    /// Returns whether to remove the oldest request. Its wait at its turn is `age`.
    pub(super) fn is_overdue(&mut self, now: Instant, age: Duration, target: Duration) -> bool {
        match self.until {
            Some(until) if now < until => self.shortest = self.shortest.min(age),
            until => {
                // If no request had a turn for an interval, a long wait proves nothing.
                let is_recent = until.is_some_and(|until| now < until + INTERVAL);
                self.is_standing = is_recent && self.shortest > target;
                self.until = Some(now + INTERVAL);
                self.shortest = age;
                // The first request of an interval is spared. Its wait may show a short queue.
                return false;
            }
        }
        self.is_standing && age > target * 2
    }

    /// Records an empty queue, as a wait of zero.
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
