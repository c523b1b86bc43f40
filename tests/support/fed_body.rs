//! A response body that the test feeds.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tower::BoxError;

/// A body that gives what the test sends, and then its end.
pub struct Stream {
    frames: mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>,
    size: SizeHint,
}

pub type Feed = mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>;

impl Body for Stream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.frames.poll_recv(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

pub fn stream(size: u64) -> (Feed, Response<Stream>) {
    let (feed, frames) = mpsc::unbounded_channel();
    (feed, Response::new(Stream { frames, size: SizeHint::with_exact(size) }))
}

pub fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}
