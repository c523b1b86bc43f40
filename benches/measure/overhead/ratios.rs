//! The main contenders in many situations, none of which makes a call wait for a slot but with 512
//! callers.

use crate::{
    bars::Bars,
    contenders::Contender::{
        self, Bare, BoundedFloor, BufferAndLimit, Caller, Limit, Spawn, UnboundedFloor,
    },
    load::{LIMIT, Load, Threads},
    rounds::{Rounds, Scale},
    work::Work,
};

const CONTENDERS: [Contender; 7] =
    [BoundedFloor, UnboundedFloor, Bare, Limit, BufferAndLimit, Spawn, Caller];

/// The ratios of one situation.
struct Row(Rounds);

impl Row {
    fn of(threads: Threads, work: Work, callers: usize, scale: Scale) -> Self {
        // So much work takes longer for as many calls.
        let calls = if work == Work::Cpu { scale.calls / 4 } else { scale.calls };
        let load = Load::new(work, callers, calls);
        let runtime = threads.runtime();
        Self(Rounds::take(scale.rounds, CONTENDERS.len(), |nth| {
            let contender = CONTENDERS[nth];
            if contender.can_do(work) { contender.run(&runtime, load).nanos } else { f64::NAN }
        }))
    }

    fn ratio(&self, of: Contender, to: Contender) -> f64 {
        self.0.ratio(index(of), index(to))
    }

    fn print(&self) {
        for contender in CONTENDERS {
            let (ratio, nanos) =
                (self.ratio(contender, BufferAndLimit), self.0.time(index(contender)));
            print!("{:>18}", show(ratio, format!("{ratio:.2} ({nanos:.0})")));
        }
        for contender in [Spawn, Caller] {
            let ratio = self.ratio(contender, BoundedFloor);
            print!("{:>16}", show(ratio, format!("{ratio:.2}")));
        }
        println!();
    }
}

fn show(ratio: f64, text: String) -> String {
    if ratio.is_nan() { "–".to_owned() } else { text }
}

fn index(contender: Contender) -> usize {
    CONTENDERS.iter().position(|other| *other == contender).expect("one of them")
}

pub(crate) fn print(scale: Scale, bars: &mut Bars) {
    println!("time of a call ÷ that through Buffer + ConcurrencyLimit({LIMIT}); in brackets ns");
    print!("{:<9}{:<7}{:>8}", "threads", "inner", "callers");
    CONTENDERS.iter().for_each(|contender| print!("{:>18}", contender.name()));
    println!("{:>16}{:>16}", "Spawn ÷ floor", "Caller ÷ floor");
    for threads in [Threads::Current, Threads::Two] {
        for work in [Work::Ready, Work::Yield, Work::Cpu] {
            for callers in [1, 64, 512] {
                print!("{:<9}{:<7}{callers:>8}", format!("{threads:?}"), format!("{work:?}"));
                let row = Row::of(threads, work, callers, scale);
                row.print();
                note(bars, &row, (threads, work, callers));
            }
        }
    }
}

fn note(bars: &mut Bars, row: &Row, situation: (Threads, Work, usize)) {
    match situation {
        (Threads::Current, Work::Ready, 1) => {
            let what = "Spawn ÷ Buffer + CL, one caller, current thread";
            bars.add(what, row.ratio(Spawn, BufferAndLimit), 1.0);
        }
        (Threads::Two, Work::Ready, 64) => {
            bars.add("Caller ÷ ConcurrencyLimit, nothing waits", row.ratio(Caller, Limit), 2.5);
            bars.add("Spawn ÷ Buffer + CL", row.ratio(Spawn, BufferAndLimit), 1.25);
            bars.add("Spawn ÷ floor", row.ratio(Spawn, BoundedFloor), 1.6);
        }
        (Threads::Two, Work::Cpu, 64) => {
            bars.add("Spawn ÷ Buffer + CL, 5 µs of CPU", row.ratio(Spawn, BufferAndLimit), 1.0);
        }
        _ => {}
    }
}
