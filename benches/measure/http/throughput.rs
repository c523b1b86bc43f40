//! Requests per second, when every connection asks again as soon as it is answered.

use std::time::Duration;

use crate::{
    CONNECTIONS,
    bars::Bar,
    contenders::Contender::{self, Bare, BufferAndLimit, Caller, HandleError, Spawn},
    handlers::Handler,
    loader::Loader,
    numbers::{Ratio, median},
    servers::Servers,
};

#[derive(Debug)]
pub struct Plan {
    handler: Handler,
    contenders: &'static [Contender],
    rounds: usize,
    /// Of each contender in each round.
    time: Duration,
    bars: &'static [(Contender, Contender, Bar)],
}

/// Short, so that turns are taken often: on a busy machine, more and shorter rounds in the same
/// time made the error smaller down to about here.
const SLICE: Duration = Duration::from_millis(60);

pub const FULL: &[Plan] = &[
    Plan {
        handler: Handler::Trivial,
        contenders: Contender::ALL,
        rounds: 100,
        time: SLICE,
        bars: &[
            (Spawn, BufferAndLimit, Bar::AtLeast(1.0)),
            (Spawn, Bare, Bar::AtLeast(0.9)),
            (Caller, Bare, Bar::AtLeast(0.97)),
            (Spawn, HandleError, Bar::AtLeast(0.97)),
        ],
    },
    Plan {
        handler: Handler::Busy,
        contenders: Contender::MAIN,
        rounds: 100,
        time: SLICE,
        bars: &[(Spawn, Bare, Bar::AtLeast(0.98))],
    },
];

const SHORT: Duration = Duration::from_millis(50);

pub const TEST: &[Plan] =
    &[Plan { rounds: 1, time: SHORT, ..FULL[0] }, Plan { rounds: 1, time: SHORT, ..FULL[1] }];

pub fn measure(plan: &Plan, servers: &Servers, loader: &mut Loader) {
    let Plan { handler, contenders, rounds, time, bars } = plan;
    let mut rates = vec![Vec::new(); contenders.len()];
    for round in 0..*rounds {
        // What comes after what makes a difference of some percent.
        for nth in 0..contenders.len() {
            let nth = (nth + round) % contenders.len();
            let rate = loader.rate(servers.address(*handler, contenders[nth]), *time);
            assert!(rate > 0.0, "{} should answer", contenders[nth].name());
            rates[nth].push(rate);
        }
    }
    let of = |wanted: Contender| {
        let place = contenders.iter().position(|contender| *contender == wanted);
        rates[place.expect("measured")].as_slice()
    };
    println!(
        "requests a second, {}, {CONNECTIONS} connections, {rounds} rounds of {} ms",
        handler.name(),
        time.as_millis()
    );
    println!("  {:<30}{:>8}  ÷ bare: {}", "", "median", Ratio::TITLE);
    for contender in *contenders {
        let (rate, ratio) = (median(of(*contender)), Ratio::of(of(*contender), of(Bare)));
        println!("  {:<30}{rate:>8.0}          {}", contender.name(), ratio.print());
    }
    for (contender, other, bar) in *bars {
        bar.judge(*contender, *other, &Ratio::of(of(*contender), of(*other)));
    }
    println!();
}
