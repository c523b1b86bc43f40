//! Inline polling: making the first poll of a call in `call` itself, before a task exists.

use std::time::Duration;

use crate::{
    leveler::nesting::NoInline,
    sync::figure::{AtomicU64, Ordering::Relaxed},
};

/// Measures first polls, and decides by the results whether to poll the next call inline.
///
/// A task costs more than all other work of this layer for a call. A call ready at the first poll
/// needs no task. But a poll in `call` holds up the rest of the caller, and has to be short. Every
/// [`INTERVAL`]th direct call is measured, whether polled inline or not.
#[derive(Debug)]
pub(crate) struct InlinePolling(AtomicU64);

/// The number of calls for each measurement, which reads the clock twice.
pub(crate) const INTERVAL: u64 = 16;

/// The mean up to which first polls are short, in nanoseconds. About thirty times the cost of a
/// task (the bench `overhead`). The mean bounds the harm: if a caller makes many calls at once,
/// which tasks would run in parallel, the caller loses at most as much per call.
const SHORT: f32 = 10_000.0;

/// The same, as a time.
pub(crate) const SHORT_TIME: Duration = Duration::from_micros(10);

/// The least share of calls ready at the first poll. A box for the future costs a twentieth of a
/// task. The cost of a poll in vain depends on the inner.
const MIN_READY: f32 = 0.25;

/// The weight of a new measurement. From nothing, three calls ready at once switch inline polling
/// on. A poll of eight times [`SHORT`] switches inline polling off.
const WEIGHT: f32 = 0.125;

/// The way to make the first poll of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstPoll {
    /// By the task of the call.
    OnTask,
    /// Inline, if past polls were short.
    Inline,
    /// Inline, if past polls were short, and measured.
    Measured,
}

impl FirstPoll {
    /// Returns the way to poll the direct call number `nth`.
    pub(crate) fn of(nth: u64) -> Self {
        if nth % INTERVAL == 0 { Self::Measured } else { Self::Inline }
    }
}

impl InlinePolling {
    pub(crate) const fn new() -> Self {
        // No call was ready, and none took long.
        Self(AtomicU64::new(0))
    }

    /// Returns whether to make the next first poll inline.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        let (ready, nanos) = self.load();
        ready >= MIN_READY && nanos <= SHORT && !NoInline::is_on()
    }

    /// Returns whether first polls are short, as far as known.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.load().1 <= SHORT
    }

    /// Records a first poll. If two threads record at once, a poll may be lost.
    pub(crate) fn record(&self, is_ready: bool, took: Duration) {
        let (ready, nanos) = self.load();
        let ready = ready + WEIGHT * (f32::from(u8::from(is_ready)) - ready);
        let nanos = nanos + WEIGHT * (took.as_secs_f32() * 1e9 - nanos);
        self.0.store(u64::from(ready.to_bits()) << 32 | u64::from(nanos.to_bits()), Relaxed);
    }

    /// Returns the share of ready polls, and the mean time in nanoseconds.
    #[inline]
    fn load(&self) -> (f32, f32) {
        let word = self.0.load(Relaxed);
        (f32::from_bits((word >> 32) as u32), f32::from_bits(word as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(2);
    const LONG: Duration = Duration::from_micros(200);

    fn after(polls: impl IntoIterator<Item = (bool, Duration)>) -> bool {
        let inline_polling = InlinePolling::new();
        polls.into_iter().for_each(|(is_ready, took)| inline_polling.record(is_ready, took));
        inline_polling.is_on()
    }

    #[test]
    fn calls_that_are_ready_soon_are_polled_in_place_once_that_is_known() {
        assert!(!after([]));
        assert!(!after([(true, SHORT); 2]));
        assert!(after([(true, SHORT); 3]));
        assert!(after([(true, SHORT), (false, SHORT)].repeat(50)), "every other one will do");
    }

    #[test]
    fn calls_that_take_long_or_are_not_ready_are_not() {
        assert!(!after([(true, LONG); 100]));
        assert!(!after([(false, SHORT); 100]));
        assert!(
            !after([[(true, SHORT); 15].as_slice(), &[(true, LONG * 20)]].concat()),
            "the mean counts"
        );
    }

    #[test]
    fn it_is_noticed_when_calls_turn_out_otherwise() {
        let polls = |before, after| [[before; 100].as_slice(), after].concat();
        assert!(!after(polls((true, SHORT), &[(true, LONG)])));
        assert!(!after(polls((true, SHORT), &[(false, SHORT); 11])));
        assert!(after(polls((true, LONG), &[(true, SHORT); 25])));
        assert!(after(polls((false, SHORT), &[(true, SHORT); 3])));
    }
}
