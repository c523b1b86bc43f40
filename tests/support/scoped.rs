//! Subscribers of one test among others of its process.

use std::sync::OnceLock;

use tracing::{Dispatch, Subscriber, subscriber::DefaultGuard};

/// Makes it the subscriber of this thread, until the guard is dropped.
pub fn subscriber(subscriber: impl Into<Dispatch>) -> DefaultGuard {
    keep_two();
    tracing::dispatcher::set_default(&subscriber.into())
}

/// Keeps two subscribers for as long as the process lives.
///
/// `tracing` remembers for each event whether a subscriber wants it. While only one subscriber
/// exists, `tracing` asks the subscriber of the thread that comes to the event first, which may be
/// a thread without one: then the event is off for all threads. With two or more `tracing` asks
/// all of them.
pub fn keep_two() {
    static KEPT: OnceLock<[Dispatch; 2]> = OnceLock::new();
    KEPT.get_or_init(|| [Dispatch::new(Wants), Dispatch::new(Wants)]);
}

/// Wants every event, and does nothing with any.
struct Wants;

impl Subscriber for Wants {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        tracing::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, _: &tracing::Id) {}

    fn exit(&self, _: &tracing::Id) {}
}
