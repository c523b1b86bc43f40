//! How long an answer takes, when requests come as they come, at some parts of what the bare server can do.

use std::time::Duration;

use crate::{
    bars::Bar,
    contenders::Contender::{self, Bare, Spawn},
    handlers::Handler,
    loader::Loader,
    numbers::{Ratio, median, quantile},
    servers::Servers,
    throughput::SLICE,
};

#[derive(Debug)]
pub struct Plan {
    /// To find out what the bare server can do.
    tries: usize,
    loads: [Load; 3],
}

#[derive(Clone, Copy, Debug)]
struct Load {
    /// Of the capacity.
    part: f64,
    rounds: usize,
    /// How long requests come, for each contender in each round.
    time: Duration,
}

pub const FULL: Plan = Plan {
    tries: 25,
    loads: [
        Load { part: 0.1, rounds: 15, time: Duration::from_millis(500) },
        // The one with a bar.
        Load { part: 0.5, rounds: 60, time: Duration::from_millis(250) },
        Load { part: 0.9, rounds: 30, time: Duration::from_millis(250) },
    ],
};

const SHORT: Duration = Duration::from_millis(50);

pub const TEST: Plan = Plan {
    tries: 1,
    loads: [
        Load { part: 0.1, rounds: 1, time: SHORT },
        Load { part: 0.5, rounds: 1, time: SHORT },
        Load { part: 0.9, rounds: 1, time: SHORT },
    ],
};

pub const PERCENTILES: [f64; 3] = [0.5, 0.99, 0.999];
/// A part of the capacity, and at most so many times the p99 of the bare server.
const BAR: (f64, f64) = (0.5, 1.05);

/// What came of a load.
#[derive(Debug)]
pub struct Level {
    load: Load,
    pub rate: f64,
    pub of: Vec<(Contender, Pool)>,
}

/// What came of a contender.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// Of all rounds.
    latencies: Vec<f64>,
    /// Of each round.
    p99: Vec<f64>,
}

impl Pool {
    /// In seconds, of all rounds together.
    pub fn percentiles(&self) -> [f64; 3] {
        PERCENTILES.map(|part| quantile(&self.latencies, part))
    }
}

pub fn measure(plan: &Plan, servers: &Servers, loader: &mut Loader) -> Vec<Level> {
    let capacity = capacity(plan, servers, loader);
    println!(
        "latency, {}, at parts of {capacity:.0}/s, which is what the bare server can do",
        Handler::Busy.name()
    );
    plan.loads.map(|load| level(load, load.part * capacity, servers, loader)).into()
}

fn capacity(plan: &Plan, servers: &Servers, loader: &mut Loader) -> f64 {
    let address = servers.address(Handler::Busy, Bare);
    let rates: Vec<f64> = (0..plan.tries).map(|_| loader.rate(address, SLICE)).collect();
    median(&rates)
}

fn level(load: Load, rate: f64, servers: &Servers, loader: &mut Loader) -> Level {
    let contenders = Contender::MAIN;
    let mut pools = vec![Pool::default(); contenders.len()];
    let count = (rate * load.time.as_secs_f64()).ceil() as usize;
    for round in 0..load.rounds {
        for nth in 0..contenders.len() {
            let nth = (nth + round) % contenders.len();
            let address = servers.address(Handler::Busy, contenders[nth]);
            // The same arrivals for all, and others in the next round.
            let latencies = loader.latencies(address, rate, count, round as u64);
            pools[nth].p99.push(quantile(&latencies, 0.99));
            pools[nth].latencies.extend(latencies);
        }
    }
    let level = Level { load, rate, of: contenders.iter().copied().zip(pools).collect() };
    level.print();
    level
}

impl Level {
    /// The part of the capacity.
    pub fn title(&self) -> String {
        format!("{:.0} %", self.load.part * 100.0)
    }

    fn print(&self) {
        let Self { load, rate, of } = self;
        let Load { part, rounds, time } = load;
        println!("{} load, {rate:.0}/s, {rounds} rounds of {} ms", self.title(), time.as_millis());
        let columns = PERCENTILES.map(|part| format!("{:>9}", format!("p{}", part * 100.0)));
        println!("  {:<30}{} µs  p99 ÷ bare: {}", "", columns.concat(), Ratio::TITLE);
        for (contender, pool) in of {
            let times = pool.percentiles();
            assert!(times[0] > 0.0 && times.is_sorted(), "latencies should take time: {times:?}");
            let times = times.map(|time| format!("{:>9.0}", time * 1e6)).concat();
            let ratio = self.ratio(*contender).print();
            println!("  {:<30}{times}                  {ratio}", contender.name());
        }
        if *part == BAR.0 {
            Bar::AtMost(BAR.1).judge(Spawn, Bare, &self.ratio(Spawn));
        }
    }

    fn ratio(&self, contender: Contender) -> Ratio {
        let p99 = |wanted| {
            let found = self.of.iter().find(|(contender, _)| *contender == wanted);
            found.expect("measured").1.p99.as_slice()
        };
        Ratio::of(p99(contender), p99(Bare))
    }
}
