//! A subscriber of `tracing` that panics now and then.

use std::{cell::RefCell, mem::forget, panic::resume_unwind, sync::OnceLock, thread};

use tracing::{Event, Metadata, Subscriber, span};
use tracing_core::span::Current;

use crate::{inner::Meant, rng::Rng};

struct Rough;

thread_local! {
    static RNG: RefCell<Rng> = RefCell::new(Rng::new(thread::current().id()));
}

/// What is known of the one span. All calls are made in it.
static SPAN: OnceLock<&'static Metadata<'static>> = OnceLock::new();

/// Makes it the subscriber of this thread, for good.
pub(crate) fn set() {
    forget(tracing::subscriber::set_default(Rough));
    forget(tracing::info_span!("caller"));
}

fn maybe_panic() {
    if !thread::panicking() && RNG.with_borrow_mut(|rng| rng.one_in(2000)) {
        resume_unwind(Box::new(Meant));
    }
}

impl Subscriber for Rough {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn current_span(&self) -> Current {
        match SPAN.get() {
            Some(metadata) => Current::new(span::Id::from_u64(1), metadata),
            None => Current::none(),
        }
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        SPAN.get_or_init(|| span.metadata());
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        maybe_panic();
    }

    fn enter(&self, _: &span::Id) {
        maybe_panic();
    }

    fn exit(&self, _: &span::Id) {
        maybe_panic();
    }

    fn clone_span(&self, id: &span::Id) -> span::Id {
        maybe_panic();
        id.clone()
    }

    fn try_close(&self, _: span::Id) -> bool {
        maybe_panic();
        true
    }
}
