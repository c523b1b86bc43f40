//! The part of an exchange behind the lock.

use std::{mem, task::Waker};

use crate::leveler::husks::Husk;

#[derive(Debug)]
pub(super) struct Inside<Q, W, A> {
    pub(super) content: Content<Q, W, A>,
    pub(super) caller: Option<Waker>,
    pub(super) worker: Option<Waker>,
}

#[derive(Debug)]
pub(super) enum Content<Q, W, A> {
    Request(Q),
    Nothing,
    Work(W),
    Answer(A),
    /// The caller has ended the work. The task finds nothing.
    Husk(#[allow(dead_code, reason = "its drop counts")] Husk),
}

impl<Q, W, A> Inside<Q, W, A> {
    /// Puts the content in. Returns the former content: nothing, unless there is a bug. Boxed,
    /// since the content may be large.
    #[inline(always)]
    pub(super) fn put(&mut self, content: Content<Q, W, A>) -> Option<Box<Content<Q, W, A>>> {
        if matches!(self.content, Content::Nothing) {
            self.content = content;
            return None;
        }
        Some(self.replace(content))
    }

    #[cold]
    fn replace(&mut self, content: Content<Q, W, A>) -> Box<Content<Q, W, A>> {
        Box::new(mem::replace(&mut self.content, content))
    }

    #[inline(always)]
    pub(super) fn take(&mut self) -> Content<Q, W, A> {
        mem::replace(&mut self.content, Content::Nothing)
    }

    #[inline(always)]
    pub(super) fn take_request_if(&mut self, is_taken: impl FnOnce(&Q) -> bool) -> Option<Q> {
        // Look first, since the content may be large.
        if !matches!(&self.content, Content::Request(request) if is_taken(request)) {
            return None;
        }
        match self.take() {
            Content::Request(request) => Some(request),
            _ => None,
        }
    }

    #[inline(always)]
    pub(super) fn take_work(&mut self) -> Option<W> {
        if !matches!(self.content, Content::Work(_)) {
            return None;
        }
        match self.take() {
            Content::Work(work) => Some(work),
            _ => None,
        }
    }

    #[inline(always)]
    pub(super) fn take_answer(&mut self) -> Option<A> {
        if !matches!(self.content, Content::Answer(_)) {
            return None;
        }
        match self.take() {
            Content::Answer(answer) => Some(answer),
            _ => None,
        }
    }
}
