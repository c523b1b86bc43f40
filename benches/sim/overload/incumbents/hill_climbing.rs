use std::{collections::VecDeque, f64::consts::PI, time::Duration};

use tokio::time::Instant;
use tower_load_leveling::limit::{Algorithm, Sample};

use super::{SplitMix64, counts};

/// A thread pool starts with a thread per core. This is a machine with 20.
const START: f64 = 20.0;
/// That is the minimum of a thread pool too, but need not be that of a server.
const MIN_LIMIT: f64 = 1.0;
/// A thread pool has 32767; the largest of the others here is this.
const MAX_LIMIT: f64 = 1000.0;

// The settings `System.Threading.ThreadPool.HillClimbing.…`.
/// `WavePeriod`: the limit goes up for half as many samples, then down for as many.
const WAVE_PERIOD: usize = 4;
/// `WaveHistorySize`: how many periods are looked at.
const HISTORY: usize = 8 * WAVE_PERIOD;
/// `MaxWaveMagnitude`.
const MAX_WAVE: f64 = 20.0;
/// `WaveMagnitudeMultiplier`.
const WAVE_MULTIPLIER: f64 = 1.0;
/// `Bias`: how much more throughput, in proportion, more threads have to bring.
const BIAS: f64 = 0.15;
/// `TargetSignalToNoiseRatio`.
const SIGNAL_TO_NOISE: f64 = 3.0;
/// `ErrorSmoothingFactor`.
const NOISE_WEIGHT: f64 = 0.01;
/// `MaxChangePerSecond`.
const GAIN: f64 = 4.0;
/// `MaxChangePerSample`.
const MAX_CHANGE: f64 = 20.0;
/// `GainExponent`.
const GAIN_EXPONENT: i32 = 2;
/// `MaxSampleErrorPercent`.
const MAX_SAMPLE_ERROR: f64 = 0.15;
/// `SampleIntervalLow` and `SampleIntervalHigh`, in milliseconds.
const SAMPLE_INTERVAL: (u64, u64) = (10, 200);
/// By how much a sample is lengthened that is not accurate enough.
const MORE: Duration = Duration::from_millis(10);

/// Adds a square wave to the limit and looks for it in the throughput, with a Fourier transform.
///
/// Without the gate of the original that holds the limit while the processor is busy: a client does
/// not know the processor of its server.
#[derive(Debug)]
pub(super) struct HillClimbing {
    limit: f64,
    /// The limit without the wave.
    setting: f64,
    history: VecDeque<Measured>,
    samples: usize,
    noise: f64,
    since: Option<Instant>,
    finished: u32,
    next_update: Option<Instant>,
    interval: Duration,
    random: SplitMix64,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    throughput: f64,
    limit: f64,
}

/// What the wave of the limit did to the throughput.
#[derive(Clone, Copy, Debug, Default)]
struct Effect {
    ratio: f64,
    confidence: f64,
}

