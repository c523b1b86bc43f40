use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// What the first polls of calls are like, and so whether the next one is made in `call` itself, before there is
/// a task for it.
///
/// A task costs more than all else that this layer does to a call; one whose future is ready at its first poll
/// needs none. But while `call` polls, nothing else of its caller goes on, so what is polled there has to be
/// short. Every [`EVERY`]th direct call is measured, wherever it is polled.
#[derive(Debug)]
pub(crate) struct InlinePolling(AtomicU64);

/// One in so many is measured: for the two looks at the clock that this takes.
const EVERY: u64 = 16;

/// The mean of nanoseconds up to which first polls are short. Some thirty times what a task costs (`cargo bench -p
/// overhead`): by no more, for each call, is one held up who makes many at once and could have them run on all cores.
const SHORT: f32 = 10_000.0;

/// Of the calls so many have to be ready at their first poll. A box for the future costs a twentieth of a task; a
/// poll in vain, what the inner makes of it.
const ENOUGH: f32 = 0.25;

/// Of a new measurement. With nothing known, three calls that are ready at once are enough to begin with it; one
/// that takes eight times as long as is short, to end it.
const WEIGHT: f32 = 0.125;

/// What is to be done about the first poll of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstPoll {
    /// Not in `call`.
    OnTask,
    /// In `call`, if others were short.
    Open,
    /// The same, and it is measured.
    Measured,
}

impl FirstPoll {
    /// Of the direct call after so many others.
    pub(crate) fn of(nth: u64) -> Self {
        if nth % EVERY == 0 { Self::Measured } else { Self::Open }
    }
}

thread_local! {
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, no first poll is made in `call` on this thread: the inner of a leveler is being called, under a
/// lock, and may be behind another leveler; or such a poll is being made, and others within would go on the same
/// stack.
#[derive(Debug)]
pub(crate) struct InCall {
    before: bool,
}

impl InCall {
    pub(crate) fn begin() -> Self {
        Self { before: IN_CALL.replace(true) }
    }
}

impl Drop for InCall {
    fn drop(&mut self) {
        IN_CALL.set(self.before);
    }
}

impl InlinePolling {
    pub(crate) const fn new() -> Self {
        // No call was ready, and none took long.
        Self(AtomicU64::new(0))
    }

    /// Whether to make the first poll in `call`.
    #[inline]
    pub(crate) fn in_place(&self) -> bool {
        let (ready, nanos) = self.load();
        ready >= ENOUGH && nanos <= SHORT && !IN_CALL.get()
    }

    /// A first poll took so long. Of two threads that record at once one may be lost.
    pub(crate) fn record(&self, is_ready: bool, took: Duration) {
        let (ready, nanos) = self.load();
        let ready = ready + WEIGHT * (f32::from(u8::from(is_ready)) - ready);
        let nanos = nanos + WEIGHT * (took.as_secs_f32() * 1e9 - nanos);
        self.0.store(u64::from(ready.to_bits()) << 32 | u64::from(nanos.to_bits()), Relaxed);
    }

    /// The share that was ready, and the mean.
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
        inline_polling.in_place()
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
