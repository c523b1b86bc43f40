//! How many instructions a call takes.
//!
//! ```sh
//! cargo bench -p measure --bench instructions           # beside those recorded, half a minute
//! cargo bench -p measure --bench instructions -- check  # fails when one is not as recorded
//! cargo bench -p measure --bench instructions -- record # records them
//! cargo bench -p measure --bench instructions -- --test # a smoke test, without valgrind
//! ```
//!
//! Needs valgrind. Each case runs twice under it, in a process of its own, with few calls and with
//! many; the difference in instructions, divided by the difference in calls, is what one call
//! takes, without what comes before and after. All on one thread, on a paused clock: what depends
//! on time would not be the same twice.
//!
//! Unlike a time, a count does not depend on what else the machine does: in four runs of all cases,
//! one of them with three busy loops beside it on two cores, every count was the same to a tenth of
//! an instruction; with all features they differ by 0.2 % at most. So a few per cent can be told,
//! also in CI. It does depend on the compiler, which is why `recorded.txt` names the one that it
//! was recorded with; with another there is nothing to check. And it is no time: it knows no
//! caches, and not that an atomic operation takes longer than others.
//!
//! By hand, and not by iai-callgrind or gungraun: those need a runner installed beside them, of the
//! very same version.

mod cases;
mod deaf;
mod drive;
mod recorded;
mod report;
mod valgrind;

use std::process::ExitCode;

use crate::{cases::CASES, recorded::Recorded, report::Table};

/// Calls of a smoke test: one for each of the callers.
const SMOKE: usize = drive::CALLERS;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => measured(|table| table.print()),
        ["check"] => measured(Table::check),
        ["record"] => measured(Table::record),
        ["--test"] => smoke(),
        [valgrind::RUN, case, calls] => run(case, calls),
        _ => fail("the arguments are `check`, `record`, `--test`, or none"),
    }
}

fn measured(then: impl FnOnce(&Table) -> ExitCode) -> ExitCode {
    match valgrind::count(&CASES) {
        Ok(counts) => then(&Table::new(counts, Recorded::read())),
        Err(why) => fail(&why),
    }
}

fn smoke() -> ExitCode {
    for (name, case) in CASES {
        case(SMOKE);
        println!("{name}: ran");
    }
    ExitCode::SUCCESS
}

/// What is counted: this process runs under valgrind.
fn run(name: &str, calls: &str) -> ExitCode {
    let (_, case) = CASES.iter().find(|(known, _)| *known == name).expect("a known case");
    case(calls.parse().expect("a number"));
    ExitCode::SUCCESS
}

fn fail(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}
