//! The frequent flows.

/// A table of the heavy hitters among flows, in fixed memory. Invented flows cannot displace heavy
/// hitters.
///
/// Each flow is hashed to one cell. A cell keeps the flow of most of its requests, by the majority
/// vote of Boyer and Moore: the count rises with a request of the flow in the cell and falls with a
/// request of any other flow. At zero the next flow takes the cell over.
#[derive(Debug)]
pub(super) struct HeavyHitters {
    /// Empty until the first flow comes.
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// The upper half of the flow's hash; the lower half chooses the cell.
    tag: u32,
    count: u8,
}

/// The number of cells: four for each of the 1024 flows with a dedicated queue by default. The
/// table takes 32 KiB. With fewer, more flows collide and stay unproven.
const CELLS: usize = 4096;
/// The number of earlier requests of a proven flow. An invented flow hardly comes twice.
const PROVEN_COUNT: u8 = 2;
/// The highest count: how many requests of other flows a flow outlives in its cell.
const MAX_COUNT: u8 = 15;

impl HeavyHitters {
    pub(super) fn new() -> Self {
        Self { cells: Vec::new() }
    }

    /// Counts a request of a flow. Returns whether the flow was proven before.
    pub(super) fn observe(&mut self, flow: u64) -> bool {
        if self.cells.is_empty() {
            self.cells = vec![Cell::default(); CELLS];
        }
        let Some(cell) = self.cells.get_mut(flow as usize % CELLS) else { return false };
        let tag = (flow >> 32) as u32;
        if cell.count == 0 {
            *cell = Cell { tag, count: 1 };
            return false;
        }
        if cell.tag == tag {
            let is_proven = cell.count >= PROVEN_COUNT;
            cell.count = (cell.count + 1).min(MAX_COUNT);
            return is_proven;
        }
        cell.count -= 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::testing::Random;

    #[test]
    fn a_flow_is_proven_when_it_comes_for_the_third_time() {
        let mut heavy = HeavyHitters::new();
        assert_eq!([7, 7, 7, 8].map(|flow| heavy.observe(flow)), [false, false, true, false]);
    }

    #[test]
    fn flows_that_come_once_do_not_push_out_one_that_comes_again_and_again() {
        let (mut heavy, mut random) = (HeavyHitters::new(), Random::new(1));
        let mine = random.next();
        let seen = (0..1000).map(|_| {
            // Between two requests of mine, 250 other flows come once each.
            for _ in 0..250 {
                heavy.observe(random.next());
            }
            heavy.observe(mine)
        });
        assert!(seen.filter(|known| *known).count() > 950);
    }
}
