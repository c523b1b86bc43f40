//! What came of a run.

use crate::scenario::Scenario;

/// The seconds between two notes of the limits.
pub const LOOK: f64 = 0.1;

/// Width of a bin in seconds.
const BIN: f64 = 0.1;

/// Times are in seconds, from the beginning of the run.
#[derive(Clone, Debug)]
pub struct Report {
    bins: Vec<Bin>,
    levelers: usize,
    /// Every [`LOOK`] seconds, the limit of each leveler.
    limits: Vec<f64>,
    /// Of those answered in time: when they arrived, and how long it took.
    times: Vec<(f32, f32)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    arrived: f64,
    /// Answered in time, and answered at all.
    good: f64,
    answered: f64,
    /// Sum of the backend's latencies, in seconds.
    backend: f64,
}

impl Report {
    pub fn new(scenario: &Scenario, levelers: usize) -> Self {
        let bins = vec![Bin::default(); (scenario.length / BIN) as usize + 2];
        Self { bins, levelers, limits: Vec::new(), times: Vec::new() }
    }

    pub fn arrived(&mut self, now: f64) {
        self.bin(now).arrived += 1.0;
    }

    pub fn answered(&mut self, now: f64, arrived: f64, dispatched: f64, in_time: bool) {
        let bin = self.bin(now);
        bin.answered += 1.0;
        bin.backend += now - dispatched;
        if in_time {
            bin.good += 1.0;
            self.times.push((arrived as f32, (now - arrived) as f32));
        }
    }

    /// Takes note of the limits, which are as many whole calls unless they are less than one.
    pub fn look(&mut self, limits: impl Iterator<Item = f64>) {
        self.limits.extend(limits.map(|limit| if limit < 1.0 { limit } else { limit.floor() }));
    }

    fn bin(&mut self, now: f64) -> &mut Bin {
        &mut self.bins[(now / BIN) as usize]
    }

    fn between(&self, from: f64, to: f64) -> Bin {
        let bins = &self.bins[(from / BIN).round() as usize..(to / BIN).round() as usize];
        bins.iter().fold(Bin::default(), |sum, bin| Bin {
            arrived: sum.arrived + bin.arrived,
            good: sum.good + bin.good,
            answered: sum.answered + bin.answered,
            backend: sum.backend + bin.backend,
        })
    }

    /// Answers in time, a second.
    pub fn goodput(&self, from: f64, to: f64) -> f64 {
        self.between(from, to).good / (to - from)
    }

    /// Mean latency of the backend, as a leveler sees it.
    pub fn backend(&self, from: f64, to: f64) -> f64 {
        let bin = self.between(from, to);
        bin.backend / bin.answered.max(1.0)
    }

    /// The sum of the limits, every [`LOOK`] seconds.
    pub fn limits(&self, from: f64, to: f64) -> impl Iterator<Item = f64> {
        self.looks(from, to).map(|limits| limits.iter().sum())
    }

    /// The mean of that.
    pub fn limit(&self, from: f64, to: f64) -> f64 {
        mean(&self.limits(from, to).collect::<Vec<_>>())
    }

    fn looks(&self, from: f64, to: f64) -> impl Iterator<Item = &[f64]> {
        let (first, end) = ((from / LOOK).round() as usize, (to / LOOK).round() as usize);
        self.limits.chunks(self.levelers).take(end).skip(first)
    }

    /// Time from arrival to answer below which this share of those answered in time stay.
    pub fn quantile(&self, quantile: f64, from: f64, to: f64) -> f64 {
        let counted = from as f32..to as f32;
        let counted = self.times.iter().filter(|(arrived, _)| counted.contains(arrived));
        let mut times: Vec<f32> = counted.map(|(_, took)| *took).collect();
        times.sort_by(f32::total_cmp);
        let last = times.len().saturating_sub(1);
        times.get((quantile * last as f64) as usize).map_or(f64::NAN, |time| f64::from(*time))
    }

    /// Jain's index of the mean limits: 1 if all levelers have the same.
    pub fn jain(&self, from: f64, to: f64) -> f64 {
        let mut each = vec![0.0; self.levelers];
        for limits in self.looks(from, to) {
            each.iter_mut().zip(limits).for_each(|(sum, limit)| *sum += limit);
        }
        let sum: f64 = each.iter().sum();
        let squares: f64 = each.iter().map(|limit| limit * limit).sum();
        sum * sum / (self.levelers as f64 * squares)
    }

    /// How much the limit grows in an hour, as a share of its mean: by regression.
    pub fn trend(&self, from: f64, to: f64) -> f64 {
        let limits: Vec<f64> = self.limits(from, to).collect();
        let (mean, middle) = (mean(&limits), (limits.len() as f64 - 1.0) / 2.0);
        let (mut both, mut squares) = (0.0, 0.0);
        for (look, limit) in limits.iter().enumerate() {
            let distance = look as f64 - middle;
            both += distance * (limit - mean);
            squares += distance * distance;
        }
        both / squares / LOOK * 3600.0 / mean
    }

    /// How long after `from` it takes until two seconds together have 95 % of this goodput, with a
    /// backend that takes no more than 1.5 times this latency.
    pub fn settled(&self, from: f64, to: f64, goodput: f64, latency: f64) -> f64 {
        let steps = ((to - from - SETTLED) / BIN) as usize;
        let good = |step: &usize| {
            let begin = from + *step as f64 * BIN;
            let end = begin + SETTLED;
            let due = goodput.min(self.between(begin, end).arrived / SETTLED);
            self.goodput(begin, end) >= 0.95 * due && self.backend(begin, end) <= 1.5 * latency
        };
        (0..=steps).find(good).map_or(f64::INFINITY, |step| step as f64 * BIN)
    }
}

/// How long it has to be good.
const SETTLED: f64 = 2.0;

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
