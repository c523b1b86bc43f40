//! A response body with the slot of its call.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    runtime,
    task::AbortHandle,
    time::{Instant, sleep_until},
};
use tower::BoxError;

use super::{
    body_limits::{BodyLimits, Cut},
    reader::Reader,
};
use crate::{
    leveler::{
        nesting::{LevelerId, Lineage, Scope},
        panics::contain,
    },
    respond::Kept,
    sync::UserMutex,
};

pin_project! {
    /// The body of a response under [`Builder::hold_until`](crate::Builder::hold_until). Passes all
    /// frames through, and releases the slot at the end.
    ///
    /// # Errors
    ///
    /// The errors of the inner body, boxed, and [`BodyIdle`](super::BodyIdle),
    /// [`BodyTooSlow`](super::BodyTooSlow) and [`BodyTooLong`](super::BodyTooLong).
    pub struct HeldBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Free { #[pin] body: B },
        Held { held: Arc<UserMutex<Held<B>>>, reader: Option<Arc<Reader>> },
    }
}

/// State shared with the watch, which drops a body beyond its limits.
///
/// The methods of the body run under the lock. The body's drop, the end of the call and the waker
/// of the reader run outside of the lock.
struct Held<B> {
    /// `None` after the end.
    body: Option<Pin<Box<B>>>,
    slot: Option<Box<dyn Kept>>,
    /// Set once the reader has asked for a frame.
    is_begun: bool,
    /// The number of bytes still to come, if known. A reader with all bytes need not ask for the
    /// end: hyper does not.
    left: Option<u64>,
    /// The watch, if the body has limits.
    watch: Option<Watch>,
    /// The limit for which the body was dropped, until the reader is told.
    cut: Option<Cut>,
    /// The nesting of calls made by the body while polled.
    nesting: Option<Nesting>,
}

/// The part of a body in the chain of nested calls. A body that calls its own leveler holds a slot
/// while waiting for another slot, as the inner's future does.
struct Nesting {
    leveler: LevelerId,
    /// Made at the first poll, possibly within the body of another leveler.
    lineage: Option<Lineage>,
}

/// The parts to take out of the lock after a poll: all at the end of the body, and the slot alone
/// to judge trailers. Dropped in this order: the slot is released after the work has ended.
struct Taken<B> {
    _body: Option<Pin<Box<B>>>,
    slot: Option<Box<dyn Kept>>,
    _watch: Option<Watch>,
}

impl<B> HeldBody<B> {
    /// Returns a body without a slot: for responses of layers outside of the leveler, such as
    /// responses to errors.
    #[must_use]
    pub fn new(body: B) -> Self {
        Self { kind: Kind::Free { body } }
    }
}

impl<B: Body + Send + 'static> HeldBody<B> {
    /// Returns a body with a slot. `left` is the length in bytes, if known.
    pub(super) fn held(
        body: B,
        left: Option<u64>,
        slot: Box<dyn Kept>,
        limits: BodyLimits,
    ) -> Self {
        let nesting = slot.id().map(|leveler| Nesting { leveler, lineage: None });
        let (body, slot) = (Some(Box::pin(body)), Some(slot));
        let held = Held { body, slot, is_begun: false, left, watch: None, cut: None, nesting };
        let held = Arc::new(UserMutex::new(held));
        let watch = Watch::begin(&held, limits);
        let reader = watch.as_ref().map(|watch| Arc::clone(&watch.reader));
        held.lock().watch = watch;
        Self { kind: Kind::Held { held, reader } }
    }
}

/// The task that drops a body beyond its limits. Stops when the watch is dropped.
struct Watch {
    reader: Arc<Reader>,
    task: AbortHandle,
}

