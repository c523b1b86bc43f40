//! How long an answer takes, when requests come as they come, at some parts of what the bare server
//! can do.

use std::time::Duration;

use crate::{
    bars::Bar,
    contenders::Contender::{self, Bare, Spawn},
    handlers::Handler,
    loader::Loader,
    numbers::{Ratio, median, quantile},
    servers::Servers,
};

#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Of the capacity.
    part: f64,
    rounds: usize,
    /// How long requests come, for each contender in each round.
    time: Duration,
}

pub const FULL: [Load; 3] = [
    Load { part: 0.1, rounds: 14, time: Duration::from_millis(500) },
    // The one with a bar.
    Load { part: 0.5, rounds: 55, time: Duration::from_millis(250) },
    Load { part: 0.9, rounds: 28, time: Duration::from_millis(250) },
];

const SHORT: Duration = Duration::from_millis(50);

pub const TEST: [Load; 3] = [
    Load { part: 0.1, rounds: 1, time: SHORT },
    Load { part: 0.5, rounds: 1, time: SHORT },
    Load { part: 0.9, rounds: 1, time: SHORT },
];

/// In which the bare server shows what it can do.
const TRY: Duration = Duration::from_millis(100);

pub const PERCENTILES: [f64; 3] = [0.5, 0.99, 0.999];
/// A part of the capacity, and at most so many times the p99 of the bare server.
const BAR: (f64, f64) = (0.5, 1.05);

/// What came of a load.
#[derive(Debug)]
pub struct Level {
    load: Load,
    /// Requests per second, in most rounds about so many.
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

pub fn measure(loads: [Load; 3], servers: &Servers, loader: &mut Loader) -> Vec<Level> {
    println!(
        "latency, {}, at parts of what the bare server can do at the beginning of a round",
        Handler::Busy.name()
    );
    loads.map(|load| level(load, servers, loader)).into()
}

fn level(load: Load, servers: &Servers, loader: &mut Loader) -> Level {
    let contenders = Contender::MAIN;
    let mut pools = vec![Pool::default(); contenders.len()];
    let mut rates = Vec::new();
    for round in 0..load.rounds {
        // Anew each time: where others come and go, half of what there was a minute ago may be all
        // there is now.
        let rate = load.part * loader.rate(servers.address(Handler::Busy, Bare), TRY);
        let count = (rate * load.time.as_secs_f64()).ceil() as usize;
        rates.push(rate);
        for nth in 0..contenders.len() {
            let nth = (nth + round) % contenders.len();
            let address = servers.address(Handler::Busy, contenders[nth]);
            // The same arrivals for all, and others in the next round.
            let latencies = loader.latencies(address, rate, count, round as u64);
            pools[nth].p99.push(quantile(&latencies, 0.99));
            pools[nth].latencies.extend(latencies);
        }
    }
    let rate = median(&rates);
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
        println!(
            "{} load, about {rate:.0}/s, {rounds} rounds of {} ms",
            self.title(),
            time.as_millis()
        );
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
