//! The scenarios, and the bars.
//!
//! The load is twice what the backend can serve, and service times are exponential, unless said.
//! Bars are for the median of the seeds; the knee is where a fixed limit is best.

use std::f64::consts::TAU;

use crate::{
    backend::{Power, Shape},
    case::{Asks, Case},
    contestants::Contestant,
    figures::{
        Metric::{Bloat, Goodput, Jain, Limit, Settled, Tail, Trend},
        Span,
    },
    oracle::Oracle,
    scenario::Scenario,
    traffic::{Steps, Work},
};

pub fn all() -> Vec<Case> {
    let steady = [pool(), deterministic(), long(), large_pool(), small_pool(), contention()];
    let uneven = [bimodal(), pareto(), pauses(), shared()];
    let changes = [steps(), slowdown(), burst(), quiet(), cliff(), failures(), distance()];
    let others = [mix_flip(), sawtooth(), on_off(), drift()];
    let fleets = [fleet(), crowd()];
    steady.into_iter().chain(uneven).chain(changes).chain(others).chain(fleets).collect()
}

/// The one that the first numbers are about.
pub fn pool() -> Case {
    let case = Case::new("A1", "pool of 16 servers, 20 ms", Scenario::base());
    let case = Case { starts: &[1, 4, 16, 64], ..case };
    case.from(50.0).at_least(Goodput, 0.99).at_most(Bloat, 1.25).at_most(Settled, 1.5)
}

fn deterministic() -> Case {
    let scenario = Scenario { work: Steps::always(Work::Constant), ..Scenario::base() };
    Case::new("A1d", "the same, all calls take the same time", scenario).from(50.0)
}

fn long() -> Case {
    let scenario = Scenario { length: 1800.0, ..Scenario::base() };
    let case = Case::new("A1-long", "the same for half an hour", scenario);
    let beside = vec![
        Contestant::LatencyTarget,
        Contestant::Gradient,
        Contestant::incumbent(".NET hill climbing"),
        Contestant::incumbent("Vegas, windowed"),
    ];
    // The controls have failed in A1.
    let case = Case { seeds: 11, beside, controls: Vec::new(), also: Some(Trend), ..case };
    let case = case.from(60.0).at_least(Goodput, 0.99).at_most(Bloat, 1.25);
    // A limit that doubles in an hour has 70 %, and those that never stop growing much more. Half
    // an hour is short: chance makes some 10 % of it.
    case.at_most(Settled, 1.5).bar(Trend, Asks::Within(0.2))
}

fn large_pool() -> Case {
    let scenario = Scenario { length: 60.0, ..Scenario::of(Power::pool(128.0, 0.02)) };
    let case = Case::new("A1b", "pool of 128 servers, 20 ms", scenario);
    case.from(30.0).at_least(Goodput, 0.985).at_most(Bloat, 1.25).at_most(Settled, 0.6)
}

fn small_pool() -> Case {
    let scenario = Scenario { length: 240.0, deadline: 3.0, ..Scenario::of(Power::pool(4.0, 0.1)) };
    let case = Case::new("A1c", "pool of 4 servers, 100 ms", scenario);
    // Its limit of 4 is right here by chance.
    let controls = vec![Contestant::AlwaysMax, Contestant::RandomWalk];
    // At 40 calls a second the median of 15 seeds, or of 31, is .005 off.
    let case = Case { controls, seeds: 64, ..case };
    case.from(120.0).at_least(Goodput, 0.985).at_most(Bloat, 1.4)
}

fn contention() -> Case {
    let shape = Shape::Contention { sigma: 0.03, kappa: 0.0008 };
    let scenario = Scenario::of(Power { shape, service: 0.01 });
    let case =
        Case::new("A2", "contention and crosstalk: best at 34, half of that at 200", scenario);
    case.from(50.0).at_least(Goodput, 0.975).at_most(Settled, 5.0)
}

