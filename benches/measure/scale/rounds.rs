//! Figures are taken in turns, since a machine is faster in one second than in the next.

/// Of each round, what each contender took.
pub(crate) struct Rounds<T>(Vec<Vec<T>>);

impl<T> Rounds<T> {
    /// Every round begins with another contender, so that none is always the one after the slowest.
    pub(crate) fn take(
        rounds: usize,
        contenders: usize,
        mut measure: impl FnMut(usize) -> T,
    ) -> Self {
        let round = |nth: usize| {
            let first = nth % contenders;
            let mut took: Vec<_> =
                (0..contenders).map(|turn| measure((first + turn) % contenders)).collect();
            took.rotate_right(first);
            took
        };
        Self((0..rounds).map(round).collect())
    }

    /// The median of the ratios within a round.
    pub(crate) fn ratio(&self, contender: usize, to: usize, of: impl Fn(&T) -> f64) -> f64 {
        median(self.0.iter().map(|round| of(&round[contender]) / of(&round[to])))
    }

    pub(crate) fn median(&self, contender: usize, of: impl Fn(&T) -> f64) -> f64 {
        median(self.0.iter().map(|round| of(&round[contender])))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
