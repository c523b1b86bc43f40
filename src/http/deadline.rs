//! Deadlines from where requests have them.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Request};
use tokio::time::Instant;

use crate::class::{Class, ClassifyRequest};

/// Reads how long the client will wait from a header: a [`ClassifyRequest`].
///
/// Counted from arrival. The value is a number, with a fraction if need be: `250`, `1.5`. What is malformed,
/// negative, zero or more than a clock can say is ignored, with an event at `debug`; then, and when there is
/// none, [`by_default`](Self::by_default) counts. Of several headers of that name the first counts.
///
/// ```
/// use std::time::Duration;
/// use http::{HeaderName, Request};
/// use tower_load_leveling::{Class, ClassifyRequest, LoadLevelLayer, Priority, http::HeaderDeadline};
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
///     .request_classifier(ClassifyRequest::<Request<()>>::or(priority, deadline))
///     .build()?;
/// # drop(layer);
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeaderDeadline {
    name: HeaderName,
    /// In nanoseconds.
    unit: u64,
    given: Given,
}

impl HeaderDeadline {
    /// Reads milliseconds from the header of this name.
    #[must_use]
    pub fn millis(name: HeaderName) -> Self {
        Self { name, unit: 1_000_000, given: Given::default() }
    }

    /// Reads seconds from the header of this name.
    #[must_use]
    pub fn seconds(name: HeaderName) -> Self {
        Self { name, unit: 1_000_000_000, given: Given::default() }
    }

    /// Sets the longest time that a client may ask for; a longer one is taken for this. Default is no bound.
    #[must_use]
    pub fn at_most(mut self, most: Duration) -> Self {
        self.given.most = Some(most);
        self
    }

    /// Sets the time of requests that do not say. Default is no deadline.
    #[must_use]
    pub fn by_default(mut self, time: Duration) -> Self {
        self.given.default = Some(time);
        self
    }
}

impl<B> ClassifyRequest<Request<B>> for HeaderDeadline {
    fn classify(&self, request: &Request<B>) -> Class {
        let Self { name, unit, given } = self;
        given.class(read(request.headers(), name, |value| parse(value, *unit)))
    }
}

/// The time in a header, if it is there and one that counts.
pub(crate) fn read(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: impl FnOnce(&str) -> Option<Duration>,
) -> Option<Duration> {
    let value = headers.get(name)?;
    let time = value.to_str().ok().and_then(parse).filter(|time| !time.is_zero());
    if time.is_none() {
        tracing::debug!(%name, ?value, "deadline ignored");
    }
    time
}

/// A number with up to nine digits behind the point, of so many nanoseconds.
fn parse(value: &str, unit: u64) -> Option<Duration> {
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let fraction = fraction.parse::<u64>().ok()? as u128 * u128::from(unit)
        / 10_u128.pow(fraction.len() as u32);
    // Less than one unit.
    Some(Duration::from_nanos(whole.checked_add(fraction as u64)?))
}

/// What is made of the time that a request was given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given {
    pub(crate) most: Option<Duration>,
    pub(crate) default: Option<Duration>,
}

impl Given {
    pub(crate) fn class(&self, time: Option<Duration>) -> Class {
        let time = time.or(self.default);
        let time = match (time, self.most) {
            (Some(time), Some(most)) => Some(time.min(most)),
            (time, _) => time,
        };
        match time.and_then(|time| Instant::now().checked_add(time)) {
            Some(deadline) => Class::new().deadline(deadline),
            None => Class::new(),
        }
    }
}

/// Takes the deadline from a tokio [`Instant`] in the extensions, which another layer has put there: a
/// [`ClassifyRequest`].
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is written by its name")]
pub struct ExtensionDeadline;

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
        let millis = |value| parse(value, 1_000_000);
        let ms = Duration::from_micros;
        for (value, micros) in [("250", 250_000), (" 7 ", 7000), ("1.5", 1500), ("0.001", 1)] {
            assert_eq!(millis(value), Some(ms(micros)), "{value:?}");
        }
        assert_eq!(parse("1.25", 1_000_000_000), Some(Duration::from_millis(1250)));
        for value in [
            "",
            " ",
            "-1",
            "+1",
            "1e3",
            "1s",
            "0x10",
            ".5",
            "5.",
            "1.2.3",
            "NaN",
            "inf",
            "١",
            "18446744073710",
            "99999999999999999999",
            "1.0000000001",
        ] {
            assert_eq!(millis(value), None, "{value:?}");
        }
    }

    #[test]
    fn none_and_zero_count_for_nothing() {
        let name = HeaderName::from_static("x-timeout-ms");
        let read = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(&name, http::HeaderValue::from_static(value));
            }
            super::read(&headers, &name, |value| parse(value, 1_000_000))
        };
        assert_eq!(read(Some("20")), Some(Duration::from_millis(20)));
        assert_eq!([read(None), read(Some("0")), read(Some("0.0")), read(Some("x"))], [None; 4]);
    }
}
