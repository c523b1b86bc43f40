//! `grpc-timeout`.

use std::time::Duration;

use http::{HeaderName, Request};

use crate::{
    class::{Class, ClassifyRequest, Or},
    http::{Given, unless_zero},
};

/// Reads how long the client will wait from `grpc-timeout`: a [`ClassifyRequest`].
///
/// Counted from arrival, so that waiting counts. The value is up to eight digits and a unit, `H`, `M`, `S`, `m`,
/// `u` or `n`, as the gRPC protocol has it; zero, which clients send whose own deadline has passed, is a deadline that
/// has passed. What is malformed is ignored, with an event at `debug`; then, and when there is none,
/// [`by_default`](Self::by_default) counts.
///
/// A tonic server keeps the time of `grpc-timeout` itself, outside of all layers, and drops the call when it is over:
/// those who waited in vain are mostly [`cancelled`](crate::Stats::cancelled) in the stats then, and not removed for
/// their deadline. This classifier adds that nothing is started that would be late, and the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeoutDeadline {
    given: Given,
}

impl TimeoutDeadline {
    /// Returns one without bounds and default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the longest time that a client may ask for; a longer one is taken for this, and so is a longer
    /// [`by_default`](Self::by_default). Default is no bound, and so is zero.
    #[must_use]
    pub fn at_most(mut self, most: Duration) -> Self {
        self.given.most = unless_zero(most);
        self
    }

    /// Sets the time of requests that do not say. Default is no deadline, and so is zero.
    #[must_use]
    pub fn by_default(mut self, time: Duration) -> Self {
        self.given.default = unless_zero(time);
        self
    }

    /// Joins it with another classifier, as [`ClassifyRequest::or`] does, without having to say for which requests.
    pub fn or<C>(self, other: C) -> Or<Self, C> {
        Or(self, other)
    }
}

impl<B> ClassifyRequest<Request<B>> for TimeoutDeadline {
    fn classify(&self, request: &Request<B>) -> Class {
        let name = HeaderName::from_static("grpc-timeout");
        self.given.class(request.headers(), &name, parse)
    }
}

/// More digits are against the protocol.
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
