//! Deadlines from headers and extensions of requests.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Request};
use tokio::time::Instant;

use crate::{class::Class, classify::ClassifyRequest};

/// Reads the deadline of a request from a header: a [`ClassifyRequest`].
///
/// The time counts from arrival. The value is a number, with an optional fraction: `250`, `1.5`. A
/// value above [`at_most`](Self::at_most) is cut to `at_most`, however large.
///
/// A value is ignored, with an event at `debug`, if malformed, negative or zero (often meant as no
/// limit), and also if too large for the clock without an `at_most`. Without a valid value,
/// [`by_default`](Self::by_default) applies. Of several headers of the name, the first counts.
///
/// ```
/// use std::time::Duration;
/// use http::{HeaderName, Request};
/// use tower_load_leveling::{Class, LoadLevelLayer, Priority, http::HeaderDeadline};
///
/// let deadline = HeaderDeadline::seconds(HeaderName::from_static("request-timeout"))
///     .at_most(Duration::from_secs(30))
///     .by_default(Duration::from_secs(5));
/// let priority = |request: &Request<()>| match request.uri().path() {
///     "/healthz" => Class::bypass(),
///     "/checkout" => Class::new().priority(Priority::High),
///     _ => Class::new(),
/// };
/// let layer = LoadLevelLayer::builder()
///     .concurrency(64)
///     .request_classifier((priority, deadline))
///     .build()?;
/// # drop(layer);
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeaderDeadline {
    name: HeaderName,
    /// The unit of the value, in seconds.
    unit: f64,
    limits: TimeLimits,
}

impl HeaderDeadline {
    /// Reads milliseconds from the header `name`.
    #[must_use]
    pub fn millis(name: HeaderName) -> Self {
        Self { name, unit: 1e-3, limits: TimeLimits::default() }
    }

    /// Reads seconds from the header `name`.
    #[must_use]
    pub fn seconds(name: HeaderName) -> Self {
        Self { name, unit: 1.0, limits: TimeLimits::default() }
    }

    /// Sets the longest time that counts. A longer header value is cut to this time, and so is a
    /// longer [`by_default`](Self::by_default). Default is no bound; zero means no bound.
    #[must_use]
    pub fn at_most(mut self, max: Duration) -> Self {
        self.limits.max = non_zero(max);
        self
    }

    /// Sets the time of requests without a valid header. Default is no deadline; zero means no
    /// deadline.
    #[must_use]
    pub fn by_default(mut self, time: Duration) -> Self {
        self.limits.default = non_zero(time);
        self
    }
}

impl<B> ClassifyRequest<Request<B>> for HeaderDeadline {
    fn classify(&self, request: &Request<B>) -> Class {
        let Self { name, unit, limits } = self;
        limits.class(request.headers(), name, |value| parse(value, *unit))
    }
}

/// Parses a number, in units of `unit` seconds. Zero is `None`. A smaller time than a nanosecond is
/// a nanosecond, and a time too large for `Duration` is the largest.
fn parse(value: &str, unit: f64) -> Option<Duration> {
    let value = value.trim();
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let seconds = value.parse::<f64>().ok().filter(|number| *number > 0.0)? * unit;
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    Some(time.max(Duration::from_nanos(1)))
}

/// The bound and the default for times from requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimeLimits {
    pub(crate) max: Option<Duration>,
    pub(crate) default: Option<Duration>,
}

/// Returns `None` for zero. In configuration files zero means no limit; taken as a time, zero would
/// refuse everything.
pub(crate) fn non_zero(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

impl TimeLimits {
    /// Returns the class of a request with these headers.
    pub(crate) fn class(
        &self,
        headers: &HeaderMap,
        name: &HeaderName,
        parse: impl FnOnce(&str) -> Option<Duration>,
    ) -> Class {
        // Apply the bound first: a time too large for the clock is no deadline.
        let bounded = |time: Duration| self.max.map_or(time, |max| time.min(max));
        let after = |time| Instant::now().checked_add(bounded(time));
        let said = headers.get(name).and_then(|value| {
            let deadline = value.to_str().ok().and_then(parse).and_then(after);
            if deadline.is_none() {
                tracing::debug!(header = %name, ?value, "deadline ignored");
            }
            deadline
        });
        match said.or_else(|| self.default.and_then(after)) {
            Some(deadline) => Class::new().deadline(deadline),
            None => Class::new(),
        }
    }
}

/// Reads the deadline of a request from a tokio [`Instant`] in the extensions, as set by another
/// layer: a [`ClassifyRequest`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ExtensionDeadline;

impl ExtensionDeadline {
    /// Returns the classifier.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<B> ClassifyRequest<Request<B>> for ExtensionDeadline {
    fn classify(&self, request: &Request<B>) -> Class {
        match request.extensions().get::<Instant>() {
            Some(deadline) => Class::new().deadline(*deadline),
            None => Class::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_all_else_is_not() {
        let millis = |value| parse(value, 1e-3);
        for (value, nanos) in [
            ("250", 250_000_000),
            (" 7 ", 7_000_000),
            ("1.5", 1_500_000),
            ("0.001", 1000),
            ("0.0000000001", 1),
            ("300.00000000000006", 300_000_000),
        ] {
            assert_eq!(millis(value), Some(Duration::from_nanos(nanos)), "{value:?}");
        }
        assert_eq!(parse("1.25", 1.0), Some(Duration::from_millis(1250)));
        let endless = "9".repeat(400);
        for value in ["99999999999999999999999", &endless] {
            assert_eq!(millis(value), Some(Duration::MAX), "{value:?}");
        }
        for value in [
            "", " ", "-1", "+1", "1e3", "1s", "0x10", ".5", "5.", "1.2.3", "NaN", "inf", "١", "0",
            "0.0",
        ] {
            assert_eq!(millis(value), None, "{value:?}");
        }
    }

    #[test]
    fn a_number_too_great_for_a_clock_is_the_most_that_is_allowed_or_nothing() {
        let name = HeaderName::from_static("x-timeout");
        let bound = Duration::from_secs(30);
        let open = HeaderDeadline::seconds(name.clone());
        let left = |deadline: &HeaderDeadline, value: &'static str| {
            let request = Request::builder().header(&name, value).body(()).expect("a request");
            let class = deadline.classify(&request);
            class.deadline.map(|at| at.saturating_duration_since(Instant::now()))
        };
        for great in ["99999999999999999999", "9999999999999999999999999999999999999999"] {
            assert_eq!(left(&open, great), None, "no clock goes that far");
            let left = left(&open.clone().at_most(bound), great).expect("a deadline");
            assert!(left <= bound && left > bound / 2, "{left:?}");
        }
        assert_eq!(left(&open.at_most(bound), "soon"), None, "that is no number");
    }
}
