//! Kinds of backends, and of load, that the law was not made for.
//!
//! Each is run from cold against a limit that is told where the knee is. No seed may be lost: below
//! 0.8 of what that limit gives.

use std::f64::consts::TAU;

use crate::{
    backend::{Power, Shape},
    case::Case,
    figures::Metric::Bloat,
    scenario::Scenario,
    traffic::{Steps, Work},
};

/// The seeds of each kind.
const SEEDS: u64 = 16;

pub fn all() -> Vec<Case> {
    let moving =
        [oscillation(), growth(), autoscaling(), restarts(), leak(), neighbour(), cold_cache()];
    let calls = [hangs(), heavy_tail(), sharing(), quick(), few(), wide()];
    let backends = [collections(), rare_pauses(), batches(), bucket(), connections()];
    let load = [bursts(), long_bursts(), closed(), closed_tight(), crowd(), barely(), nearly()];
    moving.into_iter().chain(calls).chain(backends).chain(load).collect()
}

fn case(name: &'static str, about: &'static str, scenario: Scenario) -> Case {
    let case = Case::new(name, about, scenario);
    Case { seeds: SEEDS, controls: Vec::new(), beside: Vec::new(), ..case }
        .from(0.0)
        .never_below(0.8)
}

fn pool(servers: f64) -> Power {
    Power::pool(servers, 0.02)
}

/// With a load of twice what the strongest of these can do.
fn changing(every: f64, power: impl Fn(f64) -> Power) -> Scenario {
    let power = Steps::sampled(every, 90.0, power);
    let most = power.0.iter().map(|(_, power)| power.capacity()).fold(0.0, f64::max);
    Scenario { power, rate: Steps::always(2.0 * most), ..Scenario::base() }
}

fn oscillation() -> Case {
    let power = |now: f64| pool((16.0 + 8.0 * (TAU * now / 30.0).sin()).round());
    case("S-sine", "8 to 24 servers and back in 30 s", changing(0.5, power))
}

fn growth() -> Case {
    let power = |now: f64| pool((8.0 + 56.0 * now / 90.0).round());
    case("S-grow", "8 servers become 64 in 90 s", changing(0.5, power))
}

fn autoscaling() -> Case {
    let power = |now: f64| pool([8.0, 12.0, 18.0, 27.0, 41.0, 62.0][(now / 15.0) as usize]);
    case("S-scale", "8 servers, half as many more every 15 s", changing(15.0, power))
}

fn restarts() -> Case {
    let power = |now: f64| pool(if now % 10.0 < 7.0 { 16.0 } else { 12.0 });
    case("S-roll", "16 servers, 4 of them away for 3 s of every 10", changing(1.0, power))
}

fn leak() -> Case {
    let power = |now: f64| Power::pool(16.0, 0.02 * (1.0 + 2.0 * (now % 20.0) / 20.0));
    case("S-leak", "16 servers, three times slower in 20 s, and as new again", changing(0.5, power))
}

fn neighbour() -> Case {
    let slower = |now: f64| 1.0 + (now * 0.618_034 * 7.0).fract();
    let power = move |now: f64| Power::pool(16.0, 0.02 * slower(now.floor()));
    case(
        "S-noisy",
        "16 servers, each second another speed between a half and all",
        changing(1.0, power),
    )
}

fn cold_cache() -> Case {
    let power = |now: f64| Power::pool(16.0, 0.02 * (1.0 + 9.0 * (-now / 10.0).exp()));
    case("S-cache", "16 servers, ten times slower at first", changing(0.5, power))
}

fn of_work(power: Power, work: Work) -> Scenario {
    let rate = Steps::always(2.0 * power.capacity() / work.mean());
    Scenario { work: Steps::always(work), rate, deadline: 2.0, ..Scenario::of(power) }
}

fn hangs() -> Case {
    let work = Work::Bimodal { small_share: 0.99, small: 1.0, large: 100.0 };
    case(
        "S-hang",
        "64 servers, 20 ms, one call of 100 takes 2 s",
        Scenario { deadline: 5.0, ..of_work(pool(64.0), work) },
    )
}