/// Calls of 5 ms, and so many of 200 ms, in multiples of the mean that a tenth of them makes.
fn small_and_large(small_share: f64) -> Work {
    Work::Bimodal { small_share, small: 5.0 / 24.5, large: 200.0 / 24.5 }
}

fn bimodal() -> Case {
    let scenario = Scenario {
        work: Steps::always(small_and_large(0.9)),
        deadline: 2.0,
        ..Scenario::of(Power::pool(16.0, 0.0245))
    };
    let case = Case::new("A3", "pool of 16, one in ten takes 200 ms, the others 5", scenario);
    case.from(50.0).at_least(Goodput, 0.98).bar(Limit, Asks::NeverAbove(2.0))
}

fn pareto() -> Case {
    let work = Work::Pareto { alpha: 1.5, ratio: 1000.0 };
    let scenario = Scenario { work: Steps::always(work), deadline: 2.0, ..Scenario::base() };
    let case = Case::new("A4", "pool of 16, Pareto with α = 1.5", scenario);
    case.from(50.0).at_least(Goodput, 0.985).at_most(Bloat, 1.3)
}

fn pauses() -> Case {
    let scenario = Scenario { pause: Some((2.0, 0.2)), ..Scenario::base() };
    let case = Case::new("A5", "pool of 16, stops for 0.2 s every 2 s", scenario);
    case.from(50.0).at_least(Goodput, 0.985).at_most(Bloat, 1.3)
}

fn shared() -> Case {
    let shape = Shape::Shared { cores: 16.0 };
    let scenario = Scenario::of(Power { shape, service: 0.02 });
    let case = Case::new("A6", "16 cores that all calls share", scenario);
    case.from(50.0).at_least(Goodput, 0.985).at_most(Bloat, 1.3)
}

pub fn steps() -> Case {
    let power = |servers| Power::pool(servers, 0.02);
    let scenario = Scenario {
        length: 130.0,
        power: Steps(vec![(0.0, power(16.0)), (40.0, power(4.0)), (80.0, power(32.0))]),
        ..Scenario::base()
    };
    Case::new("A7", "16 servers, then 4, then 32, at 1600/s", scenario)
        .phase("16 servers", 0.0, 40.0)
        .at_least(Goodput, 0.97)
        .phase("down to 4", 40.0, 80.0)
        .at_least(Goodput, 0.97)
        .at_most(Settled, 0.8)
        .phase("up to 32", 80.0, 130.0)
        .at_least(Goodput, 0.97)
        .at_most(Settled, 2.0)
}

fn slowdown() -> Case {
    let power = |service| Power::pool(64.0, service);
    let scenario = Scenario {
        power: Steps(vec![(0.0, power(0.02)), (40.0, power(0.08))]),
        rate: Steps::always(600.0),
        ..Scenario::base()
    };
    let case = Case::new("A8", "64 servers get slower, 20 to 80 ms, at 600/s: 48 needed", scenario);
    let case = case.span("", Span { begun: 40.0, from: 45.0, to: 90.0 }).needs(48.0);
    case.at_least(Goodput, 0.995).at_most(Limit, 2.0)
}

fn burst() -> Case {
    let rate = Steps(vec![(0.0, 160.0), (60.0, 2400.0), (70.0, 160.0)]);
    let scenario = Scenario { length: 75.0, rate, ..Scenario::base() };
    let case = Case::new("A9", "a minute at 0.2 × capacity, then 10 s at 3 ×", scenario);
    case.phase("", 60.0, 71.0).at_least(Goodput, 0.98)
}

fn quiet() -> Case {
    let scenario = Scenario { rate: Steps::always(720.0), ..Scenario::base() };
    let case = Case::new("A10", "0.9 × capacity: against no limit at all", scenario);
    let case = Case { oracle: Oracle::NoLimit, also: Some(Tail), ..case };
    // There is nothing to be limited.
    let controls = vec![Contestant::Frozen, Contestant::RandomWalk];
    let case = Case { controls, ..case };
    // As it is printed: 1.000.
    case.from(50.0).at_least(Goodput, 0.9995).at_most(Tail, 1.02)
}

