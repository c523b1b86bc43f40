//! The settings of a queue.

use std::time::Duration;

use super::item::{Entry, QueueItem};
use crate::options::Order;

/// The settings of a queue, as the user has chosen them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) order: Order,
    /// The threshold of adaptive LIFO, if set.
    pub(crate) lifo_after: Option<Duration>,
    /// Controlled delay: `None` is off, `Some(None)` follows the service time with its target.
    pub(crate) delay: Option<Option<Duration>>,
    /// The share of the inner's time for each priority while higher priorities wait.
    pub(crate) guaranteed_share: f64,
    /// The number of flows of a priority with a dedicated queue.
    pub(crate) dedicated_queues: usize,
    /// The most slots of each flow, if limited.
    pub(crate) flow_limit: Option<usize>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            order: Order::Fifo,
            lifo_after: None,
            delay: None,
            guaranteed_share: 0.05,
            dedicated_queues: 1024,
            flow_limit: None,
        }
    }
}

/// The shortest wait that shows a standing queue: 5 ms, the target of folly's controlled delay.
/// Shorter waits are noise.
const MIN_STANDING_WAIT: Duration = Duration::from_millis(5);

/// The threshold of adaptive LIFO while neither service time nor deadline is known: 50 ms, as in
/// the simulations behind this crate, with a service time of 20 ms.
const DEFAULT_THRESHOLD: Duration = Duration::from_millis(50);

impl Rules {
    /// Returns whether the oldest request is always next, however long it has waited.
    pub(super) fn is_plain(&self) -> bool {
        self.order == Order::Fifo && self.delay.is_none()
    }

    /// The wait of the oldest request above which the newest go first. Three service times show a
    /// standing queue. The threshold is at most a quarter of the time that the oldest may wait:
    /// otherwise the requests behind would be too late.
    pub(super) fn threshold<T: QueueItem>(
        &self,
        oldest: &Entry<T>,
        service: Option<Duration>,
    ) -> Duration {
        self.lifo_after.unwrap_or_else(|| {
            let may_wait =
                oldest.item.late().map(|at| at.saturating_duration_since(oldest.admitted) / 4);
            let standing = service.map(|service| service.saturating_mul(3));
            let known = may_wait.into_iter().chain(standing).min();
            known.unwrap_or(DEFAULT_THRESHOLD).max(MIN_STANDING_WAIT)
        })
    }

    /// The target of controlled delay, if on: half a service time unless set. Folly's 5 ms would be
    /// wrong for calls of 100 ms.
    pub(super) fn delay_target(&self, service: Option<Duration>) -> Option<Duration> {
        let by_service =
            || service.map_or(MIN_STANDING_WAIT, |service| (service / 2).max(MIN_STANDING_WAIT));
        self.delay.map(|target| target.unwrap_or_else(by_service))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::{class::Rank, queue::testing::Item};

    #[test]
    fn thresholds_follow_the_service_time_and_the_deadline() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let entry = |late: Option<u64>| {
            let late = late.map(|left| now + ms(left));
            let item = Item { late, ..Item::new(0) };
            Entry { seq: 0, inner: 0, rank: Rank::default(), admitted: now, item }
        };
        let rules = Rules::default();
        assert_eq!(rules.threshold(&entry(Some(500)), Some(ms(20))), ms(60));
        assert_eq!(rules.threshold(&entry(Some(100)), Some(ms(20))), ms(25));
        assert_eq!(rules.threshold(&entry(Some(100)), None), ms(25));
        assert_eq!(rules.threshold(&entry(None), Some(ms(1))), MIN_STANDING_WAIT);
        assert_eq!(rules.threshold(&entry(None), None), DEFAULT_THRESHOLD);
        let set = Rules { lifo_after: Some(ms(1)), delay: Some(None), ..rules };
        assert_eq!(set.threshold(&entry(Some(500)), Some(ms(20))), ms(1));
        assert_eq!(set.delay_target(Some(ms(100))), Some(ms(50)));
        assert_eq!(set.delay_target(None), Some(MIN_STANDING_WAIT));
    }
}