fn heavy_tail() -> Case {
    let work = Work::Pareto { alpha: 1.2, ratio: 10_000.0 };
    case("S-tail", "16 servers, Pareto with α = 1.2", of_work(pool(16.0), work))
}

fn sharing() -> Case {
    let share = |now: f64| 0.98 - 0.48 * (now / 80.0).min(1.0);
    let work = |now: f64| Work::Bimodal { small_share: share(now), small: 0.25, large: 10.0 };
    let work = Steps::sampled(1.0, 90.0, work);
    let rate = Steps::always(2.0 * pool(16.0).capacity() / work.at(0.0).mean());
    let scenario = Scenario { work, rate, deadline: 3.0, ..Scenario::base() };
    case("S-share", "16 servers, heavy calls from 2 to 50 of 100 in 80 s", scenario)
}

fn quick() -> Case {
    case(
        "S-1ms",
        "4 servers, 1 ms",
        Scenario { length: 30.0, ..Scenario::of(Power::pool(4.0, 0.001)) },
    )
}

fn few() -> Case {
    case(
        "S-two",
        "two servers, 50 ms",
        Scenario { deadline: 2.5, ..Scenario::of(Power::pool(2.0, 0.05)) },
    )
}

fn wide() -> Case {
    case(
        "S-wide",
        "500 servers, 50 ms",
        Scenario { length: 20.0, deadline: 0.5, ..Scenario::of(Power::pool(500.0, 0.05)) },
    )
}

fn collections() -> Case {
    case(
        "S-gc",
        "16 servers, 50 ms of every 500 stand still",
        Scenario { pause: Some((0.5, 0.05)), ..Scenario::base() },
    )
}

fn rare_pauses() -> Case {
    case(
        "S-pause",
        "16 servers, 1 s of every 7 stands still",
        Scenario { pause: Some((7.0, 1.0)), ..Scenario::base() },
    )
}

fn batches() -> Case {
    let power = Power { shape: Shape::Batches { size: 32.0 }, service: 0.05 };
    let work = Steps::always(Work::Constant);
    let scenario = Scenario { work, deadline: 2.5, ..Scenario::of(power) };
    case("S-batch", "batches of up to 32, 50 ms each", scenario)
}

fn bucket() -> Case {
    let power = Power { shape: Shape::Bucket { rate: 500.0 }, service: 0.03 };
    case("S-bucket", "500 calls a second and no more, 30 ms", Scenario::of(power))
}

fn connections() -> Case {
    case(
        "S-connect",
        "16 servers, a new connection takes 200 ms",
        Scenario { connecting: 0.2, ..Scenario::base() },
    )
}

fn on_off(on: f64, off: f64) -> Scenario {
    let rate = move |now: f64| if now % (on + off) < on { 1600.0 } else { 0.0 };
    Scenario { rate: Steps::sampled(on.min(off), 90.0, rate), ..Scenario::base() }
}

fn bursts() -> Case {
    case("S-burst", "16 servers, 0.2 s at 2 × and 0.2 s of nothing", on_off(0.2, 0.2))
}

fn long_bursts() -> Case {
    case("S-onoff", "16 servers, 5 s at 2 × and 5 s of nothing", on_off(5.0, 5.0))
}

fn closed() -> Case {
    case(
        "S-closed",
        "16 servers, 200 callers that think for 0.1 s",
        Scenario { callers: Some((200, 0.1)), ..Scenario::base() },
    )
}

fn closed_tight() -> Case {
    case(
        "S-loop",
        "16 servers, 24 callers that ask again at once",
        Scenario { callers: Some((24, 0.001)), ..Scenario::base() },
    )
}

fn crowd() -> Case {
    let case = case(
        "S-crowd",
        "16 servers, 60 callers that ask again at once",
        Scenario { callers: Some((60, 0.001)), ..Scenario::base() },
    );
    // A limit of 60, never reached, has the goodput, too.
    case.at_most(Bloat, 1.6)
}

fn loaded(load: f64) -> Scenario {
    Scenario { rate: Steps::always(800.0 * load), ..Scenario::base() }
}

fn barely() -> Case {
    case("S-1.05", "16 servers, load 1.05", loaded(1.05))
}

fn nearly() -> Case {
    case("S-.98", "16 servers, load 0.98", loaded(0.98))
}
