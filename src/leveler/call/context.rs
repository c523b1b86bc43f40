use std::mem;

use tracing::{
    Dispatch, Span,
    dispatcher::{self, DefaultGuard},
    level_filters::LevelFilter,
    span,
};

use crate::leveler::{
    core::Core,
    nesting::{LevelerId, Lineage, Scope},
    panics::contain,
};

/// The surroundings of the inner's code for a call, wherever it runs (laws 14 and 18): captured
/// when the call is made, and entered around the inner's `poll_ready`, `call` and every poll.
#[derive(Debug)]
pub(crate) struct CallContext {
    /// `None` without a span and without a dispatcher. Boxed, since a running call is moved several
    /// times.
    tracing: Option<Box<Tracing>>,
    leveler: LevelerId,
    lineage: Lineage,
}

#[derive(Debug)]
struct Tracing {
    span: Span,
    /// The caller's dispatcher, if asked for.
    dispatcher: Option<Dispatch>,
}

/// Contains a subscriber's panic when a span is closed: a context is dropped together with requests
/// and rights, and a panic in between may leak them.
impl Drop for Tracing {
    fn drop(&mut self) {
        let (span, dispatcher) = (mem::replace(&mut self.span, Span::none()), &mut self.dispatcher);
        contain(|| drop(span));
        contain(|| drop(dispatcher.take()));
    }
}

/// An entered context. Left in `Drop`.
pub(crate) struct Entered<'a> {
    // Left in this order.
    tracing: Option<EnteredTracing<'a>>,
    scope: Scope<'a>,
}

struct EnteredTracing<'a> {
    span: Option<span::Entered<'a>>,
    /// Boxed: mostly there is none.
    dispatcher: Option<Box<DefaultGuard>>,
}

/// Contains a subscriber's panic when a span is left: a call may have been made, with its future on
/// the way to a guard.
impl Drop for EnteredTracing<'_> {
    fn drop(&mut self) {
        let Self { span, dispatcher } = self;
        contain(|| drop(span.take()));
        contain(|| drop(dispatcher.take()));
    }
}

impl CallContext {
    /// Captures the context of a call made right now on this thread.
    #[inline]
    pub(crate) fn capture(core: &Core) -> Self {
        // If no subscriber listens, there is nothing to carry. The check is one atomic load.
        let is_off = LevelFilter::current() == LevelFilter::OFF;
        let tracing = if is_off { None } else { Tracing::capture(core) };
        let leveler = core.id();
        Self { tracing, leveler, lineage: Lineage::of_call(leveler) }
    }

    /// Enters the context to run the inner's future.
    #[inline(always)]
    pub(crate) fn enter(&mut self) -> Entered<'_> {
        let scope = Scope::of_poll(self.leveler, &mut self.lineage);
        Entered::new(self.tracing.as_deref(), scope)
    }

    /// Enters the context to poll the inner for readiness, and to call it.
    #[inline(always)]
    pub(crate) fn enter_call(&mut self) -> Entered<'_> {
        let scope = Scope::of_call(self.leveler, &mut self.lineage);
        Entered::new(self.tracing.as_deref(), scope)
    }

    /// Returns whether a running call of the same leveler has led to the present call.
    #[inline]
    pub(crate) fn is_nested(&self) -> bool {
        self.lineage.is_nested_in(self.leveler)
    }
}

impl Tracing {
    fn capture(core: &Core) -> Option<Box<Self>> {
        let span = Span::current();
        let carries = core.settings.carry_dispatcher;
        let dispatcher = carries.then(|| dispatcher::get_default(Clone::clone));
        let is_empty = span.is_none() && dispatcher.is_none();
        (!is_empty).then(|| Box::new(Self { span, dispatcher }))
    }

    #[inline(never)]
    fn enter(&self) -> EnteredTracing<'_> {
        // The dispatcher first: the subscriber of the span may look at the current one.
        let dispatcher = self.dispatcher.as_ref().map(dispatcher::set_default).map(Box::new);
        EnteredTracing { span: Some(self.span.enter()), dispatcher }
    }
}

impl<'a> Entered<'a> {
    #[inline(always)]
    fn new(tracing: Option<&'a Tracing>, scope: Scope<'a>) -> Self {
        Self { tracing: tracing.map(Tracing::enter), scope }
    }

    /// Leaves the context. The same as a drop, inline.
    #[inline(always)]
    pub(crate) fn leave(self) {
        let Self { tracing, scope } = self;
        if tracing.is_some() {
            drop(tracing);
        } else {
            mem::forget(tracing);
        }
        drop(scope);
    }
}
