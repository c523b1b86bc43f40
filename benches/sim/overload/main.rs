//! Limits under overload, in virtual time: this crate's algorithms beside those of other projects.
//!
//! ```sh
//! cargo bench -p sim --bench overload                       # all, in five minutes
//! cargo bench -p sim --bench overload -- A7 E1              # these scenarios
//! cargo bench -p sim --bench overload -- levels cost images # layer, cost of a sample, pictures
//! cargo bench -p sim --bench overload -- --alone            # only what is judged
//! cargo bench -p sim --bench overload -- --test             # a smoke test
//! ```
//!
//! [`catalog`] has the scenarios and the bars, [`engine`] the events, [`backend`] and [`traffic`]
//! what they are about. A [`front`] is what stands between: the crate's own model of the layer, or
//! the real [`layer`] on a paused clock, which must agree with it.
//!
//! Figures are medians of fifteen seeds for what is judged, and of a few for what it is compared
//! with; the worst seed is in brackets. A seed gives the same arrivals and the same work to
//! everybody, from streams of their own, so ratios to the [`oracle`] say more than the figures
//! alone. The [`controls`] show that a scenario asks for something. All of it is the same on every
//! machine, but for the cost of a sample.

#![allow(unreachable_pub, reason = "nothing here can be reached from outside")]

mod backend;
mod case;
mod catalog;
mod chart;
mod contestants;
mod controls;
mod cost;
mod engine;
mod figures;
mod front;
mod incumbents;
mod kinds;
mod layer;
mod levels;
mod oracle;
mod pictures;
mod random_backends;
mod report;
mod runs;
mod scenario;
mod smoke;
mod table;
mod threads;
mod traffic;
mod unseen;

use std::{env, path::Path, process::ExitCode};

use contestants::Contestant;
use table::Score;

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.iter().any(|arg| arg == "--test") {
        return if smoke::test() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (flags, names): (Vec<String>, Vec<String>) =
        args.into_iter().partition(|arg| arg.starts_with("--"));
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let mut score = Score::default();
    let cases = catalog::all().into_iter().chain(kinds::all()).chain(unseen::all());
    for mut case in cases.filter(|case| is_wanted(case.name)) {
        if let Some(seeds) = flags.iter().find_map(|flag| flag.strip_prefix("--seeds=")) {
            case.seeds = seeds.parse().expect("a number of seeds");
        }
        if flags.iter().any(|flag| flag == "--alone") {
            case.beside.clear();
        }
        table::print(&case, &runs::all(&case), &mut score);
    }
    if is_wanted("random") {
        let count = flags.iter().find_map(|flag| flag.strip_prefix("--seeds="));
        let count = count.map_or(64, |count| count.parse().expect("a number of seeds"));
        let alone = flags.iter().any(|flag| flag == "--alone");
        let field = Contestant::field();
        random_backends::print(if alone { &field[..1] } else { &field }, count);
    }
    if is_wanted("levels") {
        levels::compare(&levels::cases(), levels::SEEDS);
    }
    if is_wanted("cost") {
        cost::print(&mut score);
    }
    if is_wanted("images") {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images");
        if let Err(error) = pictures::write(&folder) {
            println!("no pictures: {error}");
        }
    }
    score.print();
    ExitCode::SUCCESS
}
