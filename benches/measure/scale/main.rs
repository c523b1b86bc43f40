//! Whether a call costs more among many: many callers, or many that wait.
//!
//! ```sh
//! cargo bench -p measure --bench scale            # both, under a minute
//! cargo bench -p measure --bench scale -- callers # from 1 to 4096 callers, beside Buffer + CL
//! cargo bench -p measure --bench scale -- waiting # from 10 to 1 000 000 that wait
//! cargo bench -p measure --bench scale -- --test  # a smoke test
//! ```
//!
//! The results are ratios: contenders, or sizes, take turns in many rounds, and each ratio is the
//! median of those within a round. How much memory it takes is shown by `cargo bench -p measure
//! --bench memory`.

mod callers;
mod rounds;
mod waiting;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// In one timing of the callers.
    pub(crate) calls: usize,
    /// Of the callers.
    pub(crate) rounds: usize,
    /// How many wait.
    pub(crate) sizes: [usize; 4],
    /// Of those that wait.
    pub(crate) waiting_rounds: usize,
}

const FULL: Scale = Scale {
    calls: 20_000,
    rounds: 25,
    sizes: [10, waiting::FEW, 100_000, 1_000_000],
    waiting_rounds: 11,
};

const SMOKE: Scale =
    Scale { calls: 500, rounds: 1, sizes: [10, waiting::FEW, 2_000, 10_000], waiting_rounds: 1 };

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let scale = if args.iter().any(|arg| arg == "--test") { SMOKE } else { FULL };
    let names: Vec<_> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    for (name, print) in [("callers", callers::print as fn(Scale)), ("waiting", waiting::print)] {
        if names.is_empty() || names.contains(&&name.to_owned()) {
            print(scale);
            println!();
        }
    }
}
