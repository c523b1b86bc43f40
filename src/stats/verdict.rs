//! The state of a leveler in a word, a sentence, and numbers.

use std::{fmt, time::Duration};

use super::reason_counts::ReasonCounts;
use crate::{
    error::Reason,
    words::{display_words, words},
};

/// The state of a leveler over a period, with the numbers behind the state. From
/// [`Stats::verdict`](crate::Stats::verdict).
///
/// For readiness probes, logs and pages alike. `Display` prints the sentence:
///
/// ```text
/// Overloaded. 1486 requests arrive a second, 5.4 times what it does (276). 81 % are turned away,
/// most because the priority is cut off under overload.
/// ```
///
/// ```
/// # use tower_load_leveling::{LoadLevelLayer, stats::State};
/// # let handle = LoadLevelLayer::new(16, 4).handle();
/// let before = handle.stats();
/// // … ten seconds later …
/// let verdict = handle.stats().since(&before).verdict();
/// let is_ready = !matches!(verdict.state, State::Draining | State::Closed | State::Stalled);
/// assert_eq!(verdict.to_string(), "Idle. No requests arrive.");
/// # assert!(is_ready);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Verdict {
    /// The state in a word.
    pub state: State,
    /// The judged period.
    pub period: Duration,
    /// The requests asked for in the period: admitted or refused.
    pub asked: u64,
    /// The calls finished in the period: with a response, an error or a panic.
    pub done: u64,
    /// The requests refused on arrival or removed from the queue in the period.
    pub turned_away: u64,
    /// The most frequent reason of rejection.
    pub main_reason: Option<Reason>,
    /// The requests waiting now.
    pub queued: usize,
    /// The time since admission of the oldest waiting request.
    pub oldest_wait: Option<Duration>,
    /// The slots in use now.
    pub slots_taken: usize,
    /// The limit now.
    pub limit: usize,
    pub(super) signs: Signs,
}

/// The state of a leveler in a word. If several apply, the first of this list counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Closed, and all admitted requests have finished.
    Closed,
    /// Closed, and admitted requests wait or run.
    Draining,
    /// Paused: nothing is dispatched.
    Paused,
    /// For 5 s or longer nothing was dispatched and nothing has finished, while all slots are taken
    /// and more requests want one: requests wait, services wait for a place, or requests were
    /// turned away under load. Without a capacity nothing else shows a stall.
    Stalled,
    /// More than 1 % of the arrived requests were turned away under load: for any reason but
    /// [`Bypass`](Reason::Bypass), [`Closed`](Reason::Closed), [`NoRuntime`](Reason::NoRuntime) and
    /// [`Nested`](Reason::Nested).
    Overloaded,
    /// Some requests wait, or had to; or services wait for a place, or had to.
    Leveling,
    /// Requests run as they come.
    Calm,
    /// Nothing was asked for, and nothing runs but [bypassing](crate::Class::bypass) requests.
    Idle,
}

words!(State, "state", {
    Closed = "closed",
    Draining = "draining",
    Paused = "paused",
    Stalled = "stalled",
    Overloaded = "overloaded",
    Leveling = "leveling",
    Calm = "calm",
    Idle = "idle",
});
display_words!(State);

/// The shortest period without an end that counts as a stall: 5 s. Longer than the slowest calls of
/// most services, and short beside an operator's time to look.
const STALL: Duration = Duration::from_secs(5);

/// The share of requests turned away under load above which a leveler is overloaded: 1 %. An
/// occasional burst has a smaller share refused.
const OVERLOAD: f64 = 0.01;

/// The other facts behind the state, beside the numbers of the verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Signs {
    /// The requests turned away in the period, by reason.
    pub(super) reasons: ReasonCounts,
    pub(super) closed: bool,
    pub(super) paused: bool,
    pub(super) in_flight: usize,
    pub(super) waiting_for_place: usize,
    /// The requests dispatched in the period.
    pub(super) dispatched: u64,
    /// The part of the dispatched requests that came through the queue, and the services that had
    /// to wait for a place.
    pub(super) leveled: u64,
}

impl Verdict {
    /// Derives the state from the numbers.
    pub(super) fn with_state(mut self) -> Self {
        let Signs { reasons, closed, paused, in_flight, waiting_for_place, dispatched, leveled } =
            self.signs;
        let of_load = reasons.of_queue_load();
        let is_busy = self.queued > 0 || in_flight > 0;
        let is_wanted = self.queued > 0 || waiting_for_place > 0 || of_load.total() > 0;
        let is_stuck = is_wanted && self.slots_taken >= self.limit;
        let is_still = dispatched == 0 && self.done == 0 && self.period >= STALL;
        self.state = if closed {
            if is_busy { State::Draining } else { State::Closed }
        } else if paused {
            State::Paused
        } else if is_stuck && is_still {
            State::Stalled
        } else if self.share(of_load) > OVERLOAD {
            State::Overloaded
        } else if self.queued > 0 || waiting_for_place > 0 || leveled > 0 {
            State::Leveling
        } else if is_busy || self.asked > 0 {
            State::Calm
        } else {
            State::Idle
        };
        self
    }

