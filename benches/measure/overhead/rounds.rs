//! How figures are taken: in turns, since a machine is faster in one second than in the next.

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// Calls in one timing: enough to outlast a hiccup, few enough to take turns often.
    pub(crate) calls: usize,
    pub(crate) rounds: usize,
    /// Whether pictures are drawn anew.
    pub(crate) draws: bool,
}

impl Scale {
    pub(crate) const FULL: Self = Self { calls: 20_000, rounds: 25, draws: false };
    pub(crate) const SMOKE: Self = Self { calls: 200, rounds: 1, draws: false };
}

/// Of each round what each contender took.
pub(crate) struct Rounds(Vec<Vec<f64>>);

impl Rounds {
    /// Every round begins with another contender, so that none is always the one after the slowest.
    pub(crate) fn take(
        rounds: usize,
        contenders: usize,
        mut measure: impl FnMut(usize) -> f64,
    ) -> Self {
        let round = |nth: usize| {
            let mut took = vec![0.0; contenders];
            for turn in 0..contenders {
                let contender = (nth + turn) % contenders;
                took[contender] = measure(contender);
            }
            took
        };
        Self((0..rounds).map(round).collect())
    }

    /// The median of the ratios within a round.
    pub(crate) fn ratio(&self, contender: usize, to: usize) -> f64 {
        self.median(|round| round[contender] / round[to])
    }

    pub(crate) fn time(&self, contender: usize) -> f64 {
        self.median(|round| round[contender])
    }

    fn median(&self, of: impl Fn(&[f64]) -> f64) -> f64 {
        let mut values: Vec<_> = self.0.iter().map(|round| of(round)).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
}
