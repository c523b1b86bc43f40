//! What came of it all.

use std::{collections::HashMap, time::Duration};

use tower_load_leveling::error::Reason;

/// The calls of one source. Each is counted once, however often it was tried.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub offered: u64,
    /// Answered within the deadline.
    pub served: u64,
    /// Service time of those served, by when they were.
    pub work: Duration,
    /// From call to answer, of those served.
    pub sojourn: Vec<Duration>,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub by_source: Vec<Tally>,
    /// How long it took to say no, for whatever reason.
    pub rejected: HashMap<Reason, Vec<Duration>>,
    /// Time servers have spent, and of that for callers who had given up.
    pub work: Duration,
    pub wasted: Duration,
    /// Dispatches while somebody of a higher priority waited, and their part in the work; by
    /// priority.
    pub overtook: [(u64, Duration); 5],
    /// Served, in each tenth of a second since the beginning, warm-up included.
    pub bins: Vec<u32>,
    pub length: Duration,
}

pub const BIN: Duration = Duration::from_millis(100);

impl Tally {
    pub fn share_served(&self) -> f64 {
        self.served as f64 / self.offered.max(1) as f64
    }

    /// In milliseconds.
    pub fn p99(&self) -> f64 {
        quantile(self.sojourn.clone(), 0.99)
    }
}

impl Report {
    pub fn all(&self) -> Tally {
        let mut all = Tally::default();
        for tally in &self.by_source {
            all.offered += tally.offered;
            all.served += tally.served;
            all.work += tally.work;
            all.sojourn.extend(&tally.sojourn);
        }
        all
    }

    /// The first so many sources together.
    pub fn first(&self, sources: usize) -> Tally {
        Self { by_source: self.by_source[..sources].to_vec(), ..Self::default() }.all()
    }

    /// Of the first so many sources the one that was served worst.
    pub fn worst_of(&self, sources: usize) -> f64 {
        let shares = self.by_source[..sources].iter().map(Tally::share_served);
        shares.fold(1.0, f64::min)
    }

    /// The part that one source had of all the time of so many servers.
    pub fn part_of(&self, source: usize, servers: usize) -> f64 {
        self.by_source[source].work.as_secs_f64() / (self.length.as_secs_f64() * servers as f64)
    }

    /// Served, of what is possible at most: so many servers, or what was offered.
    pub fn goodput(&self, servers: usize) -> f64 {
        let all = self.all();
        // In service time, so that drawing heavier requests than the mean is not held against
        // anybody.
        let possible = self.length.as_secs_f64() * servers as f64;
        (all.work.as_secs_f64() / possible).max(all.share_served())
    }

    pub fn waste(&self) -> f64 {
        self.wasted.as_secs_f64() / self.work.as_secs_f64()
    }

    pub fn slowest_no(&self) -> f64 {
        quantile(self.rejected.values().flatten().copied().collect(), 0.99)
    }

    /// Jain's index of what the sources got of the servers' time: 1 when all got the same.
    pub fn jain(&self) -> f64 {
        let got: Vec<_> = self.by_source.iter().map(|tally| tally.work.as_secs_f64()).collect();
        let (sum, squares) = (got.iter().sum::<f64>(), got.iter().map(|x| x * x).sum::<f64>());
        sum * sum / (got.len() as f64 * squares)
    }

    /// How far the source that is worst off is from what its weight entitles it to, of what all
    /// got: 0.01 when it is one per cent too much or too little.
    pub fn off_weights(&self, weights: &[u32]) -> f64 {
        let all: f64 = self.by_source.iter().map(|tally| tally.work.as_secs_f64()).sum();
        let weighs = |weight: &u32| f64::from(*weight) / f64::from(weights.iter().sum::<u32>());
        let due = weights.iter().map(|weight| all * weighs(weight));
        let off = self
            .by_source
            .iter()
            .zip(due)
            .map(|(tally, due)| (tally.work.as_secs_f64() / due - 1.0).abs());
        off.fold(0.0, f64::max)
    }

    /// How long after `end` it took until half a second went by in which 95 % were served of what
    /// was `calm`ly, with the same arrivals and no trouble.
    pub fn recovery(&self, calm: &Self, end: Duration) -> Option<Duration> {
        let from = (end.as_millis() / BIN.as_millis()) as usize;
        let sums = |report: &Self| -> Vec<u32> {
            report.bins[from..].windows(5).map(|five| five.iter().sum()).collect()
        };
        let (mine, calm) = (sums(self), sums(calm));
        let is_back = |(mine, calm): (&u32, &u32)| f64::from(*mine) >= 0.95 * f64::from(*calm);
        mine.iter().zip(&calm).position(is_back).map(|bins| BIN * bins as u32)
    }
}

/// In milliseconds; `NaN` of nothing.
pub fn quantile(mut times: Vec<Duration>, q: f64) -> f64 {
    if times.is_empty() {
        return f64::NAN;
    }
    times.sort_unstable();
    times[((times.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3
}
