//! The flows whose demand is too small to cause the overload.

use super::cutoff::Cut;
use crate::{
    class::Priority,
    rng::mix,
    sync::figure::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

const LEVELS: usize = Priority::ALL.len();

/// The number of cells of a priority: 2 KiB. Flows share cells by hash. More cells mean less
/// sharing.
const CELLS: usize = 512;

/// The weight of a window relative to the next: some eight windows are remembered.
const DECAY: f64 = 7.0 / 8.0;

/// The recent demand of each flow, compared with a fair share.
///
/// A cutoff picks flows by hash. Alone, it would hit flows of tiny demand while a flooding flow
/// goes on. So flows within their max-min fair share are left alone (nobody gets more while
/// somebody gets less than asked for).
#[derive(Debug)]
pub(super) struct FlowDemand {
    cells: [[AtomicU32; CELLS]; LEVELS],
    /// A bit for each cell of the priority with the cutoff. Set if the cell is light.
    light: [AtomicU64; CELLS / 64],
    /// The index of the priority with the cutoff, or `LEVELS`.
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

    /// Returns whether the flow has asked for at most a fair share.
    pub(super) fn is_light(&self, priority: Priority, flow: u64) -> bool {
        let cell = cell(flow);
        self.level.load(Relaxed) == priority.index() as u32
            && self.light[cell / 64].load(Relaxed) >> (cell % 64) & 1 == 1
    }

    /// Ends a window: finds the light flows of the priority with the cutoff. `remembered` is the
    /// weight of all windows in the counts.
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
            // Arrivals between load and store are lost, but are few.
            cell.store((f64::from(cell.load(Relaxed)) * DECAY) as u32, Relaxed);
        }
    }
}

/// Returns the weight of the windows remembered, after a further window.
pub(super) fn remembered_after(remembered: f64) -> f64 {
    remembered * DECAY + 1.0
}

/// Returns the cell of a flow, by other bits than the choice of the cohort.
fn cell(flow: u64) -> usize {
    (mix(flow) >> 32) as usize % CELLS
}

/// Returns the most given to any flow when `room` is shared max-min fairly among demands.
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

    /// The index of [`Priority::Normal`].
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
