//! The body of a request, partly read ahead.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;

use super::buffer::{Buffer, Content};

pin_project! {
    /// The body of a request behind a [`ReadAheadLayer`](super::ReadAheadLayer). Passes all frames
    /// on unchanged and in order: first the frames read ahead, then the rest.
    ///
    /// # Errors
    ///
    /// The errors of the body, boxed.
    pub struct ReadAheadBody<B: Body> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B: Body> {
        Direct { #[pin] body: B },
        Shared { buffer: Shared<B> },
        Taken { content: Content<B> },
    }
}

/// The reader's half of a buffer. `Drop` drops the content.
struct Shared<B: Body>(Arc<Buffer<B>>);

impl<B: Body> Drop for Shared<B> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl<B: Body> ReadAheadBody<B> {
    /// Returns a body without read-ahead: for requests made behind the layer.
    #[must_use]
    pub fn new(body: B) -> Self {
        Self { kind: Kind::Direct { body } }
    }

    pub(super) fn shared(buffer: Arc<Buffer<B>>) -> Self {
        Self { kind: Kind::Shared { buffer: Shared(buffer) } }
    }

    fn look<T>(&self, direct: impl FnOnce(&B) -> T, look: impl FnOnce(&Content<B>) -> T) -> T
    where
        T: Default,
    {
        match &self.kind {
            Kind::Direct { body } => direct(body),
            Kind::Shared { buffer } => buffer.0.look(look).unwrap_or_default(),
            Kind::Taken { content } => look(content),
        }
    }
}

impl<B> Body for ReadAheadBody<B>
where
    B: Body<Data: 'static, Error: Into<BoxError>>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut kind = self.project().kind;
        if let KindProj::Shared { buffer } = kind.as_mut().project() {
            // From now on only the reader polls the body, without a lock.
            match buffer.0.take() {
                Some(content) => kind.set(Kind::Taken { content }),
                None => return Poll::Ready(None),
            }
        }
        let frame = match kind.project() {
            KindProj::Direct { body } => body.poll_frame(cx),
            KindProj::Taken { content } => {
                if let Some(frame) = content.frames.pop() {
                    return Poll::Ready(Some(frame));
                }
                match &mut content.body {
                    Some(body) => body.as_mut().poll_frame(cx),
                    None => Poll::Ready(None),
                }
            }
            KindProj::Shared { .. } => Poll::Ready(None),
        };
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.look(B::is_end_stream, |Content { frames, body }| {
            frames.is_empty() && body.as_ref().is_none_or(|body| body.is_end_stream())
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.look(B::size_hint, |Content { frames, body }| {
            let ahead = frames.data();
            let rest = body.as_ref().map_or(SizeHint::with_exact(0), |body| body.size_hint());
            let mut hint = SizeHint::new();
            hint.set_lower(rest.lower().saturating_add(ahead));
            if let Some(upper) = rest.upper() {
                hint.set_upper(upper.saturating_add(ahead));
            }
            hint
        })
    }
}

/// An empty body.
impl<B: Body + Default> Default for ReadAheadBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B: Body> fmt::Debug for ReadAheadBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAheadBody").finish_non_exhaustive()
    }
}