    /// Returns the verdict on this period and the following period together.
    ///
    /// A program that keeps a verdict a second can judge the last ten seconds. Ten snapshots take a
    /// hundred times the memory.
    ///
    /// ```
    /// # use tower_load_leveling::LoadLevelLayer;
    /// # let handle = LoadLevelLayer::new(16, 4).handle();
    /// let snapshots = [handle.stats(), handle.stats(), handle.stats()];
    /// let first = snapshots[1].since(&snapshots[0]).verdict();
    /// let second = snapshots[2].since(&snapshots[1]).verdict();
    /// assert_eq!(first.join(&second), snapshots[2].since(&snapshots[0]).verdict());
    /// ```
    #[must_use]
    pub fn join(&self, later: &Self) -> Self {
        let reasons = self.signs.reasons.plus(later.signs.reasons);
        let joined = Self {
            period: self.period + later.period,
            asked: self.asked + later.asked,
            done: self.done + later.done,
            turned_away: self.turned_away + later.turned_away,
            main_reason: reasons.largest(),
            signs: Signs {
                reasons,
                dispatched: self.signs.dispatched + later.signs.dispatched,
                leveled: self.signs.leveled + later.signs.leveled,
                ..later.signs
            },
            ..later.clone()
        };
        joined.with_state()
    }

    /// Returns the arrivals per second; 0 for a period of no length.
    #[must_use]
    pub fn asked_per_second(&self) -> f64 {
        self.per_second(self.asked)
    }

    /// Returns the finished calls per second; 0 for a period of no length.
    #[must_use]
    pub fn done_per_second(&self) -> f64 {
        self.per_second(self.done)
    }

    /// Returns the share of the requests turned away, from 0 to 1. Requests removed in the period
    /// may have arrived earlier.
    #[must_use]
    pub fn turned_away_share(&self) -> f64 {
        self.share(self.signs.reasons)
    }

    /// Returns the share of the requests turned away for some reasons.
    fn share(&self, reasons: ReasonCounts) -> f64 {
        (reasons.total() as f64 / self.asked.max(1) as f64).min(1.0)
    }

    fn per_second(&self, count: u64) -> f64 {
        if self.period.is_zero() { 0.0 } else { count as f64 / self.period.as_secs_f64() }
    }

    /// Returns the reasons to tell of a leveler that is not overloaded: none for an occasional
    /// rejection.
    fn worth_telling(&self) -> ReasonCounts {
        let reasons = self.signs.reasons;
        if self.share(reasons) > OVERLOAD { reasons } else { ReasonCounts::default() }
    }

    /// Writes how many requests were turned away for some reasons, and the most frequent reason.
    fn write_turned_away(&self, f: &mut fmt::Formatter<'_>, reasons: ReasonCounts) -> fmt::Result {
        let Some(reason) = reasons.largest() else { return Ok(()) };
        // Bypassing requests are not counted as arrivals unless refused, so no share is known.
        if self.asked == 0 || reason == Reason::Bypass {
            write!(f, " {} were turned away", reasons.total())?;
        } else {
            write!(f, " {:.0} % are turned away", 100.0 * self.share(reasons))?;
        }
        write!(f, ", most because {}.", self.because(reason))
    }

    /// Returns the reason in words to follow "because".
    fn because(&self, reason: Reason) -> String {
        match reason {
            Reason::Evicted => "another request took the place".to_owned(),
            // By `abort_queued`, or with the runtime of the drain task.
            Reason::Closed if !self.signs.closed => "the queue was cleared".to_owned(),
            other => other.to_string(),
        }
    }

