use std::time::Duration;

use tokio::time::Instant;
use tower_load_leveling::limit::{Algorithm, Sample};

use super::{SplitMix64, counts, dropped, magnitude};

// `WindowedLimit.java`.
/// `DEFAULT_MIN_WINDOW_TIME` and `DEFAULT_MAX_WINDOW_TIME`: between them lies twice the fastest
/// call.
const WINDOW: Duration = Duration::from_secs(1);
/// `DEFAULT_WINDOW_SIZE`: fewer calls say nothing.
const MIN_CALLS: u32 = 10;
/// `DEFAULT_MIN_RTT_THRESHOLD`: faster calls say nothing.
const MIN_LATENCY: Duration = Duration::from_micros(100);

// `VegasLimit.java`.
const START: f64 = 20.0;
const MAX_LIMIT: f64 = 1000.0;
/// After so many windows per call of the limit, or from half as many on, the base is taken anew.
const PROBE_MULTIPLIER: f64 = 30.0;

/// Vegas, which keeps the queue that latency shows between three and six steps, fed with the mean
/// of each second instead of each call.
#[derive(Debug)]
pub(super) struct WindowedVegas {
    vegas: Vegas,
    window: Window,
    next_update: Option<Instant>,
}

#[derive(Debug, Default)]
struct Window {
    calls: u32,
    latencies: Duration,
    most_in_flight: usize,
    dropped: bool,
}

#[derive(Debug)]
struct Vegas {
    limit: f64,
    /// The latency without a queue, in seconds.
    base: Option<f64>,
    windows: u32,
    probe_jitter: f64,
    random: SplitMix64,
}

impl WindowedVegas {
    pub(super) fn new(seed: u64) -> Self {
        Self { vegas: Vegas::new(seed), window: Window::default(), next_update: None }
    }
}

impl Window {
    fn add(&mut self, sample: &Sample) {
        self.calls += 1;
        self.latencies += sample.service_time();
        self.most_in_flight = self.most_in_flight.max(sample.in_flight_at_dispatch);
        self.dropped |= dropped(sample);
    }
}

impl Vegas {
    fn new(seed: u64) -> Self {
        let mut random = SplitMix64(seed);
        Self { limit: START, base: None, windows: 0, probe_jitter: jitter(&mut random), random }
    }

    fn update(&mut self, window: &Window) {
        let latency = window.latencies.as_secs_f64() / f64::from(window.calls);
        self.windows += 1;
        if f64::from(self.windows) >= self.probe_jitter * PROBE_MULTIPLIER * self.limit {
            self.probe_jitter = jitter(&mut self.random);
            self.windows = 0;
            self.base = Some(latency);
            return;
        }
        match self.base {
            Some(base) if latency >= base => self.adjust(base, latency, window),
            _ => self.base = Some(latency),
        }
    }

    fn adjust(&mut self, base: f64, latency: f64, window: &Window) {
        let queue = (self.limit * (1.0 - base / latency)).ceil();
        let step = magnitude(self.limit);
        let change = if window.dropped {
            -step
        } else if (window.most_in_flight as f64) * 2.0 < self.limit {
            // It was not the limit that held back.
            0.0
        } else if queue <= step {
            6.0 * step
        } else if queue < 3.0 * step {
            step
        } else if queue > 6.0 * step {
            -step
        } else {
            0.0
        };
        self.limit = (self.limit + change).clamp(1.0, MAX_LIMIT);
    }
}

fn jitter(random: &mut SplitMix64) -> f64 {
    0.5 + 0.5 * random.unit()
}

impl Algorithm for WindowedVegas {
    fn limit(&self) -> f64 {
        self.vegas.limit
    }

    fn on_sample(&mut self, sample: &Sample) {
        if !counts(sample) || sample.service_time() < MIN_LATENCY {
            return;
        }
        self.window.add(sample);
        if self.next_update.is_none_or(|next| sample.finished > next) {
            self.next_update = Some(sample.finished + WINDOW);
            let window = std::mem::take(&mut self.window);
            if window.calls >= MIN_CALLS {
                self.vegas.update(&window);
            }
        }
    }
}
