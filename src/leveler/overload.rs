use std::time::Duration;

use tokio::time::Instant;

use super::{
    edge::Edge,
    vitals::{Period, Vitals},
};

/// Decides when to tell of overload: the begin, a summary of each minute, and the end.
///
/// Pure: the drain task passes the vitals about once a second.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    /// The last look, while looks follow on each other.
    before: Option<Vitals>,
    /// The beginning of the first in the present row of overloaded periods.
    since: Option<Vitals>,
    edge: Edge,
    minute: Option<Minute>,
}

/// The minute of a summary.
#[derive(Debug)]
struct Minute {
    began: Vitals,
    ends: Instant,
}

/// An event about overload, with the counts of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverloadEvent {
    /// Since the first rejections.
    Begins(Period),
    /// In the last minute.
    GoesOn(Period),
    /// Since the first rejections, to the end.
    Ends(Period),
}

/// The shortest period to judge. Two in a row have to be overloaded, so a shorter burst is never
/// reported.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// The time between two summaries.
const SUMMARY: Duration = Duration::from_secs(60);

impl Overload {
    /// Judges the time since the last look, if long enough. The first look only begins a period.
    pub(crate) fn look(&mut self, vitals: Vitals) -> Option<OverloadEvent> {
        let before = *self.before.get_or_insert(vitals);
        let period = vitals.since(&before);
        if period.length < LOOK {
            return None;
        }
        self.before = Some(vitals);
        let is_over = period.is_overloaded();
        let is_first = self.since.is_none();
        let since = *self.since.get_or_insert(before);
        if is_over && is_first {
            return None;
        }
        let told = self.edge.look(is_over, vitals.now);
        if !is_over {
            self.since = None;
        }
        match told {
            Some(true) => {
                self.minute = Some(Minute { began: since, ends: since.now + SUMMARY });
                Some(OverloadEvent::Begins(vitals.since(&since)))
            }
            Some(false) => {
                self.minute = None;
                Some(OverloadEvent::Ends(vitals.since(&since)))
            }
            None => self.summary(vitals),
        }
    }

    fn summary(&mut self, vitals: Vitals) -> Option<OverloadEvent> {
        let minute = self.minute.as_mut().filter(|minute| minute.ends <= vitals.now)?;
        let period = vitals.since(&minute.began);
        // In step with the first minute, unless nobody has looked for a whole minute.
        let next = minute.ends + SUMMARY;
        let ends = if next > vitals.now { next } else { vitals.now + SUMMARY };
        *minute = Minute { began: vitals, ends };
        Some(OverloadEvent::GoesOn(period))
    }

    /// Returns whether the next look may have something to tell.
    pub(crate) fn needs_look(&self) -> bool {
        self.since.is_some()
    }

    /// Ends the looks for now.
    pub(crate) fn rest(&mut self) {
        self.before = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leveler::vitals::testing::at;

    /// Looks once a second. Of 100 requests a second, `rejected` are turned away in each.
    fn tell(rejected: impl IntoIterator<Item = u64>) -> Vec<(u64, &'static str)> {
        let (origin, mut overload, mut told) = (Instant::now(), Overload::default(), Vec::new());
        let mut full = 0;
        overload.look(at(origin, 0.0, 0, 0));
        for (nth, rejected) in (1u64..).zip(rejected) {
            full += rejected;
            if let Some(event) = overload.look(at(origin, nth as f64, 100 * nth, full)) {
                told.push((nth, word(event)));
            }
            if !overload.needs_look() {
                overload.rest();
                overload.look(at(origin, nth as f64, 100 * nth, full));
            }
        }
        told
    }

    fn word(event: OverloadEvent) -> &'static str {
        match event {
            OverloadEvent::Begins(_) => "begins",
            OverloadEvent::GoesOn(_) => "goes on",
            OverloadEvent::Ends(_) => "ends",
        }
    }

    #[test]
    fn overload_is_told_once_it_has_lasted_and_so_is_its_end() {
        let seconds = [0, 0, 50, 50, 50, 50, 0, 0];
        assert_eq!(tell(seconds), [(4, "begins"), (7, "ends")]);
    }

    #[test]
    fn a_burst_in_a_single_second_is_not_told() {
        assert_eq!(tell([0, 90, 0, 90, 0, 90, 0, 0, 90]), []);
    }

    #[test]
    fn one_percent_is_no_overload() {
        assert_eq!(tell([1; 100]), []);
    }

    #[test]
    fn ten_minutes_have_ten_summaries() {
        let told = tell([50; 600]);
        let summaries: Vec<_> = told.iter().filter(|(_, word)| *word == "goes on").collect();
        assert_eq!(summaries.len(), 10, "{told:?}");
        assert_eq!(told.len(), 11, "{told:?}");
    }

    #[test]
    fn overload_that_comes_and_goes_is_told_at_most_once_in_ten_seconds() {
        let told = tell((0..100).map(|nth| if nth % 4 < 2 { 50 } else { 0 }));
        let begun: Vec<_> = told.iter().filter(|(_, word)| *word == "begins").collect();
        assert!(begun.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 10), "{told:?}");
        assert!(begun.len() >= 5, "it is told: {told:?}");
    }

    #[test]
    fn looks_in_quick_succession_are_one() {
        let (origin, mut overload) = (Instant::now(), Overload::default());
        for nth in 0..100u32 {
            let told = overload.look(at(origin, f64::from(nth) / 100.0, 10 * u64::from(nth), 5));
            assert_eq!(told, None);
        }
    }
}
