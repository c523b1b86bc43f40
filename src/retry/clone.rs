//! Clones of requests, for later attempts.

#[cfg(feature = "http")]
use http::Request;
#[cfg(feature = "http")]
use http_body::Body;

/// Clones requests before they are sent. A request that cannot be cloned is not retried.
///
/// Implemented for closures `Fn(&Req) -> Option<Req>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not clone requests of the type `{Req}`",
    label = "no clone for a retry",
    note = "write how to clone a request, if at all: `.clone_with(|request: &{Req}| None)`; for \
            requests of reqwest `.clone_with(reqwest::Request::try_clone)`, and for bodies that \
            have no `Clone`, as that of axum, `.clone_with(retry::clone_without_body)`"
)]
pub trait CloneRequest<Req> {
    /// Returns a clone of `request`, if it can be cloned.
    fn clone_request(&self, request: &Req) -> Option<Req>;
}

#[diagnostic::do_not_recommend]
impl<F, Req> CloneRequest<Req> for F
where
    F: Fn(&Req) -> Option<Req>,
{
    fn clone_request(&self, request: &Req) -> Option<Req> {
        self(request)
    }
}

/// The default [`CloneRequest`]: by `Clone`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ByClone;

#[diagnostic::do_not_recommend]
impl<Req: Clone> CloneRequest<Req> for ByClone {
    fn clone_request(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}

/// Clones a request without a body, such as a `GET`. Returns `None` if the request has a body.
///
/// For [`RetryPolicy::clone_with`](super::RetryPolicy::clone_with), if the body has no `Clone`.
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub fn clone_without_body<B: Body + Default>(request: &Request<B>) -> Option<Request<B>> {
    if !request.body().is_end_stream() {
        return None;
    }
    let mut clone = Request::new(B::default());
    clone.method_mut().clone_from(request.method());
    clone.uri_mut().clone_from(request.uri());
    *clone.version_mut() = request.version();
    clone.headers_mut().clone_from(request.headers());
    clone.extensions_mut().clone_from(request.extensions());
    Some(clone)
}