    /// Writes how many services wait for a place, if any.
    fn write_waiting_for_place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signs.waiting_for_place {
            0 => Ok(()),
            services => write!(f, "; services waiting for a place: {services}"),
        }
    }

    /// Writes how many requests arrive, beside what is done.
    fn write_demand(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, done) = (self.asked_per_second(), self.done_per_second());
        write!(f, "{asked:.0} requests arrive a second, ")?;
        match asked / done {
            times if done > 0.0 && times >= 1.1 => {
                write!(f, "{times:.1} times what it does ({done:.0}).")
            }
            _ => write!(f, "and it does {done:.0}."),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queued, limit, slots_taken, .. } = self;
        match self.state {
            State::Closed => f.write_str("Closed. Requests are refused."),
            State::Draining => {
                f.write_str("Draining. Requests are refused; ")?;
                write!(f, "waiting: {queued}, slots taken: {slots_taken}.")
            }
            State::Paused => write!(f, "Paused. Nothing is dispatched; waiting: {queued}."),
            State::Stalled => {
                write!(f, "Stalled. Nothing has finished for {:.1?}, and all ", self.period)?;
                write!(f, "slots are taken ({limit}); waiting: {queued}")?;
                self.oldest_wait.map_or(Ok(()), |wait| write!(f, ", the oldest for {wait:.1?}"))?;
                self.write_waiting_for_place(f)?;
                f.write_str(".")?;
                self.write_turned_away(f, self.signs.reasons.of_queue_load())
            }
            State::Overloaded => {
                f.write_str("Overloaded. ")?;
                self.write_demand(f)?;
                self.write_turned_away(f, self.signs.reasons.of_queue_load())
            }
            State::Leveling => {
                f.write_str("Leveling. ")?;
                self.write_demand(f)?;
                write!(f, " Waiting: {queued}; slots taken: {slots_taken} of {limit}")?;
                self.write_waiting_for_place(f)?;
                f.write_str(".")?;
                self.write_turned_away(f, self.worth_telling())
            }
            State::Calm => {
                f.write_str("Calm. ")?;
                self.write_demand(f)?;
                write!(f, " None wait; slots taken: {slots_taken} of {limit}.")?;
                self.write_turned_away(f, self.worth_telling())
            }
            State::Idle => {
                f.write_str("Idle. No requests arrive.")?;
                self.write_turned_away(f, self.worth_telling())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 100 requests, those of `reasons` were turned away, and the others answered at once.
    fn verdict(reasons: &[(Reason, u64)]) -> Verdict {
        let mut counts = [0; Reason::ALL.len()];
        reasons.iter().for_each(|(reason, count)| counts[*reason as usize] = *count);
        let reasons = ReasonCounts::from_counts(counts);
        let done = 100 - reasons.total();
        let verdict = Verdict {
            state: State::Idle,
            period: Duration::from_secs(10),
            asked: 100,
            done,
            turned_away: reasons.total(),
            main_reason: reasons.largest(),
            queued: 0,
            oldest_wait: None,
            slots_taken: 0,
            limit: 4,
            signs: Signs {
                reasons,
                closed: false,
                paused: false,
                in_flight: 0,
                waiting_for_place: 0,
                dispatched: done,
                leveled: 0,
            },
        };
        verdict.with_state()
    }

    #[test]
    fn each_reason_is_of_load_or_not() {
        for (reason, state) in [
            (Reason::Full, State::Overloaded),
            (Reason::CutOff, State::Overloaded),
            (Reason::Bypass, State::Calm),
            (Reason::Evicted, State::Overloaded),
            (Reason::MaxWait, State::Overloaded),
            (Reason::Deadline, State::Overloaded),
            (Reason::WouldMissDeadline, State::Overloaded),
            (Reason::Delay, State::Overloaded),
            (Reason::Closed, State::Calm),
            (Reason::NoRuntime, State::Calm),
            (Reason::Nested, State::Calm),
        ] {
            let verdict = verdict(&[(reason, 20)]);
            assert_eq!(verdict.state, state, "{reason}");
            let text = verdict.to_string();
            let share = if reason == Reason::Bypass { "20 were" } else { "20 % are" };
            assert!(text.contains(&format!(" {share} turned away, most because ")), "{text}");
            assert_eq!((verdict.turned_away, verdict.main_reason), (20, Some(reason)));
        }
    }

    #[test]
    fn the_reasons_of_load_alone_make_and_explain_an_overload() {
        let overloaded = verdict(&[(Reason::Closed, 40), (Reason::Full, 3), (Reason::Delay, 2)]);
        assert_eq!(overloaded.state, State::Overloaded);
        let text = overloaded.to_string();
        assert!(text.ends_with(" 5 % are turned away, most because the queue is full."), "{text}");
        assert_eq!(overloaded.main_reason, Some(Reason::Closed), "of all");
        assert!((0.44..0.46).contains(&overloaded.turned_away_share()), "of all");
        let rest = verdict(&[(Reason::Closed, 40), (Reason::Full, 1)]);
        assert_eq!(rest.state, State::Calm);
        let text = rest.to_string();
        assert!(text.ends_with(" 41 % are turned away, most because the queue was cleared."));
        assert!(!verdict(&[(Reason::Full, 1)]).to_string().contains("turned away"));
    }
}
