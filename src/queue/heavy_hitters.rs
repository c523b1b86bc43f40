//! Which flows have been seen before.

/// Remembers flows that come again and again, in fixed memory, so that those who invent flows cannot push
/// them out.
///
/// Each flow has one cell that it shares with others, and a cell keeps the one that has the most to say: its
/// count rises with each request of the flow that is in it and falls with each of another, which takes over
/// when it is at zero (the majority vote of Boyer and Moore, one for each cell).
#[derive(Debug)]
pub(super) struct HeavyHitters {
    /// Empty until there is a flow.
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// The part of the hash that does not choose the cell.
    tag: u32,
    count: u8,
}

/// Four for each flow that may have a queue of its own by default: 32 KiB.
const CELLS: usize = 4096;
/// So many requests must have come before for a flow to be known: an invented one hardly comes twice.
const PROVEN_COUNT: u8 = 2;
/// How many requests of others a flow outlives in its cell.
const MAX_COUNT: u8 = 15;

impl HeavyHitters {
    pub(super) fn new() -> Self {
        Self { cells: Vec::new() }
    }

    /// Takes note of a request of this flow; returns whether the flow was known before it.
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
    fn a_flow_is_known_when_it_comes_for_the_third_time() {
        let mut heavy = HeavyHitters::new();
        assert_eq!([7, 7, 7, 8].map(|flow| heavy.observe(flow)), [false, false, true, false]);
    }

    #[test]
    fn flows_that_come_once_do_not_push_out_one_that_comes_again_and_again() {
        let (mut heavy, mut random) = (HeavyHitters::new(), Random::new(1));
        let mine = random.next();
        let seen = (0..1000).map(|_| {
            // Between two of mine there come 250 of others, each once.
            for _ in 0..250 {
                heavy.observe(random.next());
            }
            heavy.observe(mine)
        });
        assert!(seen.filter(|known| *known).count() > 950);
    }
}
