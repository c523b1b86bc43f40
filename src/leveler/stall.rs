use std::time::Duration;

use tokio::time::Instant;

use super::{edge::Edge, vitals::Vitals};

/// Decides when to tell of a stall: no call ends, all slots are taken, and requests wait, wait for
/// a place, or are turned away.
///
/// Pure: the drain task passes the vitals.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    /// The first look since the last end of a call.
    since: Option<Vitals>,
    /// The time when a stall would be long enough.
    due: Option<Instant>,
    edge: Edge,
}

/// The time between looks after a stall was told and the last waiting request has gone. While
/// requests wait, the end of a call wakes the drain task.
pub(crate) const IDLE_LOOK: Duration = Duration::from_secs(5);

/// An event about a stall, with the time for which nothing has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StallEvent {
    Begins(Duration),
    Ends(Duration),
}

impl Stall {
    pub(crate) fn look(&mut self, vitals: Vitals) -> Option<StallEvent> {
        let Vitals { now, ended, .. } = vitals;
        let since = *self.since.get_or_insert(vitals);
        let lasts = now.saturating_duration_since(since.now);
        let is_still = ended == since.ended && vitals.is_all_taken;
        // Once told, requests may have left in despair: the stall ends with the end of a call.
        let is_wanted = self.edge.is_told()
            || vitals.queued > 0
            || vitals.waiting_for_place > 0
            || vitals.rejected.total() > since.rejected.total();
        if !(is_still && is_wanted) {
            // With a free slot, a stall cannot have begun. The next look may be much later.
            self.since = vitals.is_all_taken.then_some(vitals);
            self.due = None;
            let told = self.edge.look(false, now);
            return told.map(|_| StallEvent::Ends(lasts));
        }
        let due = since.now + vitals.patience;
        self.due = Some(due);
        let told = now >= due && self.edge.look(true, now).is_some();
        told.then_some(StallEvent::Begins(lasts))
    }

    /// Returns whether the begin was told, and the end was not.
    pub(crate) fn is_told(&self) -> bool {
        self.edge.is_told()
    }

    /// Returns the time of the next look, if an unreported stall may have begun.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.is_told())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leveler::vitals::testing::at;

    /// Looks at each time, in seconds, with the number of calls ended by then.
    fn tell(looks: &[(f64, u64)]) -> Vec<(f64, bool)> {
        let (origin, mut stall) = (Instant::now(), Stall::default());
        let look = |(seconds, ended): &(f64, u64)| {
            let vitals = Vitals { ended: *ended, ..at(origin, *seconds, 0, 0) };
            let event = stall.look(vitals)?;
            Some((*seconds, matches!(event, StallEvent::Begins(_))))
        };
        looks.iter().filter_map(look).collect()
    }

    #[test]
    fn a_stall_is_told_once_after_five_seconds_and_when_it_ends() {
        let looks = [(0.0, 7), (1.0, 7), (4.9, 7), (5.0, 7), (60.0, 7), (61.0, 8), (62.0, 8)];
        assert_eq!(tell(&looks), [(5.0, true), (61.0, false)]);
    }

    #[test]
    fn calls_that_end_are_no_stall() {
        let looks: Vec<_> = (0..100).map(|nth| (4.0 * f64::from(nth), nth as u64)).collect();
        assert_eq!(tell(&looks), []);
    }

    #[test]
    fn calls_that_are_known_to_take_longer_are_no_stall() {
        let (origin, mut stall) = (Instant::now(), Stall::default());
        let patience = Duration::from_secs(40);
        for seconds in [0.0, 5.0, 39.0] {
            let vitals = Vitals { patience, ..at(origin, seconds, 0, 0) };
            assert_eq!(stall.look(vitals), None, "{seconds} s");
        }
        let vitals = Vitals { patience, ..at(origin, 41.0, 0, 0) };
        let lasts = Duration::from_secs(41);
        assert_eq!(stall.look(vitals), Some(StallEvent::Begins(lasts)));
    }

    #[test]
    fn full_slots_for_which_nobody_waits_are_no_stall() {
        let (origin, mut stall) = (Instant::now(), Stall::default());
        for seconds in [0.0, 5.0, 60.0] {
            let vitals = Vitals { queued: 0, ..at(origin, seconds, 0, 0) };
            assert_eq!(stall.look(vitals), None, "{seconds} s");
        }
        // Turned away is as good as waiting.
        let vitals = |seconds, full| Vitals { queued: 0, ..at(origin, seconds, 0, full) };
        assert_eq!(stall.look(vitals(61.0, 1)), None, "for 1 s");
        let told = stall.look(vitals(66.0, 2));
        assert_eq!(told, Some(StallEvent::Begins(Duration::from_secs(6))));
    }

    #[test]
    fn a_pause_between_two_bursts_is_no_stall() {
        let (origin, mut stall) = (Instant::now(), Stall::default());
        // The last look finds all at rest. Nobody looks again before the next burst.
        let rest = Vitals { is_all_taken: false, queued: 0, ..at(origin, 1.0, 0, 0) };
        assert_eq!(stall.look(rest), None);
        assert_eq!(stall.look(at(origin, 20.0, 0, 0)), None, "the slots were free until now");
        assert_eq!(stall.look(at(origin, 24.9, 0, 0)), None);
        let told = stall.look(at(origin, 25.0, 0, 0));
        assert_eq!(told, Some(StallEvent::Begins(Duration::from_secs(5))));
    }

    #[test]
    fn a_stall_of_free_slots_is_over() {
        let (origin, mut stall) = (Instant::now(), Stall::default());
        assert_eq!(stall.look(at(origin, 0.0, 0, 0)), None);
        assert!(stall.look(at(origin, 5.0, 0, 0)).is_some());
        let vitals = Vitals { is_all_taken: false, ..at(origin, 6.0, 0, 0) };
        assert_eq!(stall.look(vitals), Some(StallEvent::Ends(Duration::from_secs(6))));
    }
}