fn cliff() -> Case {
    let scenario = Scenario { breaks_at: Some(48), ..Scenario::base() };
    let about = "pool of 16, which fails everything for 5 s when 48 are in it";
    Case::new("A11", about, scenario).from(50.0)
}

fn failures() -> Case {
    let scenario = Scenario { fails_beyond: Some(32), ..Scenario::base() };
    let case = Case::new("A12", "pool of 16, and a call fails in 1 ms if 32 are in it", scenario);
    case.from(50.0).at_least(Goodput, 0.95).at_most(Limit, 2.0)
}

fn distance() -> Case {
    let scenario = Scenario { distance: 0.02, ..Scenario::base() };
    // What the formula says is right for calls that all take the same time. With these, somewhat
    // more of them on the way serve a little more, so there are figures above 1.
    Case::new("A13", "pool of 16 behind a network, 20 ms each way", scenario).from(50.0)
}

fn mix_flip() -> Case {
    let scenario = Scenario {
        work: Steps(vec![(0.0, small_and_large(0.9)), (40.0, small_and_large(0.5))]),
        deadline: 2.0,
        ..Scenario::of(Power::pool(16.0, 0.0245))
    };
    let about = "as A3, and from 40 s on every second one takes 200 ms";
    Case::new("A14", about, scenario).phase("", 40.0, 90.0)
}

fn sawtooth() -> Case {
    let rate = |now: f64| 1600.0 * (1.0 - (now / 10.0 % 2.0 - 1.0).abs());
    let scenario = Scenario { rate: Steps::sampled(0.25, 90.0, rate), ..Scenario::base() };
    Case::new("A15", "pool of 16, load from 0 to 2 × and back in 20 s", scenario).from(50.0)
}

fn on_off() -> Case {
    let rate = |now: f64| if now % 2.0 < 1.0 { 2400.0 } else { 0.0 };
    let scenario = Scenario { rate: Steps::sampled(1.0, 90.0, rate), ..Scenario::base() };
    Case::new("A16", "pool of 16, a second at 3 ×, a second of nothing", scenario).from(50.0)
}

pub fn drift() -> Case {
    let service = |now: f64| 0.02 + 0.04 * ((now - 20.0) / 60.0).clamp(0.0, 1.0);
    let power = |now| Power::pool(16.0, service(now));
    let scenario = Scenario { power: Steps::sampled(0.5, 90.0, power), ..Scenario::base() };
    Case::new("A17", "pool of 16 that gets slower, 20 to 60 ms in a minute", scenario)
        .phase("", 20.0, 90.0)
}

fn fleet() -> Case {
    let joins = vec![0.0, 0.0, 0.0, 0.0, 10.0, 20.0, 30.0, 40.0];
    let scenario = Scenario { joins, ..Scenario::of(Power::pool(64.0, 0.02)) };
    let case =
        Case::new("E1", "8 replicas, the last of them joins after 40 s, 64 servers", scenario);
    let case = Case { oracle: Oracle::AtRest, also: Some(Jain), ..case };
    let case = Case { judged: Contestant::LatencyTarget, ..case };
    // With little throughput the first two are no feat.
    case.from(50.0).at_most(Limit, 1.6).at_least(Jain, 0.97).at_least(Goodput, 0.95)
}

fn crowd() -> Case {
    // They do not start in the same instant.
    let joins = (0..64).map(|replica| 0.02 * (TAU * f64::from(replica)).fract()).collect();
    let scenario = Scenario { joins, ..Scenario::base() };
    let case = Case::new("E2", "64 replicas, 16 servers", scenario);
    let case = Case { oracle: Oracle::AtRest, also: Some(Jain), ..case };
    let case = Case { judged: Contestant::LatencyTarget, ..case };
    case.from(50.0).at_most(Bloat, 1.7).at_least(Goodput, 0.93)
}
