use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use tower_load_leveling::limit::{Algorithm, Sample};

use super::{counts, dropped, magnitude, quantile};

// `NewBuilder` of `adaptivelimiter.go`, as far as nothing else is said.
const START: f64 = 20.0;
const MAX_LIMIT: f64 = 200.0;
/// The limit stays below this multiple of the most calls in flight in a window (`maxLimitFactor`).
const MAX_LIMIT_FACTOR: f64 = 5.0;
const MIN_WINDOW: Duration = Duration::from_secs(1);
const MAX_WINDOW: Duration = Duration::from_secs(30);
const MIN_CALLS: usize = 50;
const QUANTILE: f64 = 0.9;
/// `smoothedSamples`: the size of the median filter and the age of the recent latency.
const SMOOTHED: usize = 5;
const BASELINE_AGE: usize = 10;
const CORRELATION_WINDOW: usize = 50;
/// How many windows make a plain mean first, and are too few for a correlation (`warmupSamples`).
const WARM_UP: usize = 10;
/// What varies less does not correlate (`CorrelationWindow.Add`).
const MIN_VARIATION: f64 = 0.01;

/// Vegas with a moving baseline: the p90 of windows of a second or more, smoothed, against itself,
/// smoothed more; and a brake where more calls in flight went along with longer latency instead of
/// throughput.
#[derive(Debug)]
pub(super) struct Failsafe {
    limit: f64,
    /// In seconds.
    latencies: Vec<f64>,
    most_in_flight: usize,
    next_update: Option<Instant>,
    quantiles: VecDeque<f64>,
    recent: Average,
    baseline: Average,
    /// Calls in flight and throughput.
    throughput: Correlation,
    /// Calls in flight and latency.
    latency: Correlation,
}

impl Failsafe {
    pub(super) fn new() -> Self {
        Self {
            limit: START,
            latencies: Vec::new(),
            most_in_flight: 0,
            next_update: None,
            quantiles: VecDeque::new(),
            recent: Average::new(SMOOTHED),
            baseline: Average::new(BASELINE_AGE),
            throughput: Correlation::default(),
            latency: Correlation::default(),
        }
    }

    fn end_window(&mut self, sample: &Sample) {
        let fastest = self.latencies.iter().copied().fold(f64::INFINITY, f64::min);
        let Some(slow) = quantile(&mut self.latencies, QUANTILE) else { return };
        let filtered = self.median(slow);
        let recent = self.recent.add(filtered);
        // Still with the call that ends just now.
        let full = sample.in_flight + 1 >= self.limit as usize;
        self.update(recent, full);
        let window = Duration::from_secs_f64(2.0 * fastest).clamp(MIN_WINDOW, MAX_WINDOW);
        self.next_update = Some(sample.finished + window);
        self.latencies.clear();
        self.most_in_flight = 0;
    }

    fn median(&mut self, value: f64) -> f64 {
        self.quantiles.push_back(value);
        if self.quantiles.len() < SMOOTHED {
            return value;
        }
        let mut sorted: Vec<_> = self.quantiles.iter().copied().collect();
        self.quantiles.pop_front();
        quantile(&mut sorted, 0.5).unwrap_or(value)
    }

    fn update(&mut self, recent: f64, full: bool) {
        let baseline = self.baseline.add(recent);
        let queue = (self.limit * (1.0 - baseline / recent)).ceil();
        let in_flight = self.most_in_flight as f64;
        let throughput = self.throughput.add(in_flight, in_flight / recent);
        let latency = self.latency.add(in_flight, recent);

        let step = magnitude(self.limit);
        let futile = throughput.coefficient < 0.0
            || latency.coefficient > 0.5
                && (throughput.coefficient < 0.3 || throughput.variation < 0.2);
        let mut limit = self.limit;
        if queue > 6.0 * step || full && futile {
            limit -= step;
        } else if queue < 3.0 * step {
            limit += step;
        }
        if limit > in_flight * MAX_LIMIT_FACTOR {
            limit = self.limit - step;
        }
        self.limit = limit.clamp(1.0, MAX_LIMIT);
    }
}

impl Algorithm for Failsafe {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn on_sample(&mut self, sample: &Sample) {
        if !counts(sample) {
            return;
        }
        if !dropped(sample) {
            self.latencies.push(sample.service_time().as_secs_f64().max(1e-9));
            self.most_in_flight = self.most_in_flight.max(sample.in_flight_at_dispatch);
        }
        let due = self.next_update.is_none_or(|next| sample.finished > next);
        if due && self.latencies.len() >= MIN_CALLS {
            self.end_window(sample);
        }
    }
}

/// A mean at first, then a moving average.
#[derive(Debug)]
struct Average {
    weight: f64,
    values: usize,
    average: f64,
}

impl Average {
    fn new(age: usize) -> Self {
        Self { weight: 2.0 / (age as f64 + 1.0), values: 0, average: 0.0 }
    }

    fn add(&mut self, value: f64) -> f64 {
        let weight = if self.values < WARM_UP {
            self.values += 1;
            1.0 / self.values as f64
        } else {
            self.weight
        };
        self.average += weight * (value - self.average);
        self.average
    }
}

#[derive(Debug, Default)]
struct Correlation(VecDeque<(f64, f64)>);

/// The coefficient of correlation, and the coefficient of variation of the second of the two.
#[derive(Default)]
struct Correlated {
    coefficient: f64,
    variation: f64,
}

impl Correlation {
    fn add(&mut self, x: f64, y: f64) -> Correlated {
        if self.0.len() == CORRELATION_WINDOW {
            self.0.pop_front();
        }
        self.0.push_back((x, y));
        if self.0.len() < WARM_UP {
            return Correlated::default();
        }
        let mean = |of: fn(f64, f64) -> f64| {
            self.0.iter().map(|&(x, y)| of(x, y)).sum::<f64>() / self.0.len() as f64
        };
        let (mean_x, mean_y) = (mean(|x, _| x), mean(|_, y| y));
        let deviation_x = (mean(|x, _| x * x) - mean_x * mean_x).max(0.0).sqrt();
        let deviation_y = (mean(|_, y| y * y) - mean_y * mean_y).max(0.0).sqrt();
        let covariance = mean(|x, y| x * y) - mean_x * mean_y;
        let variation = deviation_y / mean_y;
        let still = deviation_x / mean_x < MIN_VARIATION || variation < MIN_VARIATION;
        let coefficient = if still { 0.0 } else { covariance / (deviation_x * deviation_y) };
        Correlated { coefficient, variation }
    }
}
