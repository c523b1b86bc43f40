use std::task::{Context, Poll, Waker};

use self::inside::{Content, Inside};
use crate::{
    leveler::{
        husks::Husk,
        panics::{contain, drop_waker},
    },
    sync::{
        Mutex,
        atomic::{
            AtomicBool, AtomicU8,
            Ordering::{Acquire, Release, SeqCst},
        },
        fault::{Fault, is_planted},
    },
};

/// The meeting place of a call's caller with the drain task, and then with the task of the call.
/// Request, work (the inner's future) and answer follow each other, so one space serves for all.
///
/// ```text
/// Waiting ⇄ InHand              the drain task takes it up; back if it can't be dispatched
/// Waiting ──▶ Gone              taken for good
/// InHand  ──▶ Gone              its caller has given up meanwhile: not put back
///
/// InHand  ──▶ Idle              the task of a direct call has ended it, and will look once more
/// Idle    ──▶ InHand            the next caller gives the task its work
/// Idle    ──▶ Ended             the task has looked, found nothing, and ends
/// Idle    ──▶ Gone              its caller has given up the answer
/// ```
///
/// The task takes the work out, polls the work, and puts it back: the work is never polled under
/// the lock. A caller that gives up takes the work out as well, and ends the work, whether or not
/// the runtime of the task is driven. If the task has the work in hand, the task ends the work. The
/// work of a call handed on, and polled at once, begins in the hand of the task.
///
/// Content and wakers are dropped, and wakers cloned and woken, outside of the lock: all three are
/// user code.
#[derive(Debug)]
pub(super) struct Exchange<Q, W, A> {
    // All three change only while the rest is locked, and are read without the lock. A thread that
    // sees a change sees everything from before the change. No thread changes one word, reads
    // another, and counts on a thread that does the reverse: hence `Release` and `Acquire`.
    stage: AtomicU8,
    /// Set once the caller has gone. From then on, nobody asks for the answer.
    is_abandoned: AtomicBool,
    /// Set once an answer has come, for the caller of a queued call.
    is_answered: AtomicBool,
    inside: Mutex<Inside<Q, W, A>>,
}

/// The content left behind by a caller that gives up, for the caller to end.
#[derive(Debug)]
pub(super) enum Left<Q, W> {
    /// A request that still waited.
    Request(Q),
    /// The work of a running call, and the task to wake.
    Work(W, Option<Waker>),
    /// Nothing: the call is in hand, or has ended.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    InHand,
    Gone,
    Idle,
    Ended,
}

impl<Q, W, A> Exchange<Q, W, A> {
    #[inline(always)]
    pub(super) fn new(request: Q) -> Self {
        Self::with(Content::Request(Some(request)), Stage::Waiting)
    }

    /// Returns the exchange of an already running call.
    pub(super) fn running(work: W) -> Self {
        Self::with(Content::Work(Some(work)), Stage::InHand)
    }

    #[inline(always)]
    fn with(content: Content<Q, W, A>, stage: Stage) -> Self {
        let inside = Inside { content: Content::Nothing, caller: None, worker: None };
        let mut this = Self {
            stage: AtomicU8::new(stage as u8),
            is_abandoned: AtomicBool::new(false),
            is_answered: AtomicBool::new(false),
            inside: Mutex::new(inside),
        };
        // Afterwards: the compiler moves a filled mutex in pieces of other bounds than those it was
        // made of, and each load of such a piece waits for several stores.
        this.inside.get_mut().set(content);
        this
    }

    pub(super) fn is_at(&self, stage: Stage) -> bool {
        self.stage.load(SeqCst) == stage as u8
    }

