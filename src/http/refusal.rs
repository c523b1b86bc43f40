//! The text of a refusal, and responses with it.

use std::{fmt::Write, time::Duration};

use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use crate::{
    error::{Reason, Rejected},
    rng::mix,
    sync::figure::{AtomicU64, Ordering::Relaxed},
};

/// A rejection on its way to the client: the status, the time after which to retry, and the text.
///
/// Given to the closure of [`RejectionLayer::body`](super::RejectionLayer::body). Without the
/// layer, in a handler or another framework, [`new`](Self::new) makes a refusal from a
/// [`Rejected`]:
///
/// ```
/// use http::{Response, StatusCode};
/// use tower::BoxError;
/// use tower_load_leveling::{error::Rejected, http::Refusal};
///
/// /// Answers the error of a call made by a handler.
/// fn answer(error: &BoxError) -> Response<String> {
///     match error.downcast_ref::<Rejected>() {
///         Some(rejected) => Refusal::new(rejected).problem_json(None),
///         None => {
///             let mut response = Response::new(String::new());
///             *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
///             response
///         }
///     }
/// }
/// # use tower_load_leveling::error::Reason;
/// # let rejected = Rejected::new(Reason::Full);
/// # assert_eq!(answer(&rejected.into()).status(), StatusCode::SERVICE_UNAVAILABLE);
/// ```
#[derive(Clone, Debug)]
pub struct Refusal<'a> {
    rejected: &'a Rejected,
    status: StatusCode,
    /// In seconds, as in the header.
    retry_after: u64,
    tells_reason: bool,
    reason_header: Option<&'a HeaderName>,
}

impl<'a> Refusal<'a> {
    /// Returns the refusal of a request, with the default status: 503, or 429 for a flow over its
    /// share. The reason is not told.
    #[must_use]
    pub fn new(rejected: &'a Rejected) -> Self {
        let status = match rejected.is_over_share() {
            true => StatusCode::TOO_MANY_REQUESTS,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let retry_after = retry_after(rejected);
        Self { rejected, status, retry_after, tells_reason: false, reason_header: None }
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets whether [`reason`](Self::reason) returns the reason, and the header for it.
    pub(super) fn with_reason(mut self, tells: bool, header: Option<&'a HeaderName>) -> Self {
        self.tells_reason = tells;
        self.reason_header = header;
        self
    }

    /// Returns the rejection.
    #[must_use]
    pub fn rejected(&self) -> &'a Rejected {
        self.rejected
    }

    /// Returns the status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the time after which to retry: the value of the header `Retry-After`, in whole
    /// seconds and at least 1. The spread is drawn once, so header and body agree.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(self.retry_after)
    }

