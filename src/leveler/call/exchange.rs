use std::{
    mem,
    task::{Context, Poll, Waker},
};

use crate::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    fault::{Fault, is_planted},
};

/// The meeting place of a queued request and its answer. The request is taken out before the answer
/// comes in, so one space serves for both.
///
/// ```text
/// Waiting ⇄ InHand              the drain task takes it up; back if it can't be dispatched
/// Waiting ──▶ Gone              taken for good
/// InHand  ──▶ Gone              its caller has given up meanwhile: not put back
/// ```
///
/// Content and wakers are dropped, and wakers cloned and woken, outside of the lock: all three are
/// user code.
#[derive(Debug)]
pub(super) struct Exchange<W, A> {
    // Both change only while the rest is locked, and are read without the lock.
    stage: AtomicU8,
    /// Set once the caller has gone. Nobody asks for the answer then.
    is_abandoned: AtomicBool,
    inside: Mutex<Inside<W, A>>,
}

/// Answers the caller if dropped before [`end`](Self::end). The code in between may panic, for
/// example in a subscriber of `tracing`.
#[derive(Debug)]
pub(super) struct Unanswered<'a, W, A> {
    /// `None` once ended.
    exchange: Option<&'a Exchange<W, A>>,
    lost: fn() -> A,
}

impl<W, A> Unanswered<'_, W, A> {
    /// Ends the guard: the request is answered, put back, or runs.
    pub(super) fn end(mut self) {
        self.exchange = None;
    }
}

impl<W, A> Drop for Unanswered<'_, W, A> {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange {
            drop(exchange.answer((self.lost)()));
        }
    }
}

#[derive(Debug)]
struct Inside<W, A> {
    content: Content<W, A>,
    caller: Option<Waker>,
    worker: Option<Waker>,
}

#[derive(Debug)]
enum Content<W, A> {
    Request(W),
    Nothing,
    Answer(A),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    InHand,
    Gone,
}

impl<W, A> Exchange<W, A> {
    pub(super) fn new(request: W) -> Self {
        let content = Content::Request(request);
        let inside = Inside { content, caller: None, worker: None };
        Self {
            stage: AtomicU8::new(Stage::Waiting as u8),
            is_abandoned: AtomicBool::new(false),
            inside: Mutex::new(inside),
        }
    }

    pub(super) fn is_at(&self, stage: Stage) -> bool {
        self.stage.load(SeqCst) == stage as u8
    }

    /// Returns a guard that answers the caller with `lost`, unless it is ended before.
    pub(super) fn unanswered(&self, lost: fn() -> A) -> Unanswered<'_, W, A> {
        Unanswered { exchange: Some(self), lost }
    }

    /// Takes a waiting request out.
    pub(super) fn take(&self, next: Stage) -> Option<W> {
        self.inside.with(|inside| {
            let request = inside.take_request()?;
            self.stage.store(next as u8, SeqCst);
            Some(request)
        })
    }

    /// Puts the request back. `Err` if the caller has given up meanwhile.
    pub(super) fn put_back(&self, request: W) -> Result<(), W> {
        let before = self.inside.with(|inside| {
            if self.is_at(Stage::Gone) && !is_planted(Fault::PutBackForNobody) {
                return Err(request);
            }
            self.stage.store(Stage::Waiting as u8, SeqCst);
            Ok(inside.put(Content::Request(request)))
        })?;
        drop(before);
        Ok(())
    }

    /// Hands the answer to the caller. `Err` if the caller has gone.
    pub(super) fn answer(&self, answer: A) -> Result<(), A> {
        let (caller, worker, before) = self.inside.with(|inside| {
            if self.is_abandoned() {
                return Err(answer);
            }
            let before = inside.put(Content::Answer(answer));
            // The tombstone in the queue must not keep the task of the call.
            Ok((inside.caller.take(), inside.worker.take(), before))
        })?;
        if let Some(caller) = caller {
            caller.wake();
        }
        drop((worker, before));
        Ok(())
    }

    /// Polls for the answer, for the caller. Cancel safe.
    pub(super) fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<A> {
        self.poll_for(Inside::take_answer, |inside| &mut inside.caller, cx)
    }

    /// Takes note that the caller has gone, and wakes the worker. If `gives_up`, ends the exchange,
    /// and returns a waiting request.
    pub(super) fn abandon(&self, gives_up: bool) -> Option<W> {
        let (request, answer, worker, caller) = self.inside.with(|inside| {
            self.is_abandoned.store(true, SeqCst);
            let request = if gives_up { inside.take_request() } else { None };
            if gives_up {
                self.stage.store(Stage::Gone as u8, SeqCst);
            }
            (request, inside.take_answer(), inside.worker.take(), inside.caller.take())
        });
        if let Some(worker) = worker.filter(|_| !is_planted(Fault::WorkerNotTold)) {
            worker.wake();
        }
        drop((answer, caller));
        request
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(SeqCst)
    }

    /// Resolves when the caller has gone, for the worker.
    pub(super) fn poll_abandoned(&self, cx: &mut Context<'_>) -> Poll<()> {
        let gone = |_: &mut Inside<W, A>| self.is_abandoned().then_some(());
        self.poll_for(gone, |inside| &mut inside.worker, cx)
    }

    /// Polls for what `find` finds. Until it does, the waker of `cx` lies in `place`.
    fn poll_for<T>(
        &self,
        find: impl Fn(&mut Inside<W, A>) -> Option<T>,
        place: fn(&mut Inside<W, A>) -> &mut Option<Waker>,
        cx: &mut Context<'_>,
    ) -> Poll<T> {
        let first = self.inside.with(|inside| match find(inside) {
            Some(found) => Some(Poll::Ready(found)),
            None => {
                let registered = place(inside).as_ref();
                let is_registered = registered.is_some_and(|waker| waker.will_wake(cx.waker()));
                is_registered.then_some(Poll::Pending)
            }
        });
        if let Some(polled) = first {
            return polled;
        }
        let waker = cx.waker().clone();
        // Look again, since the lock was free during the clone.
        let (polled, before) = self.inside.with(|inside| {
            let found = if is_planted(Fault::AnswerSeenOnce) { None } else { find(inside) };
            match found {
                Some(found) => (Poll::Ready(found), Some(waker)),
                None => (Poll::Pending, place(inside).replace(waker)),
            }
        });
        drop(before);
        polled
    }
}

