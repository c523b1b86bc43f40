//! Whom to refuse first under lasting overload.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::class::Priority;
use crate::leveler::demand::{Loads, weight_after};

/// Cohorts in each priority, as in Tencent's DAGOR and Uber's Cinnamon.
const COHORTS: u32 = 128;
const LEVELS: usize = Priority::ALL.len() * COHORTS as usize;

/// A level of use is one that makes up so much of what arrives; a single urgent request must not make all
/// others second-rate.
const IN_USE: f64 = 0.01;

/// A little more is let in than was served, so that the queue does not run dry.
const HEADROOM: f64 = 1.05;

/// How fast more is let in again after the overload, for each window in which the queue ran empty.
const RECOVERY: f64 = 1.25;

/// How many requests arrived in this window, for each priority and cohort; and how much each flow asks for.
#[derive(Debug)]
pub(crate) struct Arrivals {
    counts: [AtomicU32; LEVELS],
    pub(crate) loads: Loads,
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        Self { counts: [const { AtomicU32::new(0) }; LEVELS], loads: Loads::new() }
    }

    /// Counts one in; returns its level, 0 being the last to be refused.
    pub(crate) fn count(&self, priority: Priority, flow: u64, cohort: u64) -> u32 {
        let level = priority.index() as u32 * COHORTS + (cohort % u64::from(COHORTS)) as u32;
        if let Some(count) = self.counts.get(level as usize) {
            count.fetch_add(1, Relaxed);
        }
        self.loads.count(priority, flow);
        level
    }

    fn take(&self) -> [u32; LEVELS] {
        self.counts.each_ref().map(|count| count.swap(0, Relaxed))
    }
}

/// Where the levels are cut: all below are refused.
///
/// At the end of each window in which the queue never ran empty, the cut goes to where the histogram of
/// arrivals says that about as many are let in as were served; in the others it moves on. Cohorts are hashes
/// of flow and hour, so that under lasting overload it is the same few who are turned away, everywhere, and
/// for an hour at most, instead of everybody now and then: of those who need two services, half gets through
/// and not a quarter. Flows that ask for [less than their share](Loads) are left alone.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The share of the arrivals that is let in.
    share: f64,
    level: u32,
    /// What the windows remembered of the loads weigh.
    weight: f64,
}

impl Cut {
    /// Nobody is refused.
    pub(crate) const OPEN: u32 = LEVELS as u32;

    pub(crate) fn new() -> Self {
        Self { share: 1.0, level: Self::OPEN, weight: 0.0 }
    }

    /// A window ends, as long as so many `windows`, in which `served` requests were dispatched, and the queue
    /// `stood` or ran empty. Returns the first level that is refused from now on.
    pub(crate) fn on_window(
        &mut self,
        arrivals: &Arrivals,
        served: u64,
        stood: bool,
        windows: f64,
    ) -> u32 {
        let arrived = arrivals.take();
        let total: u64 = arrived.iter().map(|count| u64::from(*count)).sum();
        self.share = match stood {
            _ if total == 0 => 1.0,
            true => (served as f64 * HEADROOM / total as f64).min(1.0),
            false => (self.share * RECOVERY.powf(windows)).min(1.0),
        };
        self.weight = weight_after(self.weight);
        self.level = Self::OPEN;
        let mut within = None;
        if self.share < 1.0 {
            let room = self.share * total as f64;
            self.level = cut(&arrived, room);
            let (priority, above) = (self.level / COHORTS, self.level - self.level % COHORTS);
            let above: u32 = arrived[..above as usize].iter().sum();
            within = Some((priority as usize, (room - f64::from(above)).max(0.0)));
        }
        arrivals.loads.on_window(within.filter(|_| !self.is_open()), self.weight);
        self.level
    }

    pub(crate) fn is_open(&self) -> bool {
        self.level == Self::OPEN
    }
}

/// The first level that does not fit into `room`. The highest priority in use is never cut: among equals
/// order, fairness and the bound of the queue decide.
fn cut(arrived: &[u32; LEVELS], room: f64) -> u32 {
    let total: f64 = arrived.iter().map(|count| f64::from(*count)).sum();
    let of = |priority: &[u32]| priority.iter().map(|count| f64::from(*count)).sum::<f64>();
    let mut priorities = arrived.chunks(COHORTS as usize);
    let first = priorities.position(|counts| of(counts) >= total * IN_USE).unwrap_or(0) + 1;
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
    use super::*;

    fn arrive(arrivals: &Arrivals, priority: Priority, count: u64) {
        for nth in 0..count {
            arrivals.count(priority, nth, nth);
        }
    }

    fn level(priority: Priority, cohort: u32) -> u32 {
        priority.index() as u32 * COHORTS + cohort
    }

    #[test]
    fn the_cut_goes_where_as_many_are_let_in_as_were_served() {
        let (arrivals, mut cut) = (Arrivals::new(), Cut::new());
        arrive(&arrivals, Priority::High, 640);
        arrive(&arrivals, Priority::Low, 1280);
        let at = cut.on_window(&arrivals, 1219, true, 1.0);
        assert_eq!(at, level(Priority::Low, 63), "half of the low ones: 640 of 1280, at 5 % above");
        arrive(&arrivals, Priority::High, 640);
        arrive(&arrivals, Priority::Low, 1280);
        assert!(cut.on_window(&arrivals, 1219, false, 1.0) > at);
    }

    #[test]
    fn the_highest_priority_in_use_is_never_cut() {
        let (arrivals, mut cut) = (Arrivals::new(), Cut::new());
        arrive(&arrivals, Priority::Critical, 1);
        arrive(&arrivals, Priority::Normal, 1280);
        arrive(&arrivals, Priority::Low, 1280);
        assert_eq!(cut.on_window(&arrivals, 128, true, 1.0), level(Priority::Low, 0));
        arrive(&arrivals, Priority::Background, 1280);
        assert_eq!(cut.on_window(&arrivals, 128, true, 1.0), Cut::OPEN);
    }

    #[test]
    fn without_overload_nobody_is_refused() {
        let (arrivals, mut cut) = (Arrivals::new(), Cut::new());
        arrive(&arrivals, Priority::Low, 100);
        assert_eq!(cut.on_window(&arrivals, 10, false, 1.0), Cut::OPEN);
        assert_eq!(cut.on_window(&arrivals, 10, true, 1.0), Cut::OPEN, "nor when nobody comes");
        assert!(cut.is_open());
    }

    #[test]
    fn after_the_overload_the_cut_opens_within_a_few_windows() {
        let (arrivals, mut cut) = (Arrivals::new(), Cut::new());
        for stood in [true, false, false, false, false, false, false, false] {
            arrive(&arrivals, Priority::High, 500);
            arrive(&arrivals, Priority::Low, 500);
            cut.on_window(&arrivals, 200, stood, 1.0);
        }
        assert!(cut.is_open());
    }
}
