//! The queue in use: fewer slots than callers, so that calls really wait.

use crate::{
    bars::Bars,
    contenders::Contender::{self, BufferAndLimit, Caller, Spawn},
    load::{Load, Threads},
    rounds::{Rounds, Scale},
    work::Work,
};

const CONTENDERS: [Contender; 3] = [BufferAndLimit, Caller, Spawn];
const BASE: usize = 0;
const CALLER: usize = 1;
const CALLERS: usize = 64;

pub(crate) fn print(scale: Scale, bars: &mut Bars) {
    println!(
        "queue in use, {CALLERS} callers: time of a call ÷ that through Buffer + CL; \
         in brackets ns;"
    );
    println!("and the share of calls that were queued: the inner was not called within `call`");
    print!("{:<9}{:<7}{:>6}", "threads", "inner", "limit");
    CONTENDERS.iter().for_each(|contender| print!("{:>26}", contender.name()));
    println!();
    for threads in [Threads::Current, Threads::Two, Threads::Four] {
        for (work, limit) in [(Work::Yield, 8), (Work::Ready, 1)] {
            print!("{:<9}{:<7}{limit:>6}", format!("{threads:?}"), format!("{work:?}"));
            let row = Row::of(threads, work, limit, scale);
            row.print();
            if threads == Threads::Two {
                let queued = row.queued[CALLER] * 100.0;
                let what =
                    format!("Caller ÷ Buffer + CL, {work:?}, limit {limit}, {queued:.0} % queued");
                bars.add(what, row.rounds.ratio(CALLER, BASE), 1.0);
            }
        }
    }
}

struct Row {
    rounds: Rounds,
    /// The share of each contender's calls.
    queued: [f64; CONTENDERS.len()],
}

impl Row {
    fn of(threads: Threads, work: Work, limit: usize, scale: Scale) -> Self {
        let load = Load { limit, watched: true, ..Load::new(work, CALLERS, scale.calls) };
        let runtime = threads.runtime();
        let mut queued = [0.0; CONTENDERS.len()];
        let rounds = Rounds::take(scale.rounds, CONTENDERS.len(), |nth| {
            let took = CONTENDERS[nth].run(&runtime, load);
            queued[nth] += took.queued / scale.rounds as f64;
            took.nanos
        });
        Self { rounds, queued }
    }

    fn print(&self) {
        for (nth, queued) in self.queued.iter().enumerate() {
            let (ratio, nanos) = (self.rounds.ratio(nth, BASE), self.rounds.time(nth));
            print!("{:>26}", format!("{ratio:.2} ({nanos:.0}) {:>5.1} %", queued * 100.0));
        }
        println!();
    }
}
