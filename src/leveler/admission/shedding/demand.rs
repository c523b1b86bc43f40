//! The flows that ask for so little that they do not make the overload.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::cutoff::Cut;
use crate::{class::Priority, rng::mix};

const LEVELS: usize = Priority::ALL.len();

/// Flows share cells by their hash: 2 KiB for each priority. With more cells fewer flows share one.
const CELLS: usize = 512;

/// A window weighs this much of the next one: some eight windows are remembered.
const DECAY: f64 = 7.0 / 8.0;

/// How much each flow has lately asked for, and whether that is less than its fair share.
///
/// A cutoff hits flows by their hash. It would hit flows that ask for next to nothing while a flow
/// that floods goes on. So flows are left alone if they ask for no more than their max-min fair
/// share of what there is (nobody gets more while somebody gets less than he asks for).
#[derive(Debug)]
pub(super) struct FlowDemand {
    cells: [[AtomicU32; CELLS]; LEVELS],
    /// One bit for each cell of the priority in which the cutoff lies.
    light: [AtomicU64; CELLS / 64],
    /// The index of that priority.
    level: AtomicU32,
}

impl FlowDemand {
    pub(super) fn new() -> Self {
        Self {
            cells: [const { [const { AtomicU32::new(0) }; CELLS] }; LEVELS],
            light: [const { AtomicU64::new(0) }; CELLS / 64],
            level: AtomicU32::new(LEVELS as u32),
        }
    }

    pub(super) fn count(&self, priority: Priority, flow: u64) {
        self.cells[priority.index()][cell(flow)].fetch_add(1, Relaxed);
    }

    /// Returns whether the flow has asked for no more than its share.
    pub(super) fn is_light(&self, priority: Priority, flow: u64) -> bool {
        let cell = cell(flow);
        self.level.load(Relaxed) == priority.index() as u32
            && self.light[cell / 64].load(Relaxed) >> (cell % 64) & 1 == 1
    }

    /// Ends a window: finds the light flows of the priority that is cut. `remembered` is the weight
    /// of all windows that the counts cover.
    pub(super) fn on_window(&self, cut: Option<Cut>, remembered: f64) {
        if let Some(Cut { priority, room }) = cut {
            let demand = self.cells[priority].each_ref().map(|cell| cell.load(Relaxed));
            let share = fair_share(demand, room * remembered);
            for (word, demand) in self.light.iter().zip(demand.chunks(64)) {
                let bits = demand.iter().enumerate();
                let light = bits.filter(|(_, demand)| f64::from(**demand) <= share);
                word.store(light.map(|(bit, _)| 1 << bit).sum(), Relaxed);
            }
        }
        self.level.store(cut.map_or(LEVELS, |cut| cut.priority) as u32, Relaxed);
        for cell in self.cells.iter().flatten() {
            // Arrivals counted between load and store are lost. They are few.
            cell.store((f64::from(cell.load(Relaxed)) * DECAY) as u32, Relaxed);
        }
    }
}

/// Returns the weight of the windows remembered, after a further one.
pub(super) fn remembered_after(remembered: f64) -> f64 {
    remembered * DECAY + 1.0
}

/// Returns the cell of a flow, by other bits than those that choose its cohort.
fn cell(flow: u64) -> usize {
    (mix(flow) >> 32) as usize % CELLS
}

/// Returns the most that any flow gets when `room` is shared out max-min fairly among demands.
fn fair_share(mut demands: [u32; CELLS], room: f64) -> f64 {
    demands.sort_unstable();
    let mut left = room;
    for (nth, demand) in demands.into_iter().enumerate() {
        let others = (CELLS - nth) as f64;
        if f64::from(demand) * others > left {
            return left / others;
        }
        left -= f64::from(demand);
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
        let demand = FlowDemand::new();
        (0..40).flat_map(|flow| [flow; 3]).for_each(|flow| demand.count(Priority::Normal, flow));
        (0..500).for_each(|_| demand.count(Priority::Normal, 99));
        demand.on_window(Some(Cut { priority: NORMAL, room: 200.0 }), 1.0);
        assert!((0..40).all(|flow| demand.is_light(Priority::Normal, flow)));
        assert!(!demand.is_light(Priority::Normal, 99));
        assert!(!demand.is_light(Priority::Low, 1), "the cut is not there");
        demand.on_window(None, 1.0);
        assert!(!demand.is_light(Priority::Normal, 1));
    }

    #[test]
    fn among_equals_nobody_is_light() {
        let demand = FlowDemand::new();
        (0..20_000).for_each(|flow| demand.count(Priority::Normal, flow));
        demand.on_window(Some(Cut { priority: NORMAL, room: 10_000.0 }), 1.0);
        let light = (0..20_000).filter(|flow| demand.is_light(Priority::Normal, *flow)).count();
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
