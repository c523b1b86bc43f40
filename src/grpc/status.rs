//! The outcome of a call by its gRPC status.

use http::{HeaderMap, Response};

use crate::{ByResult, classify::ClassifyResponse, limit::Outcome};

const OK: &str = "0";
const CANCELLED: &str = "1";
const UNKNOWN: &str = "2";
const DEADLINE_EXCEEDED: &str = "4";
const RESOURCE_EXHAUSTED: &str = "8";
const INTERNAL: &str = "13";
const UNAVAILABLE: &str = "14";

/// Judges calls by `grpc-status`: a [`ClassifyResponse`].
///
/// `RESOURCE_EXHAUSTED`, `UNAVAILABLE` and `DEADLINE_EXCEEDED` mean overload. `CANCELLED`,
/// `UNKNOWN` and `INTERNAL` say nothing about load. Any other status is a success, since the
/// service did its work. Errors without a response are judged by [`ByResult`](crate::ByResult).
///
/// The status is in the headers of a response without messages, and in the trailers of other
/// responses. Trailers are read with [`Hold::BodyEnd`](crate::http::Hold::BodyEnd), if `ByStatus`
/// itself is the classifier, not called from a closure. Otherwise a response with messages counts
/// as a success.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ByStatus;

impl ByStatus {
    /// Returns the classifier.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<B, E: 'static> ClassifyResponse<Response<B>, E> for ByStatus {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) => outcome_in(response.headers()).unwrap_or(Outcome::Success),
            Err(error) => ByResult.classify(Err::<&Response<B>, _>(error)),
        }
    }

    fn classify_trailers(&self, trailers: &HeaderMap) -> Option<Outcome> {
        outcome_in(trailers)
    }
}

/// Returns the outcome for the status in `headers`, if any.
fn outcome_in(headers: &HeaderMap) -> Option<Outcome> {
    let status = headers.get("grpc-status")?.to_str().ok()?;
    Some(match status {
        OK => Outcome::Success,
        RESOURCE_EXHAUSTED | UNAVAILABLE | DEADLINE_EXCEEDED => Outcome::Overload,
        CANCELLED | UNKNOWN | INTERNAL => Outcome::Ignore,
        _ => Outcome::Success,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_statuses_mean_overload() {
        let judge = |status: Option<&'static str>| {
            let mut response = Response::new(());
            if let Some(status) = status {
                response
                    .headers_mut()
                    .insert("grpc-status", http::HeaderValue::from_static(status));
            }
            ByStatus.classify(Ok::<_, &()>(&response))
        };
        for (status, outcome) in [
            (None, Outcome::Success),
            (Some("0"), Outcome::Success),
            (Some("1"), Outcome::Ignore),
            (Some("4"), Outcome::Overload),
            (Some("5"), Outcome::Success),
            (Some("8"), Outcome::Overload),
            (Some("13"), Outcome::Ignore),
            (Some("14"), Outcome::Overload),
        ] {
            assert_eq!(judge(status), outcome, "{status:?}");
        }
        assert_eq!(ByStatus.classify(Err::<&Response<()>, _>(&())), Outcome::Ignore);
    }
}
