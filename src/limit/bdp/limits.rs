use super::{
    ceiling::Ceiling,
    interval::Interval,
    phase::{Phase, Trial},
    startup::Startup,
    statistics::Mean,
};
use crate::limit::bounds::Bounds;

/// The limit believed to be right, within its bounds and below its ceiling, and the limits to try
/// around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bounds: Bounds,
    pub(super) ceiling: Ceiling,
    believed: f64,
    /// A slow mean of `believed`.
    usual: f64,
    /// The lowest limit tried so far.
    lowest: f64,
}

/// The highest initial limit to raise at once. From a higher start the search looks downward first:
/// too much costs more than too little.
const MAX_STARTUP_INITIAL: f64 = 8.0;
/// The limit to try in `ProbeUp`, as a multiple of the believed limit.
const PROBE_UP_GAIN: f64 = 1.25;
/// The same for `ProbeDown`.
const PROBE_DOWN_GAIN: f64 = 0.6;
/// The share of the usual limit below which small steps have become a large cut.
const CREPT_DOWN: f64 = 0.75;

impl Limits {
    pub(super) fn new(bounds: Bounds) -> Self {
        let start = bounds.start();
        Self { bounds, ceiling: Ceiling::default(), believed: start, usual: start, lowest: start }
    }

    pub(super) fn believed(&self) -> f64 {
        self.believed
    }

    /// Returns the trial to begin with, when nothing is known.
    pub(super) fn first_trial(&self) -> Trial {
        let high = self.believed > MAX_STARTUP_INITIAL;
        let phase = if high { Phase::Verify } else { Phase::startup(Mean::default()) };
        Trial { phase, limit: self.believed, warm_up: 0.0 }
    }

    /// Returns a limit that was certainly not too much lately.
    pub(super) fn good(&self) -> f64 {
        self.believed.min(self.usual)
    }

    /// Returns the limit to try for `limit`, and remembers the lowest.
    pub(super) fn try_next(&mut self, limit: f64) -> f64 {
        let limit = self.whole(limit);
        self.lowest = self.lowest.min(limit);
        limit
    }

    /// Returns the lowest allowed limit.
    pub(super) fn min(&self) -> f64 {
        self.bounds.min
    }

    /// Returns the allowed limit nearest to `limit`, in whole calls.
    pub(super) fn whole(&self, limit: f64) -> f64 {
        self.bounds.clamp(limit.round())
    }

    /// Believes in another limit, or the nearest allowed limit.
    pub(super) fn set(&mut self, limit: f64) {
        self.believed = self.bounds.clamp(self.ceiling.cap(limit));
    }

    /// Makes the believed limit the usual limit.
    pub(super) fn settle(&mut self) {
        self.usual = self.believed;
    }

    /// Moves the usual limit a little. Returns whether small steps have led far below. Then the
    /// believed limit becomes the usual limit.
    pub(super) fn has_crept_down(&mut self) -> bool {
        let crept = self.believed < CREPT_DOWN * self.usual;
        self.usual += if crept { 1.0 } else { 0.1 } * (self.believed - self.usual);
        crept
    }

    /// Returns a trial of the believed limit itself.
    pub(super) fn again(&self, phase: Phase) -> Trial {
        Trial { phase, limit: self.believed, warm_up: 0.0 }
    }

    /// Returns a `ProbeUp`, or a `Cruise` if the ceiling forbids more.
    pub(super) fn probe_up(&self, warm_up: f64) -> Trial {
        let believed = self.believed.round();
        let limit = (PROBE_UP_GAIN * self.believed).round().max(believed + 1.0);
        let limit = self.ceiling.cap(limit);
        if limit > believed {
            return Trial { phase: Phase::ProbeUp, limit, warm_up };
        }
        self.cruise(warm_up)
    }

    /// Returns a `Cruise` without a `ProbeUp` to compare with.
    pub(super) fn cruise(&self, warm_up: f64) -> Trial {
        Trial { phase: Phase::Cruise { above: None }, limit: self.believed.round(), warm_up }
    }

    /// Returns a `ProbeDown`, or a `ProbeUp` if the lowest limit is believed.
    pub(super) fn probe_down(&self, warm_up: f64) -> Trial {
        let limit = self.whole(PROBE_DOWN_GAIN * self.believed);
        if limit < self.believed {
            return Trial { phase: Phase::ProbeDown, limit, warm_up };
        }
        self.probe_up(warm_up)
    }

    /// Returns a startup from twice the limit of an interval.
    pub(super) fn startup_above(&self, base: Mean, below: Interval) -> Trial {
        let startup = Startup::from(base).above(below);
        let limit = self.double(below.limit);
        Trial { phase: Phase::Startup(startup), limit, warm_up: 1.0 }
    }

    /// Returns a look below the lowest limit tried, if even the lowest may have been too much.
    pub(super) fn below_start(&self, startup: &Startup, interval: &Interval) -> Option<Trial> {
        let limit = 0.5 * self.lowest;
        if self.whole(limit) >= self.lowest {
            return None;
        }
        let cut = startup.cut_below(self.lowest, *interval)?;
        let warm_up = 1.0 - limit / interval.limit;
        Some(Trial { phase: Phase::Backoff(cut), limit, warm_up })
    }

    /// Returns twice as much as `limit`, or the ceiling.
    pub(super) fn double(&self, limit: f64) -> f64 {
        self.ceiling.cap(2.0 * limit)
    }

    /// Returns whether nothing above `limit` is allowed.
    pub(super) fn is_highest(&self, limit: f64) -> bool {
        limit >= self.ceiling.cap(self.bounds.max)
    }
}