    /// Changes the stage. Only under the lock.
    fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Release);
    }

    /// Returns whether an answer has come.
    #[inline]
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered.load(Acquire)
    }

    /// Returns the answer, to the last owner of the exchange. Without the lock.
    #[inline]
    pub(super) fn into_answer(self) -> Option<A> {
        self.inside.into_inner().take_answer()
    }

    /// Takes a waiting request out.
    #[inline(always)]
    pub(super) fn take(&self, next: Stage) -> Option<Q> {
        self.take_if(next, |_| true)
    }

    /// Takes a waiting request out, if `is_taken` returns true. No code of users may run in
    /// `is_taken`.
    #[inline(always)]
    pub(super) fn take_if(&self, next: Stage, is_taken: impl FnOnce(&Q) -> bool) -> Option<Q> {
        self.inside.with(|inside| {
            let request = inside.take_request_if(is_taken)?;
            self.set(next);
            Some(request)
        })
    }

    /// Returns whether a waiting request is there, and `looks_right`. No code of users may run in
    /// `looks_right`.
    pub(super) fn has(&self, looks_right: impl FnOnce(&Q) -> bool) -> bool {
        self.inside.with(|inside| match &inside.content {
            Content::Request(Some(request)) => looks_right(request),
            _ => false,
        })
    }

    /// Puts the request back. `Err` if the caller has given up meanwhile.
    pub(super) fn put_back(&self, request: Q) -> Result<(), Q> {
        let before = self.inside.with(|inside| {
            if self.is_at(Stage::Gone) && !is_planted(Fault::PutBackForNobody) {
                return Err(request);
            }
            self.set(Stage::Waiting);
            Ok(inside.put_request(request))
        })?;
        drop(before);
        Ok(())
    }

    /// Takes the work out, for the task to poll. `None` if the caller has given up, or if an idle
    /// task was given no work: the task has to end.
    #[inline(always)]
    pub(super) fn take_work(&self) -> Option<W> {
        self.inside.with(|inside| {
            let work = inside.take_work();
            if work.is_none() && self.is_at(Stage::Idle) && !is_planted(Fault::EndedUntold) {
                self.stage.store(Stage::Ended as u8, SeqCst);
            }
            work
        })
    }

    /// Puts the work of the next call in, for an idle task. Only for the one who has taken the
    /// answer of the last call. `Err` if the task is busy, or ends.
    #[inline]
    pub(super) fn give(&self, work: W) -> Result<(), W> {
        self.inside.with(|inside| {
            if !self.is_at(Stage::Idle) || !matches!(inside.content, Content::Nothing) {
                return Err(work);
            }
            inside.put_work(work);
            self.stage.store(Stage::InHand as u8, SeqCst);
            Ok(())
        })
    }

    /// Records that the task has ended the call, and will look for work once more. Returns false
    /// if nobody can give the task any.
    pub(super) fn become_idle(&self) -> bool {
        self.inside.with(|_| {
            let may = self.is_at(Stage::InHand) && !self.is_abandoned();
            if may {
                self.stage.store(Stage::Idle as u8, SeqCst);
            }
            may
        })
    }

    /// Puts the work in, or back after a poll. If the caller takes the work, the caller wakes
    /// `worker`. A new `worker` replaces an earlier one. `Err` if the caller has given up
    /// meanwhile.
    #[inline(always)]
    pub(super) fn put_work(&self, work: W, worker: Option<Waker>) -> Result<(), W> {
        let put = self.inside.with(|inside| {
            if self.is_at(Stage::Gone) && !is_planted(Fault::PutBackForNobody) {
                return Err((work, worker));
            }
            let before = worker.and_then(|worker| inside.worker.replace(worker));
            Ok((inside.put_work(work), before))
        });
        drop(put.map_err(|(work, _)| work)?);
        Ok(())
    }

    /// Hands the answer to the caller. Returns the `worker` of [`put_work`](Self::put_work). `Err`
    /// if the caller has gone.
    #[inline(always)]
    pub(super) fn answer(&self, answer: A) -> Result<Option<Waker>, A> {
        // The tombstone in the queue must not keep the task of the call, answered or not.
        let put = self.inside.with(|inside| {
            if self.is_abandoned() {
                return Err((answer, inside.worker.take()));
            }
            let before = inside.put_answer(answer);
            self.is_answered.store(true, Release);
            Ok((inside.caller.take(), inside.worker.take(), before))
        });
        let (caller, worker, before) = put.map_err(|(answer, _)| answer)?;
        if let Some(caller) = caller {
            // The answering task must not see the panic of a waker.
            contain(|| caller.wake());
        }
        drop(before);
        Ok(worker)
    }

    /// Polls for the answer, for the caller. Cancel safe.
    #[inline(always)]
    pub(super) fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<A> {
        self.poll_for(Inside::take_answer, |inside| &mut inside.caller, cx)
    }

    /// Polls for the answer of a direct call, for the caller. Cancel safe.
    #[inline(always)]
    pub(super) fn poll_direct(&self, cx: &mut Context<'_>) -> Poll<A> {
        // Mostly the task is idle by the time of the answer. One look is enough.
        if self.is_at(Stage::InHand) {
            let waker = cx.waker().clone();
            return self.wait_for(Inside::take_answer, |inside| &mut inside.caller, waker);
        }
        self.poll_answer(cx)
    }

    /// Records that the caller has gone. If `gives_up`, ends the exchange, and returns the content
    /// for the caller to end.
    #[inline(always)]
    pub(super) fn abandon(&self, gives_up: bool) -> Left<Q, W> {
        let (content, worker, caller) = self.inside.with(|inside| {
            self.is_abandoned.store(true, Release);
            let caller = inside.caller.take();
            if !gives_up {
                let answer = inside.take_answer().map(Some);
                return (answer.map_or(Content::Nothing, Content::Answer), None, caller);
            }
            self.set(Stage::Gone);
            (inside.take(), inside.worker.take(), caller)
        });
        // A panic here would leave the task of the call asleep for good.
        drop_waker(caller);
        match content {
            Content::Request(Some(request)) => Left::Request(request),
            Content::Work(Some(work)) => {
                Left::Work(work, worker.filter(|_| !is_planted(Fault::WorkerNotTold)))
            }
            _ => Left::Nothing,
        }
    }

    /// Leaves the mark of a husk, after the caller has taken the work.
    pub(super) fn leave(&self, husk: Husk) {
        let before = self.inside.with(|inside| inside.put_husk(husk));
        drop(before);
    }

    /// Returns the work, after the caller has given up: the task has to end the work.
    pub(super) fn return_work(&self, work: W) {
        let before = self.inside.with(|inside| inside.put_work(work));
        drop(before);
    }

    /// Returns whether the caller has given up.
    #[inline]
    pub(super) fn is_given_up(&self) -> bool {
        self.is_at(Stage::Gone)
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Acquire)
    }

    /// Polls with `find`. Until `find` returns a value, the waker of `cx` lies in `place`.
    #[inline(always)]
    fn poll_for<T>(
        &self,
        find: impl Fn(&mut Inside<Q, W, A>) -> Option<T>,
        place: fn(&mut Inside<Q, W, A>) -> &mut Option<Waker>,
        cx: &mut Context<'_>,
    ) -> Poll<T> {
        // Mostly a waiting request is polled once before its answer. One look is enough.
        if self.is_at(Stage::Waiting) {
            return self.wait_for(find, place, cx.waker().clone());
        }
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
        // Looks again, since the lock was free during the clone.
        self.wait_for(find, place, cx.waker().clone())
    }

    /// Looks with `find`, or else leaves the waker in `place`.
    #[inline(always)]
    fn wait_for<T>(
        &self,
        find: impl Fn(&mut Inside<Q, W, A>) -> Option<T>,
        place: fn(&mut Inside<Q, W, A>) -> &mut Option<Waker>,
        waker: Waker,
    ) -> Poll<T> {
        let (polled, before) = self.inside.with(|inside| {
            let found = if is_planted(Fault::AnswerSeenOnce) { None } else { find(inside) };
            match found {
                Some(found) => (Poll::Ready(found), Some(waker)),
                None => (Poll::Pending, place(inside).replace(waker)),
            }
        });
        drop_waker(before);
        polled
    }
}

mod inside;
#[cfg(all(test, shuttle))]
mod models;

#[cfg(test)]
mod tests;
