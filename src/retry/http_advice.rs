//! The advice in responses of HTTP and gRPC services.

use http::{Request, Response, StatusCode};

use super::{
    advice::{Advice, RetryAdvice},
    headers::is_grpc,
};

/// Reads the refusals of HTTP and gRPC services in [`Response`]s: a [`RetryAdvice`].
///
/// The rules are those of [`Advice::from_http`], and one more. A proxy may answer 503 after the
/// request has reached a server. So after a 503 without a time to retry, only idempotent methods
/// are retried (RFC 9110, 9.2.2).
///
/// The status of a gRPC call is read in the head of the response, not in trailers after a message.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct HttpAdvice;

impl<A, B, E> RetryAdvice<Request<A>, Response<B>, E> for HttpAdvice {
    fn advice(&self, request: &Request<A>, result: Result<&Response<B>, &E>) -> Option<Advice> {
        let response = result.ok()?;
        let (status, headers) = (response.status(), response.headers());
        let advice = Advice::from_http(status, headers)?;
        let may_have_begun = advice == Advice::Backoff
            && status == StatusCode::SERVICE_UNAVAILABLE
            && !is_grpc(headers);
        (!may_have_begun || request.method().is_idempotent()).then_some(advice)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::RETRY_AFTER};

    use super::*;

    #[test]
    fn a_request_that_may_have_begun_is_repeated_only_if_that_does_no_harm() {
        let advice = |method: &str, status: u16, after: Option<&'static str>| {
            let request = Request::builder().method(method).body(()).expect("a request");
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            if let Some(after) = after {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(after));
            }
            HttpAdvice.advice(&request, Ok::<_, &()>(&response)).is_some()
        };
        for (method, status, after, is_retried) in [
            ("GET", 503, None, true),
            ("PUT", 503, None, true),
            ("POST", 503, None, false),
            ("POST", 503, Some("soon"), false),
            ("POST", 503, Some("1"), true),
            ("POST", 429, None, true),
            ("GET", 500, Some("1"), false),
        ] {
            assert_eq!(advice(method, status, after), is_retried, "{method} {status} {after:?}");
        }
        assert_eq!(HttpAdvice.advice(&Request::new(()), Err::<&Response<()>, _>(&())), None);
    }
}
