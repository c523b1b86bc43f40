//! Deadlines from `grpc-timeout`.

use std::time::Duration;

use http::{HeaderName, Request};

use crate::{
    class::Class,
    classify::ClassifyRequest,
    http::{TimeLimits, non_zero},
};

/// Reads the deadline of a request from `grpc-timeout`: a [`ClassifyRequest`].
///
/// The time counts from arrival and includes the wait. As in the gRPC protocol, the value is up to
/// eight digits and a unit, `H`, `M`, `S`, `m`, `u` or `n`. Clients with a passed deadline send
/// zero, so zero is a passed deadline. A malformed value is ignored, with an event at `debug`.
/// Without a valid value, [`by_default`](Self::by_default) applies.
///
/// A tonic server enforces `grpc-timeout` itself, outside of all layers, and drops the call at the
/// deadline. Requests that waited in vain are then mostly
/// [`cancelled`](crate::stats::Stats::cancelled) in the stats instead of removed for their
/// deadline. With a tonic server, this classifier adds two things: late calls are not started, and
/// there is a default.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeoutDeadline {
    limits: TimeLimits,
}

impl TimeoutDeadline {
    /// Returns a classifier without a bound or a default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the longest time that counts. A longer `grpc-timeout` is cut to this time, and so is a
    /// longer [`by_default`](Self::by_default). Default is no bound; zero means no bound.
    #[must_use]
    pub fn at_most(mut self, max: Duration) -> Self {
        self.limits.max = non_zero(max);
        self
    }

    /// Sets the time of requests without a valid `grpc-timeout`. Default is no deadline; zero means
    /// no deadline.
    #[must_use]
    pub fn by_default(mut self, time: Duration) -> Self {
        self.limits.default = non_zero(time);
        self
    }
}

impl<B> ClassifyRequest<Request<B>> for TimeoutDeadline {
    fn classify(&self, request: &Request<B>) -> Class {
        let name = HeaderName::from_static("grpc-timeout");
        self.limits.class(request.headers(), &name, parse)
    }
}

/// The most digits that the protocol allows.
const DIGITS: usize = 8;

fn parse(value: &str) -> Option<Duration> {
    let unit = value.chars().next_back()?;
    let digits = value.strip_suffix(unit)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || digits.len() > DIGITS {
        return None;
    }
    let number = digits.parse::<u64>().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_protocol_has_is_read_and_all_else_is_not() {
        for (value, nanos) in [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("4m", 4_000_000),
            ("5u", 5000),
            ("6n", 6),
            ("99999999n", 99_999_999),
            ("0S", 0),
        ] {
            assert_eq!(parse(value), Some(Duration::from_nanos(nanos)), "{value:?}");
        }
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for value in ["", "S", "1", "-1S", "+1S", "1.5S", "100000000n", "1s", "1 S", "١S", "1Sé"]
        {
            assert_eq!(parse(value), None, "{value:?}");
        }
    }
}
