//! A body and its first frames, between the waiting call and the reader of the body.

use std::{
    any::Any,
    collections::VecDeque,
    error::Error,
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use tower::BoxError;

use super::total::Total;
use crate::sync::{
    UserMutex,
    atomic::{AtomicBool, Ordering::SeqCst, fence},
};

/// A body and its first frames, shared until the reader begins. The reader then takes both, and
/// reading ahead ends.
pub(super) struct Buffer<B: Body> {
    content: UserMutex<Option<Content<B>>>,
    per_request: usize,
    /// Set once the reader has gone.
    is_abandoned: AtomicBool,
}

/// A body, and the frames read ahead.
pub(super) struct Content<B: Body> {
    pub(super) frames: Frames<B::Data>,
    /// `None` after the end.
    pub(super) body: Option<Pin<Box<B>>>,
}

/// The result of reading one frame ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Read,
    Pending,
    /// The total is used up.
    Starved,
    /// The body has ended, has a reader, or has used up its budget.
    Done,
    /// The body failed, because the client has gone.
    Gone,
}

impl<B> Buffer<B>
where
    B: Body<Data: 'static, Error: Into<BoxError>>,
{
    pub(super) fn new(body: B, per_request: usize, total: Arc<Total>) -> Self {
        let content = Content { frames: Frames::new(total), body: Some(Box::pin(body)) };
        let is_abandoned = AtomicBool::new(false);
        Self { content: UserMutex::new(Some(content)), per_request, is_abandoned }
    }

    /// Reads one frame ahead. `total` is the total of the buffer.
    pub(super) fn step(&self, total: &Total, cx: &mut Context<'_>) -> Step {
        let step = self.read_frame(total, cx);
        // Between the unlock, and the look at the mark: see `abandon`.
        fence(SeqCst);
        if self.is_abandoned.load(SeqCst) {
            drop(self.take());
            return Step::Done;
        }
        step
    }

    fn read_frame(&self, total: &Total, cx: &mut Context<'_>) -> Step {
        let mut content = self.content.lock();
        let Some(Content { frames, body }) = &mut *content else { return Step::Done };
        let Some(reading) = body.as_mut().filter(|_| frames.held < self.per_request) else {
            return Step::Done;
        };
        if !total.has_room() {
            return Step::Starved;
        }
        let step = match reading.as_mut().poll_frame(cx) {
            Poll::Pending => return Step::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                frames.push(Ok(frame));
                if !reading.is_end_stream() {
                    return Step::Read;
                }
                Step::Done
            }
            Poll::Ready(Some(Err(error))) => {
                let error = error.into();
                let step = if is_gone(&*error) { Step::Gone } else { Step::Done };
                frames.push(Err(error));
                step
            }
            Poll::Ready(None) => Step::Done,
        };
        let (ended, freed) = (body.take(), frames.end());
        // Outside of the lock: dropping a body and waking a task run foreign code.
        drop(content);
        drop(ended);
        total.release(freed);
        step
    }
}

impl<B: Body> Buffer<B> {
    /// Takes the content out, to read or to drop.
    pub(super) fn take(&self) -> Option<Content<B>> {
        self.content.lock().take()
    }

    /// Drops the content, after the reader has gone. During a step, the step drops the content at
    /// its end. The step may be on this very thread, further up the stack: a body may remove its
    /// own request.
    pub(super) fn abandon(&self) {
        self.is_abandoned.store(true, SeqCst);
        // Between the mark, and the attempt at the lock. Either the attempt finds the lock free, or
        // the step finds the mark.
        fence(SeqCst);
        let content = self.content.try_lock().and_then(|mut content| content.take());
        drop(content);
    }

    /// Looks at the content, unless taken.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Content<B>) -> T) -> Option<T> {
        self.content.lock().as_ref().map(look)
    }
}

/// The frames read ahead, in order. Counted in the total until taken.
pub(super) struct Frames<D> {
    queue: VecDeque<Result<Frame<D>, BoxError>>,
    held: usize,
    /// The size of the largest frame, until the body ends. Counted in the total only: over HTTP/1,
    /// hyper reads one more frame than the body was asked for.
    next: usize,
    total: Arc<Total>,
}

/// The least cost of a frame, in bytes: an entry in a queue that grows by doubling, and the header
/// of the data. Without a least cost, frames of one byte would take a hundred times the budget.
const FRAME: usize = 256;

/// The size in bytes below which data is copied. Data is a slice of hyper's read buffer, and keeps
/// the whole buffer alive: 8 KiB or more for one byte. A larger bound copies more.
const COPIED: usize = 4096;

impl<D: Buf + 'static> Frames<D> {
    fn new(total: Arc<Total>) -> Self {
        Self { queue: VecDeque::new(), held: 0, next: 0, total }
    }

    fn push(&mut self, mut frame: Result<Frame<D>, BoxError>) {
        if let Some(data) = frame.as_mut().ok().and_then(Frame::data_mut) {
            copy_small(data);
        }
        let cost = cost(&frame);
        let more = cost.saturating_sub(self.next);
        self.next += more;
        self.held += cost;
        self.total.take(cost + more);
        self.queue.push_back(frame);
    }

    /// Takes note of the end of the body. Returns the number of bytes to release.
    fn end(&mut self) -> usize {
        mem::take(&mut self.next)
    }

    pub(super) fn pop(&mut self) -> Option<Result<Frame<D>, BoxError>> {
        let frame = self.queue.pop_front()?;
        let cost = cost(&frame);
        self.held -= cost;
        // From now on the reader asks for frames.
        self.total.release(cost + mem::take(&mut self.next));
        Some(frame)
    }

    /// Returns the number of bytes of data.
    pub(super) fn data(&self) -> u64 {
        let data = self.queue.iter().flatten().filter_map(Frame::data_ref);
        data.map(|data| data.remaining() as u64).sum()
    }
}

impl<D> Frames<D> {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

fn copy_small<D: Buf + 'static>(data: &mut D) {
    if let Some(data) = (data as &mut dyn Any).downcast_mut::<Bytes>() {
        if data.len() < COPIED {
            *data = Bytes::copy_from_slice(data);
        }
    }
}

fn cost<D: Buf>(frame: &Result<Frame<D>, BoxError>) -> usize {
    let Ok(frame) = frame else { return FRAME };
    match (frame.data_ref(), frame.trailers_ref()) {
        (Some(data), _) => data.remaining().max(FRAME),
        (None, Some(trailers)) => {
            let bytes = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                name.as_str().len() + value.len()
            };
            FRAME + trailers.iter().map(bytes).sum::<usize>()
        }
        (None, None) => FRAME,
    }
}

impl<D> Drop for Frames<D> {
    fn drop(&mut self) {
        let held = mem::take(&mut self.held) + mem::take(&mut self.next);
        if held > 0 {
            self.queue.clear();
            self.total.release(held);
        }
    }
}

/// Returns whether an error means the end of the connection. Other errors are for the reader of the
/// body, such as the error of a size limit.
fn is_gone(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            let kind = error.kind();
            return matches!(
                kind,
                UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe
            );
        }
        next = error.source();
    }
    false
}