    /// Returns the reason if clients may know:
    /// [`RejectionLayer::tell_reason`](super::RejectionLayer::tell_reason).
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.tells_reason.then_some(self.rejected.reason())
    }

    /// Returns the text for a person: `The service is overloaded. Try again in 2 seconds.`
    ///
    /// For a flow over its share, `Too many requests.` in place of the first sentence. For
    /// [`Reason::Closed`] and [`Reason::NoRuntime`], `The service is unavailable.`
    #[must_use]
    pub fn detail(&self) -> String {
        let what = match self.rejected.reason() {
            Reason::Closed | Reason::NoRuntime => "The service is unavailable.",
            _ if self.rejected.is_over_share() => "Too many requests.",
            _ => "The service is overloaded.",
        };
        match self.retry_after {
            1 => format!("{what} Try again in 1 second."),
            seconds => format!("{what} Try again in {seconds} seconds."),
        }
    }

    /// Returns the response with a problem in `application/problem+json` (RFC 9457).
    ///
    /// The members are `type` (`about:blank`), `title`, `status`, [`detail`](Self::detail) and
    /// `retry_after` in seconds. [`reason`](Self::reason) in snake case follows if clients may
    /// know, and `instance` if given: a URI reference, such as the path of the request.
    #[must_use]
    pub fn problem_json(&self, instance: Option<&str>) -> Response<String> {
        let title = self.status.canonical_reason().unwrap_or("Rejected");
        let (status, detail, after) = (self.status.as_u16(), self.detail(), self.retry_after);
        // Only the instance can have a character to escape in JSON.
        let mut problem = format!(
            concat!(
                r#"{{"type":"about:blank","title":"{title}","status":{status},"#,
                r#""detail":"{detail}","retry_after":{after}"#
            ),
            title = title,
            status = status,
            detail = detail,
            after = after,
        );
        if let Some(reason) = self.reason() {
            let _ = write!(problem, r#","reason":"{}""#, reason.as_str());
        }
        if let Some(instance) = instance {
            let _ = write!(problem, r#","instance":"{}""#, escaped(instance));
        }
        problem.push('}');
        self.response(Some("application/problem+json"), problem)
    }

    /// Returns the response with the text as `text/plain`: [`detail`](Self::detail), and the reason
    /// if clients may know.
    #[must_use]
    pub fn plain_text(&self) -> Response<String> {
        let text = match self.reason() {
            Some(reason) => format!("{} Reason: {reason}.\n", self.detail()),
            None => format!("{}\n", self.detail()),
        };
        self.response(Some("text/plain; charset=utf-8"), text)
    }

    /// Returns the response without a body.
    #[must_use]
    pub fn empty(&self) -> Response<String> {
        self.response(None, String::new())
    }

    fn response(&self, content_type: Option<&'static str>, body: String) -> Response<String> {
        let mut response = Response::new(body);
        if let Some(content_type) = content_type {
            let content_type = HeaderValue::from_static(content_type);
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        self.complete(response)
    }

    /// Adds the status and the headers of every refusal, unless the response has its own.
    pub(super) fn complete<B>(&self, mut response: Response<B>) -> Response<B> {
        if response.status() == StatusCode::OK {
            *response.status_mut() = self.status;
        }
        let headers = response.headers_mut();
        headers.entry(RETRY_AFTER).or_insert_with(|| self.retry_after.into());
        if let Some(name) = self.reason_header {
            let reason = HeaderValue::from_static(self.rejected.reason().as_str());
            headers.entry(name).or_insert(reason);
        }
        response
    }
}

/// Returns a text escaped for use within quotes in JSON (RFC 8259).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '\0'..='\x1f' => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Returns whole seconds, at least 1. Rounds up or down at random, in proportion to the fraction:
/// many callers told the same second would all return within that second.
fn retry_after(rejected: &Rejected) -> u64 {
    static DRAWS: AtomicU64 = AtomicU64::new(0);
    let draw = || mix(DRAWS.fetch_add(1, Relaxed)) as f64 / u64::MAX as f64;
    let after = rejected.retry_after().unwrap_or_default().as_secs_f64();
    // Longer times are already spread by 20 % either way. The spread of shorter times would be lost
    // in rounding to 1.
    let after = if after < 1.0 { 1.0 + SPREAD * draw() } else { after };
    (after + draw()) as u64
}

/// In seconds. As wide as the spread of longer times (20 % either way), but upwards only, since 1
/// is the minimum.
const SPREAD: f64 = 0.4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_when_in_the_right_number() {
        let text = |reason, over_share, seconds| {
            let rejected = Rejected::new(reason).with_over_share(over_share);
            let rejected = rejected.with_retry_after(Duration::from_secs(seconds));
            // Whole seconds from 1 on are not spread.
            Refusal::new(&rejected).detail()
        };
        let overloaded = "The service is overloaded. Try again in 2 seconds.";
        assert_eq!(text(Reason::Full, false, 2), overloaded);
        assert_eq!(text(Reason::Evicted, true, 1), "Too many requests. Try again in 1 second.");
        assert_eq!(
            text(Reason::Closed, false, 1),
            "The service is unavailable. Try again in 1 second."
        );
    }

    #[test]
    fn an_instance_is_escaped() {
        assert_eq!(escaped("/a\"b\\c\n/é"), "/a\\\"b\\\\c\\u000a/é");
    }
}
