//! Turning requests away, and telling when to come back.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::time::Instant;

use crate::leveler::{
    Core,
    occupancy::{QueueSize, WINDOW},
    prediction::Budget,
};
use crate::{
    class::Rank,
    error::{Reason, Rejected},
    options::Order,
    retry_after::{Estimate, RetryAfter},
    rng::seed,
};

/// One in so many who are refused looks how fast calls end, for which it needs the clock. Where requests wait, the
/// drain task looks as well. Where none can, and few are refused, that stays unknown, and `retry_after` says what the
/// limit and the service time come to.
const LOOK: u64 = 64;

/// Why a newcomer is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No place is free, and nobody gives way to it.
    NoPlace,
    /// Under lasting overload there is no room for its priority.
    CutOff,
    /// Too many go past the queue.
    Bypass,
    /// It would be late. For one that would be even if it need not wait it is of no use to come back.
    WouldMiss {
        by_itself: bool,
    },
    Late,
    Closed,
    NoRuntime,
}

/// Whether a request will be ready by its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prediction {
    InTime,
    TooLate,
    /// It will be too late, and may go on to find out whether that is true.
    Probe,
}

impl Refusal {
    fn reason(self) -> Reason {
        match self {
            Self::NoPlace | Self::CutOff | Self::Bypass => Reason::Full,
            Self::WouldMiss { .. } => Reason::WouldMissDeadline,
            Self::Late => Reason::Deadline,
            Self::Closed => Reason::Closed,
            Self::NoRuntime => Reason::NoRuntime,
        }
    }
}

impl Core {
    /// Turns a newcomer away. On the path of every refusal: no lock, no channel.
    pub(crate) fn refuse(&self, why: Refusal, rank: Rank) -> Rejected {
        let reason = why.reason();
        let before = self.counters.refused.add(rank.priority, reason);
        if before % LOOK == 0 {
            self.measure_rate(Instant::now());
        }
        let mut rejected = self.rejected(reason, Duration::ZERO);
        match why {
            Refusal::NoPlace => rejected.over_share = self.door.is_over_share(rank),
            Refusal::CutOff => {
                self.counters.cut_off.add(rank.priority);
                // Not before who is cut off is decided anew, however short the queue.
                let soon = WINDOW.as_secs_f32();
                rejected.retry_after = rejected.retry_after.no_sooner_than(soon);
            }
            Refusal::WouldMiss { by_itself: true } => rejected.retry_after = RetryAfter::NEVER,
            _ => {}
        }
        let Rejected { queued, limit, .. } = rejected;
        let name = &*self.settings.name;
        tracing::debug!(%name, reason = reason.as_str(), queued, limit, "request refused");
        let full = why == Refusal::NoPlace;
        if full && !self.overflowing.load(SeqCst) && !self.overflowing.swap(true, SeqCst) {
            tracing::info!(%name, queued, limit, "queue is full");
        }
        rejected
    }

    /// The answer for a request that is refused or removed now.
    #[inline]
    pub(crate) fn rejected(&self, reason: Reason, waited: Duration) -> Rejected {
        let all = self.door.all();
        let retry_after = match reason {
            Reason::Closed | Reason::NoRuntime => RetryAfter::NEVER,
            _ => RetryAfter::new(self.time_for(all), seed()),
        };
        let queued = all.requests as usize;
        let limit = self.places.limit();
        Rejected { reason, retry_after, waited, queued, limit, over_share: false }
    }

    /// How long it takes until all this, or one call, has ended: by the rate at which calls lately did, or by what
    /// the limit allows.
    fn time_for(&self, waiting: QueueSize) -> Estimate {
        if let Some(rate) = self.rate.per_second() {
            return Estimate::by_rate(rate, waiting.requests.max(1));
        }
        let by_limit = |nanos| Estimate::by_limit(nanos, waiting.weight.max(1), self.exact_limit());
        self.estimates.service_nanos().map_or(Estimate::Unknown, by_limit)
    }

    /// Whether a newcomer would be served by its deadline: predicted from what goes before it, when that
    /// is not overtaken, and the service time of those like it. Never when nothing is in flight.
    pub(crate) fn would_be_in_time(
        &self,
        rank: Rank,
        budget: Budget,
        left: Duration,
        now: Instant,
    ) -> Result<Prediction, Refusal> {
        let waits = self.settings.line.order == Order::Fifo && self.queued() > 0;
        let wait = if waits { self.time_for(self.door.ahead_of(rank)) } else { Estimate::Unknown };
        match self.predict(budget, wait.seconds().unwrap_or(0.0), left, now) {
            Prediction::TooLate => {
                let by_itself = self.estimates.predicted(budget) > Some(left.as_secs_f32());
                Err(Refusal::WouldMiss { by_itself })
            }
            other => Ok(other),
        }
    }

    /// Whether a request that is dispatched after so many seconds will be ready in the time that is left.
    pub(crate) fn predict(
        &self,
        budget: Budget,
        wait: f32,
        left: Duration,
        now: Instant,
    ) -> Prediction {
        if self.places.counts().in_flight() == 0 {
            self.estimates.fade(now);
            return Prediction::InTime;
        }
        match self.estimates.predicted(budget) {
            Some(service) if wait + service > left.as_secs_f32() => {
                let may_probe = self.estimates.may_probe(budget, service, now);
                if may_probe { Prediction::Probe } else { Prediction::TooLate }
            }
            _ => Prediction::InTime,
        }
    }
}
