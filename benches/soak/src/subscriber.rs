//! A subscriber of `tracing` that panics now and then.

use std::{cell::RefCell, mem::forget, panic::resume_unwind, thread};

use tracing::{Event, Metadata, Subscriber, span};

use crate::{inner::Meant, rng::Rng};

struct Rough;

thread_local! {
    static RNG: RefCell<Rng> = RefCell::new(Rng::new(thread::current().id()));
}

/// Makes it the subscriber of this thread, for good.
pub(crate) fn set() {
    forget(tracing::subscriber::set_default(Rough));
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

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
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

    fn exit(&self, _: &span::Id) {}
}
