//! A response body of the inner service, or none.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response of the inner service, or an empty body of a
    /// [`ReadAheadLayer`](super::ReadAheadLayer).
    #[derive(Clone, Copy, Default)]
    pub struct OrEmpty<B> {
        #[pin]
        body: Option<B>,
    }
}

impl<B> OrEmpty<B> {
    /// Returns `body`.
    #[must_use]
    pub fn new(body: B) -> Self {
        Self { body: Some(body) }
    }

    /// Returns an empty body.
    #[must_use]
    pub fn empty() -> Self {
        Self { body: None }
    }
}

impl<B: Body> Body for OrEmpty<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().body.as_pin_mut() {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}

impl<B> fmt::Debug for OrEmpty<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrEmpty").field("is_empty", &self.body.is_none()).finish_non_exhaustive()
    }
}
