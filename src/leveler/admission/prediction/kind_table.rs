use crate::{
    class::NO_KIND,
    leveler::kind::Kind,
    rng::mix,
    sync::figure::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// The number of cells, at most a fourth in use, so a search looks at few.
const CELLS: usize = 4 * Kind::COUNT;

/// The indices of kinds, in order of first sight. Open addressing, and nothing is ever removed.
#[derive(Debug)]
pub(super) struct KindTable {
    cells: [Cell; CELLS],
    /// The number of kinds seen.
    seen: AtomicU32,
}

#[derive(Debug)]
struct Cell {
    /// The hash of the kind, or [`NO_KIND`] while the cell is free.
    hash: AtomicU64,
    /// The index plus 1. Zero for the moment between the claim of the cell and the index.
    index: AtomicU32,
}

impl KindTable {
    pub(super) fn new() -> Self {
        let cell = || Cell { hash: AtomicU64::new(NO_KIND), index: AtomicU32::new(0) };
        Self { cells: std::array::from_fn(|_| cell()), seen: AtomicU32::new(0) }
    }

    /// Returns the kind with the hash `hash`. A new kind gets an index.
    pub(super) fn kind(&self, hash: u64) -> Kind {
        let first = mix(hash) as usize;
        for nth in 0..CELLS {
            let Some(cell) = self.cells.get(first.wrapping_add(nth) % CELLS) else { break };
            match cell.hash.load(Relaxed) {
                known if known == hash => return cell.kind(),
                NO_KIND => {}
                _ => continue,
            }
            if self.seen.load(Relaxed) as usize >= Kind::COUNT {
                return Kind::BEYOND;
            }
            match cell.hash.compare_exchange(NO_KIND, hash, Relaxed, Relaxed) {
                Ok(_) => {
                    let index = self.seen.fetch_add(1, Relaxed);
                    cell.index.store(index + 1, Relaxed);
                    return Kind::of(index as usize);
                }
                // Another thread has claimed the cell, maybe for the same kind.
                Err(known) if known == hash => return cell.kind(),
                Err(_) => {}
            }
        }
        Kind::BEYOND
    }
}

impl Cell {
    fn kind(&self) -> Kind {
        let index = self.index.load(Relaxed).checked_sub(1);
        index.map_or(Kind::BEYOND, |index| Kind::of(index as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_256_kinds_have_an_index_and_keep_it() {
        let table = KindTable::new();
        for _ in 0..2 {
            for hash in 1..=256 {
                assert_eq!(table.kind(hash).index(), Some(hash as usize - 1));
            }
            assert!((257..400).all(|hash| table.kind(hash) == Kind::BEYOND));
        }
    }
}
