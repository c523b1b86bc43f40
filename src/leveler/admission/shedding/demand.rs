//! The flows whose demand is too small to cause the overload.

use super::cutoff::Cut;
use crate::{
    class::{Priority, Rank},
    sync::figure::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed},
};

const LEVELS: usize = Priority::ALL.len();

/// The number of cells of a priority: 2 KiB. Flows share cells by hash. More cells mean less
/// sharing.
const CELLS: usize = 512;

/// The weight of a window relative to the next: some eight windows are remembered.
const DECAY: f64 = 7.0 / 8.0;

/// The recent demand of each flow, compared with a fair share.
///
/// A cutoff picks flows by hash. Alone, the cutoff would hit flows of tiny demand while a flooding
/// flow goes on. Flows within their max-min fair share are therefore left alone (no flow gets more
/// while another gets less than asked for).
#[derive(Debug)]
pub(super) struct FlowDemand {
    cells: [[AtomicU32; CELLS]; LEVELS],
    /// The weight of the newest flow, for each cell.
    shares: [[AtomicU16; CELLS]; LEVELS],
    /// A bit for each cell of the priority with the cutoff. Set if the cell is light.
    light: [AtomicU64; CELLS / 64],
    /// The index of the priority with the cutoff, or `LEVELS`.
    level: AtomicU32,
}

impl FlowDemand {
    pub(super) fn new() -> Self {
        Self {
            cells: [const { [const { AtomicU32::new(0) }; CELLS] }; LEVELS],
            shares: [const { [const { AtomicU16::new(1) }; CELLS] }; LEVELS],
            light: [const { AtomicU64::new(0) }; CELLS / 64],
            level: AtomicU32::new(LEVELS as u32),
        }
    }

    #[inline]
    pub(super) fn count(&self, rank: Rank) {
        let (level, cell) = (rank.priority.index(), cell(rank.flow));
        self.cells[level][cell].fetch_add(1, Relaxed);
        let share = &self.shares[level][cell];
        if share.load(Relaxed) != rank.share {
            share.store(rank.share, Relaxed);
        }
    }

    /// Returns whether the flow has asked for at most a fair share.
    pub(super) fn is_light(&self, rank: Rank) -> bool {
        let cell = cell(rank.flow);
        self.level.load(Relaxed) == rank.priority.index() as u32
            && self.light[cell / 64].load(Relaxed) >> (cell % 64) & 1 == 1
    }

    /// Ends a window: finds the light flows of the priority with the cutoff. `remembered` is the
    /// weight of all windows in the counts.
    pub(super) fn on_window(&self, cut: Option<Cut>, remembered: f64) {
        if let Some(Cut { priority, room }) = cut {
            let demands: [Demand; CELLS] = std::array::from_fn(|cell| Demand {
                asked: self.cells[priority][cell].load(Relaxed).into(),
                share: self.shares[priority][cell].load(Relaxed).into(),
            });
            let fair = fair_share(demands, room * remembered);
            for (word, demands) in self.light.iter().zip(demands.chunks(64)) {
                let bits = demands.iter().enumerate();
                let light = bits.filter(|(_, demand)| demand.for_its_share() <= fair);
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

/// Returns the cell of a flow. The leveler's [`FlowKey`](crate::flow_key::FlowKey) has spread the
/// bits, apart from the choice of the cohort.
#[inline]
fn cell(flow: u64) -> usize {
    flow as usize % CELLS
}

/// The demand of a flow, and the weight of the flow.
#[derive(Clone, Copy, Debug)]
struct Demand {
    asked: f64,
    share: f64,
}

impl Demand {
    fn for_its_share(self) -> f64 {
        self.asked / self.share
    }
}

/// Returns the most given to a flow of weight 1 when `room` is shared max-min fairly among demands,
/// in the ratio of their weights.
fn fair_share(mut demands: [Demand; CELLS], room: f64) -> f64 {
    demands.sort_unstable_by(|one, other| one.for_its_share().total_cmp(&other.for_its_share()));
    let mut left = room;
    let mut shares: f64 = demands.iter().map(|demand| demand.share).sum();
    for demand in demands {
        if demand.for_its_share() * shares > left {
            return left / shares;
        }
        left -= demand.asked;
        shares -= demand.share;
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index of [`Priority::Normal`].
    const NORMAL: usize = 2;

    fn of(flow: u64) -> Rank {
        Rank { flow, ..Rank::default() }
    }

    #[test]
    fn those_who_ask_for_little_are_told_from_the_one_who_floods() {
        let demand = FlowDemand::new();
        (0..40).flat_map(|flow| [flow; 3]).for_each(|flow| demand.count(of(flow)));
        (0..500).for_each(|_| demand.count(of(99)));
        demand.on_window(Some(Cut { priority: NORMAL, room: 200.0 }), 1.0);
        assert!((0..40).all(|flow| demand.is_light(of(flow))));
        assert!(!demand.is_light(of(99)));
        let low = Rank { priority: Priority::Low, ..of(1) };
        assert!(!demand.is_light(low), "the cut is not there");
        demand.on_window(None, 1.0);
        assert!(!demand.is_light(of(1)));
    }

    #[test]
    fn a_flow_of_weight_four_asks_for_little_up_to_four_shares() {
        let demand = FlowDemand::new();
        let of = |nth| Rank { share: if nth == 0 { 4 } else { 1 }, ..of(nth) };
        // Room for 10 of each weight.
        (0..4).flat_map(|flow| vec![flow; 30]).for_each(|flow| demand.count(of(flow)));
        demand.on_window(Some(Cut { priority: NORMAL, room: 70.0 }), 1.0);
        assert_eq!([0, 1, 2, 3].map(|flow| demand.is_light(of(flow))), [true, false, false, false]);
    }

    #[test]
    fn among_equals_nobody_is_light() {
        let demand = FlowDemand::new();
        (0..20_000).for_each(|flow| demand.count(of(flow)));
        demand.on_window(Some(Cut { priority: NORMAL, room: 10_000.0 }), 1.0);
        let light = (0..20_000).filter(|flow| demand.is_light(of(*flow))).count();
        assert!(light < 200, "{light} of 20 000");
    }

    #[test]
    fn a_share_is_what_is_left_for_those_who_ask_for_more() {
        let mut loads = [Demand { asked: 0.0, share: 1.0 }; CELLS];
        for (load, asked) in loads.iter_mut().zip([1.0, 2.0, 10.0, 10.0]) {
            load.asked = asked;
        }
        assert_eq!(fair_share(loads, 23.0), f64::INFINITY);
        assert_eq!(fair_share(loads, 9.0), 3.0);
        assert_eq!(fair_share(loads, 4.0), 1.0);
        loads[2].share = 3.0;
        assert_eq!(fair_share(loads, 11.0), 2.0);
    }
}
