//! Who asks for so little that it is not they who make the overload.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::{class::Priority, rng::mix};

const LEVELS: usize = Priority::ALL.len();

/// Flows share cells by their hash: 2 KiB for each priority.
const CELLS: usize = 512;

/// A window weighs so much less than the one after it: what is remembered is some eight windows.
const KEPT: f64 = 7.0 / 8.0;

/// How much each flow has lately asked for, and whether that is less than its fair share.
///
/// Whom a cut-off would hit is decided by a hash, so it would hit flows that ask for next to nothing while
/// one that floods goes on. Those that ask for no more than would be theirs if what there is were shared out
/// fairly (max-min: nobody gets more while somebody gets less than he asks for) are left alone.
#[derive(Debug)]
pub(crate) struct Loads {
    cells: [[AtomicU32; CELLS]; LEVELS],
    /// One bit for each cell of the priority in which the cut is.
    light: [AtomicU64; CELLS / 64],
    /// That priority.
    level: AtomicU32,
}

impl Loads {
    pub(crate) fn new() -> Self {
        Self {
            cells: [const { [const { AtomicU32::new(0) }; CELLS] }; LEVELS],
            light: [const { AtomicU64::new(0) }; CELLS / 64],
            level: AtomicU32::new(LEVELS as u32),
        }
    }

    pub(crate) fn count(&self, priority: Priority, flow: u64) {
        self.cells[priority.index()][cell(flow)].fetch_add(1, Relaxed);
    }

    /// Whether this flow has asked for no more than its share.
    pub(crate) fn is_light(&self, priority: Priority, flow: u64) -> bool {
        let cell = cell(flow);
        self.level.load(Relaxed) == priority.index() as u32
            && self.light[cell / 64].load(Relaxed) >> (cell % 64) & 1 == 1
    }

    /// A window ends. `cut` is the priority in which the cut is, if any, and how many of its requests there
    /// is room for in a window; `weight` is what all windows remembered weigh.
    pub(crate) fn on_window(&self, cut: Option<(usize, f64)>, weight: f64) {
        if let Some((level, room)) = cut {
            let loads = self.cells[level].each_ref().map(|load| load.load(Relaxed));
            let share = fair_share(loads, room * weight);
            for (word, loads) in self.light.iter().zip(loads.chunks(64)) {
                let bits = loads.iter().enumerate();
                let light = bits.filter(|(_, load)| f64::from(**load) <= share);
                word.store(light.map(|(bit, _)| 1 << bit).sum(), Relaxed);
            }
        }
        self.level.store(cut.map_or(LEVELS, |(level, _)| level) as u32, Relaxed);
        for load in self.cells.iter().flatten() {
            // What is counted in between is lost, which is little.
            load.store((f64::from(load.load(Relaxed)) * KEPT) as u32, Relaxed);
        }
    }
}

/// What the windows remembered weigh, one more having ended.
pub(crate) fn weight_after(weight: f64) -> f64 {
    weight * KEPT + 1.0
}

fn cell(flow: u64) -> usize {
    // Other bits than those that choose the cohort.
    (mix(flow) >> 32) as usize % CELLS
}

/// The most that anybody gets when `room` is shared out so that nobody gets more than he asks for, and nobody
/// more than another who gets less than he asks for.
fn fair_share(mut loads: [u32; CELLS], room: f64) -> f64 {
    loads.sort_unstable();
    let mut left = room;
    for (nth, load) in loads.into_iter().enumerate() {
        let others = (CELLS - nth) as f64;
        if f64::from(load) * others > left {
            return left / others;
        }
        left -= f64::from(load);
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where [`Priority::Normal`] is.
    const NORMAL: usize = 2;

    #[test]
    fn those_who_ask_for_little_are_told_from_the_one_who_floods() {
        let loads = Loads::new();
        (0..40).flat_map(|flow| [flow; 3]).for_each(|flow| loads.count(Priority::Normal, flow));
        (0..500).for_each(|_| loads.count(Priority::Normal, 99));
        loads.on_window(Some((NORMAL, 200.0)), 1.0);
        assert!((0..40).all(|flow| loads.is_light(Priority::Normal, flow)));
        assert!(!loads.is_light(Priority::Normal, 99));
        assert!(!loads.is_light(Priority::Low, 1), "the cut is not there");
        loads.on_window(None, 1.0);
        assert!(!loads.is_light(Priority::Normal, 1));
    }

    #[test]
    fn among_equals_nobody_is_light() {
        let loads = Loads::new();
        (0..20_000).for_each(|flow| loads.count(Priority::Normal, flow));
        loads.on_window(Some((NORMAL, 10_000.0)), 1.0);
        let light = (0..20_000).filter(|flow| loads.is_light(Priority::Normal, *flow)).count();
        assert!(light < 200, "{light} of 20 000");
    }

    #[test]
    fn a_share_is_what_is_left_for_those_who_ask_for_more() {
        let mut loads = [0; CELLS];
        loads[..4].copy_from_slice(&[1, 2, 10, 10]);
        assert_eq!(fair_share(loads, 23.0), f64::INFINITY);
        assert_eq!(fair_share(loads, 9.0), 3.0);
        assert_eq!(fair_share(loads, 4.0), 1.0);
    }
}
