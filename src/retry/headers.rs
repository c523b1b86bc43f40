//! The time to retry in the headers of a refusal.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap,
    header::{CONTENT_TYPE, DATE, RETRY_AFTER},
};

use super::http_date;

/// Returns whether a response comes from a gRPC service.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    content_type.is_some_and(|value| value.starts_with(b"application/grpc"))
}

/// Returns the time of `Retry-After`: zero for a past date, and `None` for a malformed value.
/// `now` is the time for a response without a `Date`.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let after = text(RETRY_AFTER).filter(|after| !after.is_empty())?;
    if after.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number too large for the type is longer than any delay.
        return Some(Duration::from_secs(after.parse().unwrap_or(u64::MAX)));
    }
    let at = http_date::parse(after)?;
    let now = text(DATE).and_then(http_date::parse).unwrap_or(now);
    Some(at.duration_since(now).unwrap_or_default())
}

/// A pushback of a gRPC server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushback {
    None,
    /// Negative or malformed: do not retry (gRFC A6).
    Never,
    After(Duration),
}

/// Returns the value of `grpc-retry-pushback-ms`.
pub(super) fn pushback(metadata: &HeaderMap) -> Pushback {
    let Some(value) = metadata.get("grpc-retry-pushback-ms") else { return Pushback::None };
    match value.to_str().ok().and_then(|millis| millis.parse().ok()) {
        Some(millis) => Pushback::After(Duration::from_millis(millis)),
        None => Pushback::Never,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let headers = |pairs: &[(HeaderName, &'static str)]| -> HeaderMap {
            let pair = |(name, value): &(HeaderName, &'static str)| {
                (name.clone(), HeaderValue::from_static(value))
            };
            pairs.iter().map(pair).collect()
        };
        let now = http_date::parse("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        for (value, seconds) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:36 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let after = retry_after(&headers(&[(RETRY_AFTER, value)]), now);
            assert_eq!(after, seconds.map(Duration::from_secs), "{value:?}");
        }
        assert_eq!(retry_after(&headers(&[]), now), None);
        // By the clock of the server, if the response has one.
        let date = headers(&[
            (RETRY_AFTER, "Sun, 06 Nov 1994 08:50:37 GMT"),
            (DATE, "Sun, 06 Nov 1994 08:50:30 GMT"),
        ]);
        assert_eq!(retry_after(&date, now), Some(Duration::from_secs(7)));
    }
}
