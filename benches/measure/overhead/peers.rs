//! Everything that could be put there instead, in two situations.

use crate::{
    bars::Bars,
    contenders::Contender::{self, *},
    load::{Load, Threads},
    picture,
    rounds::{Rounds, Scale},
    work::Work,
};

const CONTENDERS: [Contender; 13] = [
    BoundedFloor,
    UnboundedFloor,
    Bare,
    Limit,
    Buffer,
    BufferAndLimit,
    ShedBufferAndLimit,
    LittleLoadshedder,
    Bulkhead,
    Acc,
    Spawn,
    Caller,
    Adaptive,
];

const FLOOR: usize = 0;
const BASE: usize = 5;

pub(crate) fn print(scale: Scale, _bars: &mut Bars) {
    for (threads, callers) in [(Threads::Two, 64), (Threads::Current, 1)] {
        println!("peers; threads: {threads:?}, callers: {callers}, no-op inner");
        println!("{:<28}{:>14}{:>10}{:>10}", "", "÷ Buffer + CL", "÷ floor", "ns");
        let load = Load::new(Work::Ready, callers, scale.calls);
        let runtime = threads.runtime();
        let rounds = Rounds::take(scale.rounds, CONTENDERS.len(), |nth| {
            CONTENDERS[nth].run(&runtime, load).nanos
        });
        for (nth, contender) in CONTENDERS.into_iter().enumerate() {
            let (base, floor) = (rounds.ratio(nth, BASE), rounds.ratio(nth, FLOOR));
            println!("{:<28}{base:>14.2}{floor:>10.2}{:>10.0}", contender.name(), rounds.time(nth));
        }
        if scale.draws && threads == Threads::Two {
            let ratios = |(nth, contender)| (contender, rounds.ratio(nth, BASE));
            let ratios: Vec<_> = CONTENDERS.into_iter().enumerate().map(ratios).collect();
            picture::write(&ratios, CONTENDERS[BASE]);
        }
    }
}
