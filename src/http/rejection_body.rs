//! The body of a response under a rejection layer.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;

use crate::sync::UserMutex;

pin_project! {
    /// The body of a response under a [`RejectionLayer`](super::RejectionLayer): either the body of
    /// the inner service, or the body of a response to an error.
    ///
    /// The inner's body `B` can be any [`Body`] with data `From<Vec<u8>>`, such as `bytes::Bytes`.
    /// Frames, trailers, the end and the size hint pass through unchanged.
    ///
    /// # Errors
    ///
    /// The errors of the inner body, boxed.
    pub struct RejectionBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Inner { #[pin] body: B },
        // `None` is an empty body. The mutex makes this type `Sync` if `B` is.
        Own { body: Option<UserMutex<OwnBody>> },
    }
}

/// The body of a response to an error.
type OwnBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

impl<B> RejectionBody<B> {
    /// Returns the body of a response of the inner service.
    #[must_use]
    pub fn from_inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    /// Returns a body of any type, in a box.
    ///
    /// For responses of layers outside. A `String` is a body too.
    #[must_use]
    pub fn from_body<T>(body: T) -> Self
    where
        T: Body<Error: Into<BoxError>> + Send + 'static,
    {
        // An empty body needs no box.
        let body = (!body.is_end_stream()).then(|| {
            let body: OwnBody = Box::pin(Erased { body });
            UserMutex::new(body)
        });
        Self { kind: Kind::Own { body } }
    }
}

impl<B> Body for RejectionBody<B>
where
    B: Body<Data: From<Vec<u8>>, Error: Into<BoxError>>,
{
    type Data = B::Data;
    type Error = BoxError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        match self.project().kind.project() {
            KindProj::Inner { body } => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            KindProj::Own { body: None } => Poll::Ready(None),
            KindProj::Own { body: Some(body) } => {
                let frame = body.lock().as_mut().poll_frame(cx);
                let convert = |frame: Frame<Bytes>| frame.map_data(|data| data.to_vec().into());
                frame.map(|frame| frame.map(|frame| frame.map(convert)))
            }
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Own { body } => body.as_ref().is_none_or(|body| body.lock().is_end_stream()),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Own { body: None } => SizeHint::with_exact(0),
            Kind::Own { body: Some(body) } => body.lock().size_hint(),
        }
    }
}

pin_project! {
    /// A body of any type, with data and errors of one type.
    struct Erased<T> {
        #[pin]
        body: T,
    }
}

impl<T> Body for Erased<T>
where
    T: Body<Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let to_bytes = |mut data: T::Data| data.copy_to_bytes(data.remaining());
        self.project().body.poll_frame(cx).map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => Ok(frame.map_data(to_bytes)),
                Err(error) => Err(error.into()),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An empty body.
impl<B> Default for RejectionBody<B> {
    fn default() -> Self {
        Self { kind: Kind::Own { body: None } }
    }
}

impl<B> From<String> for RejectionBody<B> {
    fn from(text: String) -> Self {
        Self::from_body(text)
    }
}

impl<B> From<&'static str> for RejectionBody<B> {
    fn from(text: &'static str) -> Self {
        Self::from_body(String::from(text))
    }
}

impl<B> fmt::Debug for RejectionBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_inner = matches!(self.kind, Kind::Inner { .. });
        f.debug_struct("RejectionBody").field("is_inner", &is_inner).finish_non_exhaustive()
    }
}