impl HillClimbing {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = SplitMix64(seed);
        Self {
            limit: START,
            setting: START,
            history: VecDeque::with_capacity(HISTORY),
            samples: 0,
            noise: 0.0,
            since: None,
            finished: 0,
            next_update: None,
            interval: random_interval(&mut random),
            random,
        }
    }

    fn update(&mut self, since: Instant, now: Instant) {
        // A call may have begun long before, and another not have ended yet.
        let error = (self.limit - 1.0) / f64::from(self.finished);
        if self.samples > 0 && error >= MAX_SAMPLE_ERROR {
            self.next_update = Some(now + MORE);
            return;
        }
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        let throughput = f64::from(self.finished) / seconds;
        self.history.push_back(Measured { throughput, limit: self.limit });
        self.samples += 1;

        let effect = self.effect().unwrap_or_default();
        self.climb(effect, seconds);
        self.since = Some(now);
        self.finished = 0;
        // Where less would be better but is not allowed, it stays for long.
        let patience = if effect.ratio < 0.0 && self.limit == MIN_LIMIT {
            10.0 * effect.ratio.abs().min(1.0)
        } else {
            1.0
        };
        self.next_update = Some(now + self.interval.mul_f64(patience));
    }

    fn effect(&mut self) -> Option<Effect> {
        // Whole periods, or the frequency falls between two bands. At least two of them.
        let count = (self.samples - 1).min(HISTORY) / WAVE_PERIOD * WAVE_PERIOD;
        if count <= WAVE_PERIOD {
            return None;
        }
        let recent = || self.history.iter().skip(self.history.len() - count);
        let throughputs: Vec<_> = recent().map(|measured| measured.throughput).collect();
        let limits: Vec<_> = recent().map(|measured| measured.limit).collect();

        let periods = (count / WAVE_PERIOD) as f64;
        let answer = relative_wave(&throughputs, WAVE_PERIOD as f64)?;
        let wave = relative_wave(&limits, WAVE_PERIOD as f64)?;
        // What there is in the neighbouring bands is noise.
        let above = relative_wave(&throughputs, count as f64 / (periods + 1.0))?;
        let below = relative_wave(&throughputs, count as f64 / (periods - 1.0))?;
        let noise = above.magnitude().max(below.magnitude());
        let weight = if self.noise == 0.0 { 1.0 } else { NOISE_WEIGHT };
        self.noise += weight * (noise - self.noise);
        let ratio = wave.part_in(answer).map_or(0.0, |part| part - BIAS);
        let noise = noise.max(self.noise);
        let confidence = if noise > 0.0 { wave.magnitude() / noise / SIGNAL_TO_NOISE } else { 1.0 };
        Some(Effect { ratio, confidence })
    }

    fn climb(&mut self, effect: Effect, seconds: f64) {
        let direction = effect.ratio.clamp(-1.0, 1.0) * effect.confidence.clamp(0.0, 1.0);
        let change = direction.abs().powi(GAIN_EXPONENT).copysign(direction) * GAIN * seconds;
        self.setting += change.min(MAX_CHANGE);
        let wave = self.setting * self.noise * SIGNAL_TO_NOISE * WAVE_MULTIPLIER * 2.0;
        let wave = wave.round().clamp(1.0, MAX_WAVE);
        self.setting = self.setting.min(MAX_LIMIT - wave).max(MIN_LIMIT);
        let high = self.samples / (WAVE_PERIOD / 2) % 2 == 1;
        let limit = (self.setting + if high { wave } else { 0.0 }).floor();
        if limit != self.limit {
            self.limit = limit;
            self.interval = random_interval(&mut self.random);
        }
    }
}

impl Algorithm for HillClimbing {
    fn limit(&self) -> f64 {
        self.limit
    }

    /// Like the original, which looks at the time when a work item ends.
    fn on_sample(&mut self, sample: &Sample) {
        if !counts(sample) {
            return;
        }
        let now = sample.finished;
        self.finished += 1;
        let since = *self.since.get_or_insert(sample.dispatched);
        let next_update = *self.next_update.get_or_insert(since + self.interval);
        // Until no more run than should, the last change is not yet in force.
        let settled = sample.in_flight as f64 + 1.0 <= self.limit;
        if settled && now >= next_update && now > since {
            self.update(since, now);
        }
    }
}

/// A component of a Fourier transform.
#[derive(Clone, Copy)]
struct Wave {
    re: f64,
    im: f64,
}

impl Wave {
    fn magnitude(self) -> f64 {
        self.re.hypot(self.im)
    }

    /// Returns which part of this wave `answer` has, in phase with it: the real part of their
    /// ratio.
    fn part_in(self, answer: Self) -> Option<f64> {
        let square = self.re * self.re + self.im * self.im;
        (square > 0.0).then(|| (answer.re * self.re + answer.im * self.im) / square)
    }
}

/// Returns the component with that period, by the algorithm of Goertzel, in proportion to the mean.
fn relative_wave(values: &[f64], period: f64) -> Option<Wave> {
    let sum = values.iter().sum::<f64>();
    if sum <= 0.0 {
        return None;
    }
    let (sin, cos) = (2.0 * PI / period).sin_cos();
    let (last, before) = values
        .iter()
        .fold((0.0, 0.0), |(last, before), value| (2.0 * cos * last - before + value, last));
    Some(Wave { re: (last - before * cos) / sum, im: before * sin / sum })
}

fn random_interval(random: &mut SplitMix64) -> Duration {
    let (low, high) = SAMPLE_INTERVAL;
    Duration::from_millis(low + random.next() % (high - low + 1))
}
