//! Adaptive LIFO: the choice of the end of a queue to take from.

use std::time::Duration;

use crate::options::Order;

/// An end of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Oldest,
    Newest,
}

/// The state of [`Order::AdaptiveLifo`] for a queue.
///
/// ```text
/// oldest first ──▶ newest first    two requests in a row had waited longer than the threshold
/// newest first ──▶ oldest first    the oldest has waited less than half of the threshold
/// ```
///
/// Two, because a single old request may be a leftover: its inner was not ready, or the leveler was
/// paused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AdaptiveLifo {
    newest_first: bool,
    /// The position of the last request found old at its turn.
    last_old: Option<u64>,
}

impl AdaptiveLifo {
    /// Returns the end to take from. The oldest request is at position `seq` and has waited `age`.
    pub(super) fn end(
        &mut self,
        order: Order,
        seq: u64,
        age: Duration,
        threshold: impl Fn() -> Duration,
    ) -> End {
        self.newest_first = match order {
            Order::Fifo => false,
            Order::Lifo => true,
            Order::AdaptiveLifo if self.newest_first => age >= threshold() / 2,
            // Most requests are young and need no threshold.
            Order::AdaptiveLifo if age > MIN_THRESHOLD && age > threshold() => {
                self.last_old.replace(seq).is_some_and(|other| other != seq)
            }
            Order::AdaptiveLifo => {
                self.last_old = None;
                false
            }
        };
        if self.newest_first { End::Newest } else { End::Oldest }
    }
}

/// The least threshold: 1 ms. A queue whose oldest request has waited less is not standing.
pub(crate) const MIN_THRESHOLD: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_millis(60);

    fn end(lifo: &mut AdaptiveLifo, seq: u64, age: u64) -> End {
        lifo.end(Order::AdaptiveLifo, seq, Duration::from_millis(age), || AFTER)
    }

    #[test]
    fn turns_when_two_in_a_row_are_old_and_back_when_the_oldest_is_young_again() {
        let mut lifo = AdaptiveLifo::default();
        assert_eq!(end(&mut lifo, 1, 61), End::Oldest);
        assert_eq!(end(&mut lifo, 2, 61), End::Newest);
        assert_eq!(end(&mut lifo, 2, 59), End::Newest, "not back at once");
        assert_eq!(end(&mut lifo, 3, 30), End::Newest);
        assert_eq!(end(&mut lifo, 4, 29), End::Oldest);
    }

    #[test]
    fn one_stale_request_does_not_turn_it() {
        let mut lifo = AdaptiveLifo::default();
        assert_eq!(end(&mut lifo, 1, 10_000), End::Oldest);
        assert_eq!(end(&mut lifo, 1, 10_001), End::Oldest, "it is the same one, put back");
        assert_eq!(end(&mut lifo, 2, 1), End::Oldest, "those behind it are fresh");
        assert_eq!(end(&mut lifo, 3, 70), End::Oldest);
    }
}
