//! Request bodies, read ahead while the requests wait.
//!
//! Nobody reads the body of a waiting request. The body fills the buffers of the connection, in the
//! way of other requests, and hides the end of the connection. [`ReadAheadFuture`] polls the inner
//! call, and beside the call the body, into a [`Buffer`](buffer::Buffer). [`ReadAheadBody`], the
//! body for the inner service, takes the buffer over at the first poll. [`Total`] counts the bytes
//! in all buffers.

mod body;
mod buffer;
mod service;
mod total;

use std::{sync::Arc, time::Duration};

use tower::Layer;

pub use self::{
    body::ReadAheadBody,
    service::{ReadAhead, ReadAheadFuture},
};
use self::{service::Budget, total::Total};

/// Reads the bodies of waiting requests ahead, up to a budget. Put the layer outside of the
/// leveler.
///
/// The body of a waiting request fills the buffers of the connection. The requests of an HTTP/2
/// connection share one flow-control window. If the bodies of waiting requests fill the window, the
/// running requests get no more of their own bodies, and none is ever answered. Over HTTP/1, hyper
/// sees a client leave only after the whole body was read.
///
/// While a response is pending, this layer reads the body of the request: up to `per_request`
/// bytes, and as long as all requests together hold less than `total`. Beyond the total, requests
/// take turns as bytes are released.
///
/// The inner service gets every frame unchanged, with trailers, errors and size hint. Reading or
/// dropping the body releases the bytes.
///
/// Frames are not split: the last frame may exceed `per_request` and `total`. A frame is as large
/// as one read of hyper: 16 KiB over HTTP/2, at most some 400 KiB over HTTP/1. A frame counts for
/// at least 256 bytes. In the total, the largest frame of a body counts twice until the body ends,
/// for the frame read by hyper in advance. So the memory of the process stays close to the total: a
/// thousand waiting uploads take some 45 MiB more over HTTP/1, and 15 MiB more over HTTP/2.
///
/// If the client of a waiting request has gone, the request frees its place. Requests without a
/// body cost nothing. Requests with `Expect: 100-continue` are not read ahead: the client sends the
/// body when the inner service begins to read.
///
/// # Limits of the cure
///
/// - A body beyond `per_request`, or beyond a used-up `total`, stays in the connection. So set the
///   HTTP/2 windows too: a connection window of at least streams × stream window.
/// - Over HTTP/1, a client is seen to leave once the layer has read everything sent by the client.
///   Over HTTP/2, clients reset streams, and need no read-ahead to be seen.
/// - With [`Overflow::Wait`](crate::Overflow::Wait), requests wait in `poll_ready`, before they
///   reach the layer.
///
/// ```
/// use axum::{Router, body::Body, extract::Request, routing::post};
/// use tower::ServiceBuilder;
/// use tower_load_leveling::{
///     LoadLevelLayer,
///     http::{ReadAheadBody, ReadAheadLayer, RejectionLayer},
/// };
///
/// let ahead = ReadAheadLayer::new(256 << 10, 64 << 20);
/// let handle = ahead.handle();
/// let app: Router = Router::new().route("/", post(|body: String| async { body })).layer(
///     ServiceBuilder::new()
///         .layer(ahead)
///         // Only if a layer inside names the body type, such as a closure as a classifier.
///         .map_request(|request: Request<ReadAheadBody<Body>>| request.map(Body::new))
///         .layer(RejectionLayer::new())
///         .layer(LoadLevelLayer::new(1024, 64)),
/// );
/// assert_eq!(handle.held(), 0);
/// # let _ = app;
/// ```
#[derive(Clone, Debug)]
pub struct ReadAheadLayer(Budget);

impl ReadAheadLayer {
    /// Returns a layer with a budget of `per_request` bytes for each request, and of `total` bytes
    /// for all requests together.
    ///
    /// Clones of the layer, and the services made by them, share the total. With a budget of 0
    /// nothing is read ahead.
    #[must_use]
    pub fn new(per_request: usize, total: usize) -> Self {
        Self(Budget { per_request, total: Arc::new(Total::new(total)), first: None })
    }

    /// Calls the inner service only after the body was read: to the end, or up to the budget of the
    /// request, or as far as the total allows. If reading takes longer than `time`, the response is
    /// 408 (Request Timeout).
    ///
    /// A client that sends a byte a second then holds no slot. Deadlines and the books of the
    /// leveler begin when the body has been read. Clients that send `Expect: 100-continue` are told
    /// to continue at once. Needs a runtime with timers enabled. Default is to call at once.
    #[must_use]
    pub fn body_first(mut self, time: Duration) -> Self {
        self.0.first = Some(time);
        self
    }

    /// Returns a handle to watch the layer.
    #[must_use]
    pub fn handle(&self) -> ReadAheadHandle {
        ReadAheadHandle { total: Arc::clone(&self.0.total) }
    }
}

impl<S> Layer<S> for ReadAheadLayer {
    type Service = ReadAhead<S>;

    fn layer(&self, inner: S) -> ReadAhead<S> {
        ReadAhead::new(inner, self.0.clone())
    }
}

/// The figures of a [`ReadAheadLayer`].
#[derive(Clone, Debug)]
pub struct ReadAheadHandle {
    total: Arc<Total>,
}

impl ReadAheadHandle {
    /// Returns the number of bytes held by all requests.
    #[must_use]
    pub fn held(&self) -> usize {
        self.total.held()
    }

    /// Returns the limit of bytes held by all requests.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total.limit()
    }

    /// Returns the number of requests waiting for bytes of the total.
    #[must_use]
    pub fn starving(&self) -> usize {
        self.total.starving()
    }
}
