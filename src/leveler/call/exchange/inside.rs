//! The part of an exchange behind the lock.

use std::{mem, task::Waker};

use crate::leveler::husks::Husk;

#[derive(Debug)]
pub(super) struct Inside<Q, W, A> {
    pub(super) content: Content<Q, W, A>,
    pub(super) caller: Option<Waker>,
    pub(super) worker: Option<Waker>,
}

/// The request, the work or the answer of a call. Each an `Option`, to be taken out in place, and
/// always `Some` in between.
#[derive(Debug)]
pub(super) enum Content<Q, W, A> {
    Request(Option<Q>),
    Nothing,
    Work(Option<W>),
    Answer(Option<A>),
    /// The caller has ended the work. The task finds nothing.
    Husk(#[allow(dead_code, reason = "its drop counts")] Husk),
}

/// The content before a change. Boxed, since it may be large.
pub(super) type Former<Q, W, A> = Option<Box<Content<Q, W, A>>>;

impl<Q, W, A> Inside<Q, W, A> {
    /// Puts the request in. This, and the other ways to put content in, return the former content:
    /// nothing, unless there is a bug.
    #[inline(always)]
    pub(super) fn put_request(&mut self, request: Q) -> Former<Q, W, A> {
        let former = self.clear();
        self.set(Content::Request(Some(request)));
        former
    }

    #[inline(always)]
    pub(super) fn put_work(&mut self, work: W) -> Former<Q, W, A> {
        let former = self.clear();
        self.set(Content::Work(Some(work)));
        former
    }

    #[inline(always)]
    pub(super) fn put_answer(&mut self, answer: A) -> Former<Q, W, A> {
        let former = self.clear();
        self.set(Content::Answer(Some(answer)));
        former
    }

    pub(super) fn put_husk(&mut self, husk: Husk) -> Former<Q, W, A> {
        let former = self.clear();
        self.set(Content::Husk(husk));
        former
    }

    /// Changes the content, of which nothing is left to drop: the compiler does not know, and would
    /// look.
    #[inline(always)]
    pub(super) fn set(&mut self, content: Content<Q, W, A>) {
        mem::forget(mem::replace(&mut self.content, content));
    }

    #[inline(always)]
    fn clear(&mut self) -> Former<Q, W, A> {
        if matches!(self.content, Content::Nothing) { None } else { Some(self.remove()) }
    }

    #[cold]
    fn remove(&mut self) -> Box<Content<Q, W, A>> {
        Box::new(self.take())
    }

    pub(super) fn take(&mut self) -> Content<Q, W, A> {
        mem::replace(&mut self.content, Content::Nothing)
    }

    // The three below move out no more than they take, since the content may be large.

    #[inline(always)]
    pub(super) fn take_request_if(&mut self, is_taken: impl FnOnce(&Q) -> bool) -> Option<Q> {
        let Content::Request(request) = &mut self.content else { return None };
        let request = request.take_if(|request| is_taken(request))?;
        self.set(Content::Nothing);
        Some(request)
    }

    #[inline(always)]
    pub(super) fn take_work(&mut self) -> Option<W> {
        let Content::Work(work) = &mut self.content else { return None };
        let work = work.take();
        self.set(Content::Nothing);
        work
    }

    #[inline(always)]
    pub(super) fn take_answer(&mut self) -> Option<A> {
        let Content::Answer(answer) = &mut self.content else { return None };
        let answer = answer.take();
        self.set(Content::Nothing);
        answer
    }
}
