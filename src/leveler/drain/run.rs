use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{
    alarm::Alarm,
    bury::bury,
    dispatch::{Dispatcher, waits_for_slots},
    evict::evict,
    expire::expire,
    intake::Intake,
    offers::Offers,
    ticks::Ticker,
};
use crate::{
    error::Reason,
    leveler::{core::Core, panics::contain},
    sync::{
        atomic::{Ordering::SeqCst, fence},
        fault::{Fault, is_planted},
    },
};

/// Runs until the last layer, handle and service are gone and nothing waits.
pub(super) fn run(core: Arc<Core>) -> impl Future<Output = ()> + Send {
    // Made outside of the task, since a runtime may drop the task before the first poll.
    let alive = Alive(core);
    async move {
        let mut drain = Drain::new(&alive.0);
        let span = tracing::debug_span!(parent: None, "load_level", name = %alive.0.settings.name);
        poll_fn(|cx| span.in_scope(|| drain.poll(cx))).await;
    }
}

/// The life of the drain task. If the runtime goes first, the waiting requests are answered.
struct Alive(Arc<Core>);

impl Drop for Alive {
    fn drop(&mut self) {
        let Self(core) = self;
        let waiting = core.counts().waiting();
        core.admission.end_dispatching();
        let is_late = is_planted(Fault::DeathToldLate);
        if !is_late {
            core.link.end();
        }
        // Pairs with the fence in `Leveler::send`.
        fence(SeqCst);
        core.link.remove_all(Reason::Closed);
        if is_late {
            core.link.end();
        }
        if waiting > 0 {
            let name = &*core.settings.name;
            // Contained, since a second panic while one unwinds would end the process.
            contain(|| tracing::warn!(%name, waiting, "drain task ended with its runtime"));
        }
    }
}

struct Drain<'a> {
    core: &'a Core,
    intake: Intake,
    ticker: Ticker,
    dispatcher: Dispatcher,
    offers: Offers,
    alarm: Alarm,
    /// The last reading of the clock.
    now: Instant,
}

impl<'a> Drain<'a> {
    fn new(core: &'a Core) -> Self {
        let now = Instant::now();
        Self {
            core,
            intake: Intake::default(),
            ticker: Ticker::default(),
            dispatcher: Dispatcher::new(core, now),
            offers: Offers::default(),
            alarm: Alarm::default(),
            now,
        }
    }

    /// Does all work due now, and arranges the next wake-up.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let core = self.core;
        // Before any read of the state, so no later change goes unnoticed.
        core.admission.listeners.drain.register(cx.waker());
        let found = self.intake.take(&core.link, cx);
        // Before the dispatch, since a tick may raise the limit.
        let ticked = self.ticker.poll(core, cx);
        bury(core);
        evict(core);
        if found.has_late {
            expire(core, &mut self.now, cx);
        }
        let due = self.dispatcher.dispatch(core, &mut self.now, cx);
        if ticked {
            self.ticker.on_dispatched(core, waits_for_slots(core, due));
        }
        if core.link.is_dismissed() {
            core.link.remove_all(Reason::Closed);
        }
        self.offers.make(&core.admission, cx);
        let waiting = core.counts().waiting();
        let late = self.tidy();
        if let Some(next) = late.into_iter().chain(due).min() {
            self.alarm.set(next, cx);
        }
        if found.is_closed && waiting == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Purges the queue, and publishes a summary. Returns the time when the next request is late.
    fn tidy(&mut self) -> Option<Instant> {
        let occupancy = &self.core.admission.occupancy;
        let waiting = occupancy.queued();
        let before = occupancy.departed();
        let mut backlog = self.core.link.backlog();
        if let Some(summaries) = backlog.queue.summaries(&before.gone) {
            occupancy.publish(summaries, &before);
        }
        backlog.queue.purge(waiting);
        backlog.queue.look_for_oldest(waiting, self.dispatcher.is_busy);
        let late = backlog.queue.next_late();
        drop(backlog);
        self.dispatcher.look_back(self.core, waiting, self.now);
        late
    }
}

#[cfg(all(test, shuttle))]
mod models;
