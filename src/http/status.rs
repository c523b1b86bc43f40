//! The outcome of a call by its HTTP status.

use http::{Response, StatusCode};

use crate::{ByResult, classify::ClassifyResponse, limit::Outcome};

/// Judges calls by the status of the response: a [`ClassifyResponse`].
///
/// 503 (Service Unavailable), 429 (Too Many Requests) and 504 (Gateway Timeout) mean overload.
/// Other server errors say nothing about load. Any other status is a success. Errors without a
/// response are judged by [`ByResult`](crate::ByResult).
#[derive(Clone, Debug)]
pub struct ByStatus {
    overload: Vec<StatusCode>,
}

impl ByStatus {
    /// Returns a classifier with 503, 429 and 504 as overload.
    #[must_use]
    pub fn new() -> Self {
        let overload = vec![
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        Self { overload }
    }

    /// Sets the statuses that mean overload. Default is 503, 429 and 504.
    #[must_use]
    pub fn overload(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.overload = statuses.into_iter().collect();
        self
    }
}

impl Default for ByStatus {
    fn default() -> Self {
        Self::new()
    }
}

impl<B, E: 'static> ClassifyResponse<Response<B>, E> for ByStatus {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result.map(Response::status) {
            Ok(status) if self.overload.contains(&status) => Outcome::Overload,
            Ok(status) if status.is_server_error() => Outcome::Ignore,
            Ok(_) => Outcome::Success,
            Err(error) => ByResult.classify(Err::<&Response<B>, _>(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_statuses_mean_overload() {
        let judge = |by: &ByStatus, status: u16| {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            by.classify(Ok::<_, &()>(&response))
        };
        let by = ByStatus::new();
        for (status, outcome) in [
            (200, Outcome::Success),
            (404, Outcome::Success),
            (429, Outcome::Overload),
            (500, Outcome::Ignore),
            (503, Outcome::Overload),
            (504, Outcome::Overload),
        ] {
            assert_eq!(judge(&by, status), outcome, "{status}");
        }
        assert_eq!(by.classify(Err::<&Response<()>, _>(&())), Outcome::Ignore);
        let refused: crate::error::BoxError = Box::new(tower::load_shed::error::Overloaded::new());
        assert_eq!(by.classify(Err::<&Response<()>, _>(&refused)), Outcome::Overload);
        let by = by.overload([StatusCode::INTERNAL_SERVER_ERROR]);
        assert_eq!((judge(&by, 500), judge(&by, 503)), (Outcome::Overload, Outcome::Ignore));
    }
}