impl Watch {
    fn begin<B: Send + 'static>(
        held: &Arc<UserMutex<Held<B>>>,
        limits: BodyLimits,
    ) -> Option<Self> {
        let now = Instant::now();
        let reader = Arc::new(Reader::new(now));
        let late = limits.check(&reader.progress(), now).ok()??;
        let runtime = runtime::Handle::try_current().ok()?;
        let watch = watch(Arc::downgrade(held), Arc::clone(&reader), limits, late);
        Some(Self { reader, task: runtime.spawn(watch).abort_handle() })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Drops a body beyond its limits. Checks now and then instead of at each frame.
async fn watch<B>(
    held: Weak<UserMutex<Held<B>>>,
    reader: Arc<Reader>,
    limits: BodyLimits,
    mut late: Instant,
) {
    loop {
        sleep_until(late).await;
        let Some(held) = held.upgrade() else { return };
        let (body, slot, cut) = {
            // While the lock is held, nobody reads the body.
            let mut held = held.lock();
            let cut = match limits.check(&reader.progress(), Instant::now()) {
                Ok(Some(next)) => {
                    late = next;
                    continue;
                }
                Ok(None) => return,
                Err(cut) => cut,
            };
            let Some(body) = held.body.take() else { return };
            held.break_off();
            (held.cut, held.nesting) = (Some(cut), None);
            (body, held.slot.take(), cut)
        };
        let name = slot.as_ref().and_then(|slot| slot.leveler());
        contain(|| tracing::warn!(name, why = %cut.error(), "response body dropped"));
        // Outside of the lock, since the drop is user code. The slot is released after the work has
        // ended.
        contain(|| drop(body));
        drop(slot);
        // Also tell a reader that waits for data.
        reader.wake_by_ref();
        return;
    }
}

/// A frame of a body, or its end.
type FrameOf<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

/// Polls a held body, and ends the call with the body.
fn poll_held<B: Body<Error: Into<BoxError>>>(
    held: &UserMutex<Held<B>>,
    reader: Option<&Arc<Reader>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
    let waker = reader.map(|reader| reader.waker(cx.waker()));
    let mut cx = Context::from_waker(waker.as_ref().unwrap_or(cx.waker()));
    let mut guard = held.lock();
    if let Some(cut) = guard.cut.take() {
        return Poll::Ready(Some(Err(cut.error())));
    }
    let polled = guard.poll_frame(&mut cx);
    drop(guard);
    if let (Some(reader), Poll::Ready((frame, ..))) = (reader, &polled) {
        // The reader has to ask for the next frame.
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        reader.mark_unread(data.map_or(0, |data| data.remaining() as u64));
    }
    let (frame, is_end, mut taken) = ready!(polled);
    if let (Some(Ok(frame)), Some(slot)) = (&frame, &mut taken.slot) {
        if let Some(trailers) = frame.trailers_ref() {
            slot.judge_trailers(trailers);
        }
    }
    if let Some(slot) = taken.slot.take_if(|_| !is_end) {
        let mut guard = held.lock();
        // Unless the watch has dropped the body meanwhile: then the call has ended.
        taken.slot = if guard.body.is_some() { guard.slot.replace(slot) } else { Some(slot) };
    }
    drop(taken);
    Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
}

impl<B: Body> Held<B> {
    /// Polls for a frame. Returns the frame, whether the body has ended, and the parts for outside
    /// of the lock.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<(FrameOf<B>, bool, Taken<B>)> {
        let nothing = Taken { _body: None, slot: None, _watch: None };
        let Some(body) = self.body.as_mut() else { return Poll::Ready((None, true, nothing)) };
        self.is_begun = true;
        let scope = self.nesting.as_mut().map(|Nesting { leveler, lineage }| {
            let lineage = lineage.get_or_insert_with(|| Lineage::of_call(*leveler));
            Scope::of_poll(*leveler, lineage)
        });
        let polled = body.as_mut().poll_frame(cx);
        drop(scope);
        let frame = ready!(polled);
        let (is_end, has_trailers) = match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let got = data.remaining() as u64;
                    self.left = self.left.map(|left| left.saturating_sub(got));
                }
                (body.is_end_stream(), frame.is_trailers())
            }
            Some(Err(_)) => {
                if let Some(slot) = &mut self.slot {
                    slot.fail();
                }
                (true, false)
            }
            None => (true, false),
        };
        if has_trailers {
            // Nothing follows trailers.
            self.left = Some(0);
        }
        if is_end {
            self.nesting = None;
        }
        let taken = match (is_end, has_trailers) {
            (true, _) => {
                Taken { _body: self.body.take(), slot: self.slot.take(), _watch: self.watch.take() }
            }
            (false, true) => Taken { slot: self.slot.take(), ..nothing },
            (false, false) => nothing,
        };
        Poll::Ready((frame, is_end, taken))
    }
}

impl<B> Held<B> {
    /// Records a body abandoned half way. A reader that never began had no use for a body, as with
    /// `HEAD`.
    fn break_off(&mut self) {
        let is_half_way = self.is_begun && self.left != Some(0);
        if let Some(slot) = self.slot.as_mut().filter(|_| is_half_way) {
            slot.break_off();
        }
    }
}

impl<B> Drop for Held<B> {
    fn drop(&mut self) {
        self.break_off();
    }
}

impl<B> Body for HeldBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        match self.project().kind.project() {
            KindProj::Free { body } => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            KindProj::Held { held, reader } => poll_held(held, reader.as_ref(), cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Free { body } => body.is_end_stream(),
            Kind::Held { held, .. } => {
                let held = held.lock();
                held.cut.is_none() && held.body.as_ref().is_none_or(|body| body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Free { body } => body.size_hint(),
            Kind::Held { held, .. } => {
                let held = held.lock();
                let body = held.body.as_ref();
                let unknown =
                    if held.cut.is_some() { SizeHint::new() } else { SizeHint::with_exact(0) };
                body.map_or(unknown, |body| body.size_hint())
            }
        }
    }
}

/// An empty body has no slot.
impl<B: Default> Default for HeldBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B: From<String>> From<String> for HeldBody<B> {
    fn from(text: String) -> Self {
        Self::new(text.into())
    }
}

impl<B> fmt::Debug for HeldBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_held = match &self.kind {
            Kind::Free { .. } => false,
            Kind::Held { held, .. } => held.lock().slot.is_some(),
        };
        f.debug_struct("HeldBody").field("is_held", &is_held).finish_non_exhaustive()
    }
}
