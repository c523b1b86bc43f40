//! What the load process is asked for.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Job {
    /// How many answers there are in this time, when every connection asks again as soon as it is
    /// answered.
    Closed { address: SocketAddr, time: Duration },
    /// The latencies of requests that come when they come.
    Open { address: SocketAddr, rate: f64, count: usize, seed: u64 },
}

impl Job {
    pub fn parse(line: &str) -> Self {
        let mut words = line.split(' ');
        let kind = words.next().expect("never empty");
        let address = next(&mut words);
        match kind {
            "closed" => Self::Closed { address, time: Duration::from_nanos(next(&mut words)) },
            "open" => Self::Open {
                address,
                rate: next(&mut words),
                count: next(&mut words),
                seed: next(&mut words),
            },
            _ => panic!("no such job: {line}"),
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { address, time } => write!(f, "closed {address} {}", time.as_nanos()),
            Self::Open { address, rate, count, seed } => {
                write!(f, "open {address} {rate} {count} {seed}")
            }
        }
    }
}

fn next<'a, T: FromStr<Err: fmt::Debug>>(words: &mut impl Iterator<Item = &'a str>) -> T {
    words.next().expect("one more word").parse().expect("a job as written above")
}