impl<W, A> Inside<W, A> {
    /// Puts the content in. Returns the former content, which is nothing unless there is a bug.
    fn put(&mut self, content: Content<W, A>) -> Option<Content<W, A>> {
        // Look first, since the content may be large.
        if matches!(self.content, Content::Nothing) {
            self.content = content;
            return None;
        }
        Some(mem::replace(&mut self.content, content))
    }

    fn take_request(&mut self) -> Option<W> {
        // Look first, since the content may be large.
        if !matches!(self.content, Content::Request(_)) {
            return None;
        }
        match mem::replace(&mut self.content, Content::Nothing) {
            Content::Request(request) => Some(request),
            _ => None,
        }
    }

    fn take_answer(&mut self) -> Option<A> {
        if !matches!(self.content, Content::Answer(_)) {
            return None;
        }
        match mem::replace(&mut self.content, Content::Nothing) {
            Content::Answer(answer) => Some(answer),
            _ => None,
        }
    }
}

#[cfg(all(test, shuttle))]
mod models;

#[cfg(test)]
mod tests {
    use futures::task::noop_waker_ref;

    use super::*;

    fn poll(exchange: &Exchange<&'static str, u32>) -> Poll<u32> {
        exchange.poll_answer(&mut Context::from_waker(noop_waker_ref()))
    }

    #[test]
    fn a_request_is_taken_once_and_answered() {
        let exchange = Exchange::new("request");
        assert!(poll(&exchange).is_pending());
        assert_eq!(exchange.take(Stage::InHand), Some("request"));
        assert_eq!(exchange.take(Stage::Gone), None);
        assert!(exchange.is_at(Stage::InHand), "who takes nothing changes nothing");
        assert_eq!(exchange.put_back("request"), Ok(()));
        assert_eq!(exchange.take(Stage::InHand), Some("request"));
        assert_eq!(exchange.answer(7), Ok(()));
        assert_eq!(poll(&exchange), Poll::Ready(7));
        assert!(poll(&exchange).is_pending(), "that was all");
    }

    #[test]
    fn one_who_gives_up_gets_the_request_back_or_has_it_come_to_an_end() {
        let waiting = Exchange::<_, u32>::new("request");
        assert_eq!(waiting.abandon(true), Some("request"));
        assert!(waiting.is_at(Stage::Gone));
        let in_hand = Exchange::<_, u32>::new("request");
        in_hand.take(Stage::InHand);
        assert_eq!(in_hand.abandon(true), None);
        assert_eq!(in_hand.put_back("request"), Err("request"));
        assert_eq!(in_hand.answer(7), Err(7));
    }

    #[test]
    fn one_who_leaves_it_to_be_done_takes_nothing_with_it() {
        let exchange = Exchange::new("request");
        assert_eq!(exchange.abandon(false), None);
        assert_eq!(exchange.take(Stage::InHand), Some("request"));
        assert_eq!(exchange.put_back("request"), Ok(()));
        assert!(exchange.is_abandoned());
        assert_eq!(exchange.answer(7), Err(7));
    }

    #[test]
    fn what_nobody_will_read_is_dropped_at_once() {
        let answer = std::sync::Arc::new(7);
        let exchange = Exchange::new("request");
        exchange.take(Stage::InHand);
        assert!(exchange.answer(answer.clone()).is_ok());
        exchange.abandon(true);
        assert_eq!(std::sync::Arc::strong_count(&answer), 1);
    }

    #[test]
    fn the_worker_is_not_kept_beyond_its_answer() {
        let exchange = Exchange::new("request");
        let (worker, calls) = counting_waker();
        exchange.take(Stage::InHand);
        assert!(exchange.poll_abandoned(&mut Context::from_waker(&worker)).is_pending());
        assert_eq!(exchange.answer(7), Ok(()));
        exchange.abandon(true);
        assert_eq!(calls(), 0, "it has ended");
    }

    #[test]
    fn both_sides_are_woken() {
        let exchange = Exchange::<_, u32>::new("request");
        let (caller, calls) = counting_waker();
        let mut cx = Context::from_waker(&caller);
        assert!(exchange.poll_answer(&mut cx).is_pending());
        exchange.take(Stage::InHand);
        assert!(exchange.poll_abandoned(&mut cx).is_pending());
        exchange.abandon(true);
        assert_eq!(calls(), 1, "the worker");
        assert!(exchange.poll_abandoned(&mut cx).is_ready());
        let exchange = Exchange::new("request");
        assert!(exchange.poll_answer(&mut cx).is_pending());
        assert_eq!(exchange.answer(7), Ok(()));
        assert_eq!(calls(), 2, "the caller");
    }

    /// Returns a waker, and a count of the wake-ups.
    fn counting_waker() -> (Waker, impl Fn() -> usize) {
        use std::sync::{Arc, atomic::AtomicUsize};
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        (Waker::from(Arc::clone(&count)), move || count.0.load(SeqCst))
    }
}
