//! Turning requests away, and telling when to come back.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::time::Instant;

use super::{
    Core,
    door::{WINDOW, Waiting},
    estimates::Budget,
};
use crate::{
    class::Rank,
    error::{Reason, Rejected},
    options::Order,
};

/// A longer wait says no more than "not soon", and the rate it is computed from will have changed.
const MAX_RETRY_AFTER: f64 = 60.0;

/// How far `retry_after` is spread either way, so that those who are rejected together do not come back
/// together.
const SPREAD: f64 = 0.2;

/// One in so many who are refused looks how fast calls end. That needs the clock; and no more than the end of a
/// window in which that is measured is missed by the others.
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
pub(crate) enum Foreseen {
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
                let soon = self.spread(WINDOW.as_secs_f64());
                rejected.retry_after = rejected.retry_after.max(Some(soon));
            }
            Refusal::WouldMiss { by_itself: true } => rejected.retry_after = None,
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
            Reason::Closed | Reason::NoRuntime => None,
            _ => self.time_for(all).map(|time| self.spread(time)),
        };
        let queued = all.requests as usize;
        let limit = self.places.limit();
        Rejected { reason, retry_after, waited, queued, limit, over_share: false }
    }

    /// How many seconds it takes until all this, or one call, has ended: by the rate at which calls lately did, or
    /// by what the limit allows.
    fn time_for(&self, waiting: Waiting) -> Option<f64> {
        let by_limit = || {
            let each = self.estimates.service_time()?.as_secs_f64() / self.exact_limit();
            Some(each * waiting.weight.max(1) as f64)
        };
        self.rate.time_for(waiting.requests.max(1)).or_else(by_limit)
    }

    fn spread(&self, seconds: f64) -> Duration {
        let random = self.draw();
        let spread = seconds.min(MAX_RETRY_AFTER) * (1.0 - SPREAD + 2.0 * SPREAD * random);
        // In range, and a number: what is not a number is more than the most.
        Duration::from_nanos((spread.min(MAX_RETRY_AFTER) * 1e9) as u64)
    }

    /// Whether a newcomer would be served by its deadline: predicted from what goes before it, when that
    /// is not overtaken, and the service time of those like it. Never when nothing is in flight.
    pub(crate) fn would_be_in_time(
        &self,
        rank: Rank,
        budget: Budget,
        left: Duration,
        now: Instant,
    ) -> Result<Foreseen, Refusal> {
        let waits = self.settings.line.order == Order::Fifo && self.queued() > 0;
        let wait = if waits { self.time_for(self.door.ahead_of(rank)) } else { None };
        match self.foresee(budget, wait.unwrap_or(0.0), left, now) {
            Foreseen::TooLate => {
                let by_itself = self.estimates.foreseen(budget) > Some(left.as_secs_f32());
                Err(Refusal::WouldMiss { by_itself })
            }
            other => Ok(other),
        }
    }

    /// Whether a request that is dispatched after so many seconds will be ready in the time that is left.
    pub(super) fn foresee(
        &self,
        budget: Budget,
        wait: f64,
        left: Duration,
        now: Instant,
    ) -> Foreseen {
        if self.places.counts().in_flight() == 0 {
            self.estimates.fade(now);
            return Foreseen::InTime;
        }
        match self.estimates.foreseen(budget) {
            Some(service) if wait as f32 + service > left.as_secs_f32() => {
                let may_probe = self.estimates.may_probe(budget, service, now);
                if may_probe { Foreseen::Probe } else { Foreseen::TooLate }
            }
            _ => Foreseen::InTime,
        }
    }
}
