//! The process that makes the load: jobs come in by lines, results go out by lines.

mod closed;
mod connection;
mod job;
mod line;
mod open;

use std::io::{Write, stdin, stdout};

pub use self::job::Job;

/// This program is the load when it is given this.
pub const ARGUMENT: &str = "--load";

pub fn serve() {
    for line in stdin().lines() {
        let result = match Job::parse(&line.expect("text")) {
            Job::Closed { address, time } => vec![closed::answers(address, time)],
            Job::Open { address, rate, count, seed } => {
                open::latencies(address, &open::arrivals(rate, count, seed))
            }
        };
        let result: Vec<String> = result.iter().map(u64::to_string).collect();
        let mut out = stdout().lock();
        writeln!(out, "{}", result.join(" ")).expect("somebody listens");
        out.flush().expect("somebody listens");
    }
}
