//! Whole kinds of backends on which an adaptive limit can get lost.
//!
//! Each is run with 64 seeds from cold, and has a bar for the worst of them. Times scale with the
//! service time: a caller waits 50 of these, and a request a fifth of that in the queue.

use crate::{
    backend::{Power, Shape},
    case::Case,
    contestants::Contestant,
    figures::Metric::{Bloat, Goodput, Tail},
    scenario::Scenario,
    traffic::{Steps, Work},
};

/// The seeds of each kind.
pub const SEEDS: u64 = 64;

pub fn all() -> Vec<Case> {
    let long = [0.02, 0.1, 0.5, 2.0, 4.0, 10.0, 30.0].map(long_calls);
    let cliffs = [1.25, 1.5, 2.0, 4.0].map(cliff);
    let mixes = [(0.9, 0.5), (0.5, 0.9), (0.98, 0.8)].map(|(from, to)| flip(from, to));
    let cold = [0.5, 0.8, 0.95].map(cold);
    let others = [unequal(), contention(), cold_tail(), single()];
    long.into_iter().chain(cliffs).chain(mixes).chain(cold).chain(others).collect()
}

fn case(name: &'static str, about: &'static str, scenario: Scenario) -> Case {
    let case = Case::new(name, about, scenario);
    Case { seeds: SEEDS, controls: vec![Contestant::AlwaysMax], ..case }
}

/// A pool of 64 whose calls take so long, at twice its capacity, for 90 times that.
fn long_calls(service: f64) -> Case {
    let (name, about) = match service {
        s if s >= 30.0 => ("K1-30s", "pool of 64 servers, 30 s, from cold"),
        s if s >= 10.0 => ("K1-10s", "pool of 64 servers, 10 s, from cold"),
        s if s >= 4.0 => ("K1-4s", "pool of 64 servers, 4 s, from cold"),
        s if s >= 2.0 => ("K1-2s", "pool of 64 servers, 2 s, from cold"),
        s if s >= 0.5 => ("K1-500ms", "pool of 64 servers, 500 ms, from cold"),
        s if s >= 0.1 => ("K1-100ms", "pool of 64 servers, 100 ms, from cold"),
        _ => ("K1-20ms", "pool of 64 servers, 20 ms, from cold"),
    };
    let power = Power::pool(64.0, service);
    let length = 90.0 * service;
    let scenario = Scenario { length, deadline: 50.0 * service, ..Scenario::of(power) };
    let case = case(name, about, scenario).from(0.0).at_least(Goodput, 0.83).never_below(0.75);
    // No limit at all has the goodput, too.
    case.at_most(Bloat, 1.6)
}

/// Does a fifth beyond a multiple of the knee.
fn cliff(multiple: f64) -> Case {
    let (name, about, bar) = match multiple {
        m if m >= 4.0 => ("K2-4", "pool of 16, a fifth of its speed beyond 64", 0.98),
        m if m >= 2.0 => ("K2-2", "pool of 16, a fifth of its speed beyond 32", 0.97),
        m if m >= 1.5 => ("K2-1.5", "pool of 16, a fifth of its speed beyond 24", 0.95),
        _ => ("K2-1.25", "pool of 16, a fifth of its speed beyond 20", 0.90),
    };
    let shape = Shape::Cliff { servers: 16.0, at: 16.0 * multiple, factor: 0.2 };
    let scenario = Scenario::of(Power { shape, service: 0.02 });
    case(name, about, scenario).from(50.0).at_least(Goodput, bar).never_below(0.80)
}

/// Calls of 5 ms, and so many of 200 ms, in multiples of the mean that a tenth of them makes.
fn small_and_large(small_share: f64) -> Work {
    Work::Bimodal { small_share, small: 5.0 / 24.5, large: 200.0 / 24.5 }
}

fn bimodal(work: Steps<Work>) -> Scenario {
    Scenario { work, deadline: 2.0, ..Scenario::of(Power::pool(16.0, 0.0245)) }
}

fn unequal() -> Case {
    let scenario = Scenario { length: 60.0, ..bimodal(Steps::always(small_and_large(0.9))) };
    let about = "pool of 16, one in ten takes 200 ms, the others 5, from cold";
    case("K3", about, scenario).from(0.0).at_least(Goodput, 0.95).never_below(0.85)
}

/// The share of calls that take 5 ms changes after 40 s; the others take 200 ms.
fn flip(from: f64, to: f64) -> Case {
    let (name, about, bar) = match from {
        f if f > 0.95 => ("K4-up", "pool of 16, heavy calls from 2 to 20 of 100", 0.91),
        f if f > 0.8 => ("K4-more", "pool of 16, heavy calls from 1 to 5 of ten", 0.90),
        _ => ("K4-less", "pool of 16, heavy calls from 5 to 1 of ten", 0.96),
    };
    let work = Steps(vec![(0.0, small_and_large(from)), (40.0, small_and_large(to))]);
    let mean = work.at(0.0).mean().min(work.at(50.0).mean());
    let scenario = bimodal(work);
    let rate = Steps::always(2.0 * scenario.power.at(0.0).capacity() / mean);
    let scenario = Scenario { rate, ..scenario };
    case(name, about, scenario).phase("", 40.0, 90.0).at_least(Goodput, bar)
}

fn contention() -> Case {
    let shape = Shape::Contention { sigma: 0.03, kappa: 0.0008 };
    let scenario = Scenario { length: 12.0, ..Scenario::of(Power { shape, service: 0.01 }) };
    let about = "contention and crosstalk, best at 34, the first 12 s";
    case("K5", about, scenario).from(0.0).at_least(Goodput, 0.92)
}

/// A pool of 64 that is not overloaded, in its first five seconds.
fn cold(load: f64) -> Case {
    let (name, about) = match load {
        l if l > 0.9 => ("K6-.95", "pool of 64 servers, 100 ms, load 0.95, the first 5 s"),
        l if l > 0.7 => ("K6-.8", "pool of 64 servers, 100 ms, load 0.8, the first 5 s"),
        _ => ("K6-.5", "pool of 64 servers, 100 ms, load 0.5, the first 5 s"),
    };
    let scenario = Scenario::of(Power::pool(64.0, 0.1));
    let rate = Steps::always(640.0 * load);
    let scenario = Scenario { length: 5.0, rate, ..scenario };
    let case = case(name, about, scenario).from(0.0).at_least(Goodput, 0.80);
    Case { controls: Vec::new(), ..case }
}

fn cold_tail() -> Case {
    let scenario = Scenario { rate: Steps::always(640.0), length: 30.0, ..Scenario::base() };
    let case = case("K6-p99", "pool of 16 servers, 20 ms, load 0.8, the first 30 s", scenario);
    let case = Case { also: Some(Tail), controls: Vec::new(), ..case };
    case.from(0.0).at_most(Tail, 1.6)
}

fn single() -> Case {
    let scenario = Scenario { deadline: 10.0, ..Scenario::of(Power::pool(1.0, 0.2)) };
    let about = "one server, five calls a second";
    case("K7", about, scenario).from(0.0).at_least(Goodput, 0.9).at_most(Bloat, 7.5)
}
