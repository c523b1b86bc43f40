//! What a sample costs.

use std::{
    hint::black_box,
    sync::mpsc::{Sender, channel},
    time::Instant,
};

use tower_load_leveling::limit::{Algorithm, Bdp, Load, Sample};

use crate::{engine, front::Modelled, scenario::Scenario, table::Score};

/// Bars: nanoseconds a sample, and allocations.
const NANOS: f64 = 50.0;
const REPEATS: usize = 20;

#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Of the fastest repeat: what makes others slower is not the algorithm.
    pub nanos: f64,
    pub allocations: u64,
    pub samples: usize,
}

pub fn measure() -> Cost {
    let samples = samples();
    let mut nanos = f64::INFINITY;
    let mut allocations = 0;
    for _ in 0..REPEATS {
        let mut bdp = Bdp::new();
        let allocated = allocation_counter::measure(|| {
            let start = Instant::now();
            for sample in &samples {
                bdp.on_sample(black_box(sample));
                black_box(bdp.limit());
            }
            nanos = nanos.min(start.elapsed().as_nanos() as f64 / samples.len() as f64);
        });
        allocations = allocated.count_total;
    }
    Cost { nanos, allocations, samples: samples.len() }
}

pub fn print(score: &mut Score) {
    let Cost { nanos, allocations, samples } = measure();
    println!(
        "\nBdp::on_sample, fastest of {REPEATS} times {samples} samples of A1: \
         {nanos:.1} ns (bar: ≤ {NANOS:.0} ns), {allocations} allocations (bar: 0)"
    );
    for (is_met, line) in [
        (nanos <= NANOS, format!("cost: {nanos:.1} ns a sample is not ≤ {NANOS:.0} ns")),
        (
            allocations == 0,
            format!("cost: {allocations} allocations in {samples} samples are not 0"),
        ),
    ] {
        if is_met {
            score.met += 1;
        } else {
            score.missed.push(line);
        }
    }
}

/// What a leveler hears in a quarter of a minute of the first scenario.
fn samples() -> Vec<Sample> {
    let scenario = Scenario { length: 15.0, ..Scenario::base() };
    let (sender, samples) = channel();
    let recorder = Box::new(Recorder { bdp: Bdp::new(), sender });
    let max_wait = std::time::Duration::from_secs_f64(scenario.max_wait());
    engine::run(&scenario, vec![Box::new(Modelled::new(recorder, max_wait))], 1);
    samples.try_iter().collect()
}

struct Recorder {
    bdp: Bdp,
    sender: Sender<Sample>,
}

impl Algorithm for Recorder {
    fn limit(&self) -> f64 {
        self.bdp.limit()
    }

    fn on_sample(&mut self, sample: &Sample) {
        self.bdp.on_sample(sample);
        self.sender.send(sample.clone()).expect("the samples are collected at the end");
    }

    fn on_tick(&mut self, now: tokio::time::Instant, load: &Load) {
        self.bdp.on_tick(now, load);
    }
}
