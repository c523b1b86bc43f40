//! The command line.

use std::{env, process::exit, time::Duration};

const USAGE: &str = "usage: soak [--seconds N] [--calls N] [--threads N] [--seed N] [--round N]
            [--with WHAT] [--without WHAT] [--plant FAULT]

  --seconds N     the longest time to go on for (60)
  --calls N       the number of calls after which to stop (no limit)
  --threads N     the number of threads to keep busy (as many as the machine has)
  --seed N        the seed of all rounds (from the clock)
  --round N       this round alone, over and over
  --with WHAT     in each round: idle or mortal (runtimes), rough (subscribers), dying
                  (inner services), nested (calls); may come several times
  --without WHAT  in no round
  --plant FAULT   a fault of the program's own, to see it found: slot, hang, limit, bound, memory";

#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) time: Duration,
    pub(crate) calls: u64,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    pub(crate) round: Option<u64>,
    /// What to have in each round, or in none.
    pub(crate) wanted: Vec<(String, bool)>,
    pub(crate) plant: Option<Plant>,
}

/// A fault of this program's own, which the checks have to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A call is forgotten, and keeps its slot.
    Slot,
    /// A call never ends, and its caller waits.
    Hang,
    /// The inner is called beside the leveler.
    Limit,
    /// A place is kept.
    Bound,
    /// Each round leaves a megabyte behind.
    Memory,
}

impl Args {
    pub(crate) fn read() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let mut args = Self {
            time: Duration::from_secs(60),
            calls: u64::MAX,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            seed: now.map_or(1, |now| now.subsec_nanos().into()),
            round: None,
            wanted: Vec::new(),
            plant: None,
        };
        let mut words = env::args().skip(1);
        while let Some(name) = words.next() {
            // Cargo adds it.
            if name == "--bench" {
                continue;
            }
            let value = words.next().unwrap_or_else(|| usage());
            let number = || value.parse().unwrap_or_else(|_| usage());
            match name.as_str() {
                "--seconds" => args.time = Duration::from_secs(number()),
                "--calls" => args.calls = number(),
                "--threads" => args.threads = number() as usize,
                "--seed" => args.seed = number(),
                "--round" => args.round = Some(number()),
                "--with" => args.wanted.push((value, true)),
                "--without" => args.wanted.push((value, false)),
                "--plant" => args.plant = Some(Plant::named(&value).unwrap_or_else(|| usage())),
                _ => usage(),
            }
        }
        args
    }
}

impl Plant {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "slot" => Self::Slot,
            "hang" => Self::Hang,
            "limit" => Self::Limit,
            "bound" => Self::Bound,
            "memory" => Self::Memory,
            _ => return None,
        })
    }
}

fn usage() -> ! {
    eprintln!("{USAGE}");
    exit(2)
}
