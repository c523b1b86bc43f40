//! The cutoff under lasting overload: pure arithmetic.

use crate::class::Priority;

/// The number of cohorts in each priority, as in Tencent's DAGOR and Uber's Cinnamon. More cohorts
/// cut more finely.
pub(super) const COHORTS: u32 = 128;

/// The number of cohorts in all priorities. In their order, level 0 is the last to be refused.
pub(super) const SHED_LEVELS: usize = Priority::ALL.len() * COHORTS as usize;

/// A cutoff beyond all levels: nobody is refused.
pub(super) const OPEN: u32 = SHED_LEVELS as u32;

/// The share of arrivals from which a priority counts as in use. A single urgent request must not
/// make all others second-rate.
const MIN_SHARE: f64 = 0.01;

/// The factor by which admissions exceed the served requests, to keep the queue from running dry.
const HEADROOM: f64 = 1.05;

/// The factor by which admissions grow again, for each window in which the queue ran empty.
const RECOVERY: f64 = 1.25;

/// The priority of the cutoff, and the number of its requests with room in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cut {
    pub(super) priority: usize,
    pub(super) room: f64,
}

/// The first shed level to be refused.
///
/// If the queue never ran empty in a window, a histogram of the arrivals gives the cutoff: about as
/// many are let in as were served. In other windows the share let in grows by [`RECOVERY`].
///
/// Cohorts are hashes of flow and hour. Lasting overload therefore turns the same few callers away
/// everywhere, for an hour at most, instead of every caller now and then. Of the callers in need of
/// two services, half get through and not a quarter. Flows with [less demand than a fair
/// share](super::demand) are left alone.
#[derive(Debug)]
pub(super) struct Cutoff {
    /// The share of the arrivals to let in.
    share: f64,
    level: u32,
}

impl Cutoff {
    pub(super) fn new() -> Self {
        Self { share: 1.0, level: OPEN }
    }

    /// Moves the cutoff after a time of `windows` windows. Meanwhile `arrived` requests came, and
    /// `served` were dispatched; `stood` is false if the queue ran empty. Returns the cut, if any.
    pub(super) fn on_window(
        &mut self,
        arrived: &[u32; SHED_LEVELS],
        served: u64,
        stood: bool,
        windows: f64,
    ) -> Option<Cut> {
        let total: u64 = arrived.iter().map(|count| u64::from(*count)).sum();
        self.share = match stood {
            _ if total == 0 => 1.0,
            true => (served as f64 * HEADROOM / total as f64).min(1.0),
            false => (self.share * RECOVERY.powf(windows)).min(1.0),
        };
        self.level = OPEN;
        if self.share >= 1.0 {
            return None;
        }
        let room = self.share * total as f64;
        self.level = first_refused(arrived, room);
        if self.is_open() {
            return None;
        }
        let above = self.level - self.level % COHORTS;
        let higher: u32 = arrived[..above as usize].iter().sum();
        let room = (room - f64::from(higher)).max(0.0);
        Some(Cut { priority: (self.level / COHORTS) as usize, room })
    }

    /// Returns the first shed level to be refused.
    pub(super) fn level(&self) -> u32 {
        self.level
    }

    pub(super) fn is_open(&self) -> bool {
        self.level == OPEN
    }
}

/// Returns the first shed level not to fit into `room`. The highest priority in use is never cut:
/// among equals, order, fairness and the bound of the queue decide.
fn first_refused(arrived: &[u32; SHED_LEVELS], room: f64) -> u32 {
    let total: f64 = arrived.iter().map(|count| f64::from(*count)).sum();
    let of = |priority: &[u32]| priority.iter().map(|count| f64::from(*count)).sum::<f64>();
    let mut priorities = arrived.chunks(COHORTS as usize);
    let first = priorities.position(|counts| of(counts) >= total * MIN_SHARE).unwrap_or(0) + 1;
    let uncut = first * COHORTS as usize;
    let mut left = room - of(&arrived[..uncut]);
    let fits = arrived[uncut..].iter().take_while(|count| {
        left -= f64::from(**count);
        left >= 0.0
    });
    (uncut + fits.count()) as u32
}

#[cfg(test)]
mod tests {
    use super::{super::arrivals::Arrivals, *};
    use crate::class::Rank;

    fn arrive(arrivals: &Arrivals, priority: Priority, count: u64) {
        for nth in 0..count {
            arrivals.count(Rank { priority, flow: nth, ..Rank::default() }, nth);
        }
    }

    /// Ends a window, and returns the first shed level to be refused from now on.
    fn end_window(cutoff: &mut Cutoff, arrivals: &Arrivals, served: u64, stood: bool) -> u32 {
        cutoff.on_window(&arrivals.take(), served, stood, 1.0);
        cutoff.level()
    }

    fn level(priority: Priority, cohort: u32) -> u32 {
        priority.index() as u32 * COHORTS + cohort
    }

    #[test]
    fn the_cut_goes_where_as_many_are_let_in_as_were_served() {
        let (arrivals, mut cutoff) = (Arrivals::new(), Cutoff::new());
        arrive(&arrivals, Priority::High, 640);
        arrive(&arrivals, Priority::Low, 1280);
        let at = end_window(&mut cutoff, &arrivals, 1219, true);
        assert_eq!(at, level(Priority::Low, 63), "half of the low ones: 640 of 1280, at 5 % above");
        arrive(&arrivals, Priority::High, 640);
        arrive(&arrivals, Priority::Low, 1280);
        assert!(end_window(&mut cutoff, &arrivals, 1219, false) > at);
    }

    #[test]
    fn the_highest_priority_in_use_is_never_cut() {
        let (arrivals, mut cutoff) = (Arrivals::new(), Cutoff::new());
        arrive(&arrivals, Priority::Critical, 1);
        arrive(&arrivals, Priority::Normal, 1280);
        arrive(&arrivals, Priority::Low, 1280);
        assert_eq!(end_window(&mut cutoff, &arrivals, 128, true), level(Priority::Low, 0));
        arrive(&arrivals, Priority::Background, 1280);
        assert_eq!(end_window(&mut cutoff, &arrivals, 128, true), OPEN);
    }

    #[test]
    fn without_overload_nobody_is_refused() {
        let (arrivals, mut cutoff) = (Arrivals::new(), Cutoff::new());
        arrive(&arrivals, Priority::Low, 100);
        assert_eq!(end_window(&mut cutoff, &arrivals, 10, false), OPEN);
        assert_eq!(end_window(&mut cutoff, &arrivals, 10, true), OPEN, "nor when nobody comes");
        assert!(cutoff.is_open());
    }

    #[test]
    fn after_the_overload_the_cut_opens_within_a_few_windows() {
        let (arrivals, mut cutoff) = (Arrivals::new(), Cutoff::new());
        for stood in [true, false, false, false, false, false, false, false] {
            arrive(&arrivals, Priority::High, 500);
            arrive(&arrivals, Priority::Low, 500);
            end_window(&mut cutoff, &arrivals, 200, stood);
        }
        assert!(cutoff.is_open());
    }
}
