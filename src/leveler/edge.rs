use std::time::Duration;

use tokio::time::Instant;

/// Decides which changes of a condition to report. The begin of a condition is reported at most
/// once in ten seconds, however often it comes and goes.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    is_told: bool,
    begun: Option<Instant>,
}

/// The least time between two begins: few enough events for a log of months, and soon enough for an
/// operator watching.
const APART: Duration = Duration::from_secs(10);

impl Edge {
    /// Takes the present state of the condition. Returns `holds` if the change is to be reported.
    pub(crate) fn look(&mut self, holds: bool, now: Instant) -> Option<bool> {
        let is_recent = |begun| now.saturating_duration_since(begun) < APART;
        if holds == self.is_told || holds && self.begun.is_some_and(is_recent) {
            return None;
        }
        self.is_told = holds;
        if holds {
            self.begun = Some(now);
        }
        Some(holds)
    }

    /// Returns whether the begin was told, and the end was not.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_flickers_is_told_at_most_once_in_ten_seconds() {
        let (origin, mut edge) = (Instant::now(), Edge::default());
        let told = (0..1000u64).filter_map(|tenth| {
            let now = origin + Duration::from_millis(100 * tenth);
            edge.look(tenth % 2 == 0, now).map(|holds| (holds, tenth))
        });
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), 20, "ten pairs in a hundred seconds: {told:?}");
        for (nth, (holds, _)) in told.iter().enumerate() {
            assert_eq!(*holds, nth % 2 == 0, "a begin, and then its end");
        }
    }

    #[test]
    fn a_condition_that_still_holds_after_ten_seconds_is_told_then() {
        let (origin, mut edge) = (Instant::now(), Edge::default());
        let at = |seconds| origin + Duration::from_secs(seconds);
        assert_eq!(edge.look(true, at(0)), Some(true));
        assert_eq!(edge.look(false, at(1)), Some(false));
        assert_eq!(edge.look(true, at(2)), None);
        assert_eq!(edge.look(true, at(10)), Some(true));
    }
}
