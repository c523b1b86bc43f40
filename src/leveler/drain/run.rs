use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    alarm::Alarm,
    bury::bury,
    dispatch::{Dispatcher, waits_for_slots},
    evict::evict,
    expire::expire,
    intake,
    lookout::Lookout,
    nested,
    offers::Offers,
    ticks::Ticker,
};
use crate::{
    error::Reason,
    leveler::{
        core::Core,
        link::{drained::Drained, seat::Generation},
        panics::contain,
    },
    sync::fault::{Fault, is_planted},
};

/// Runs until the last layer, handle and service are gone and nothing waits, or until the next
/// generation has taken the seat. In the second case returns the core.
pub(super) fn run(
    core: Arc<Core>,
    generation: Generation,
) -> impl Future<Output = Option<Arc<Core>>> + Send {
    // Made outside of the task, since a runtime may drop the task before the first poll.
    let seated = Seated { core, generation };
    async move {
        let mut drain = Drain::new(&seated);
        let name = &seated.core.settings.name;
        let span = contain(|| tracing::debug_span!(parent: None, "load_level", %name));
        let span = span.filter(|span| !span.is_disabled());
        let is_replaced = poll_fn(|cx| {
            // A subscriber's panic at either end must not keep requests from being served.
            let entered = span.as_ref().and_then(|span| contain(|| span.enter()));
            let polled = drain.poll(cx);
            if entered.is_some() {
                contain(|| drop(entered));
            }
            polled
        });
        let is_replaced = is_replaced.await;
        is_replaced.then(|| Arc::clone(&seated.core))
    }
}

/// The life of a generation of the drain task. If the runtime goes first, the waiting requests are
/// answered.
struct Seated {
    core: Arc<Core>,
    generation: Generation,
}

impl Drop for Seated {
    fn drop(&mut self) {
        let Self { core, generation } = self;
        let waiting = core.counts().waiting();
        if !core.link.seat.is_held_by(*generation) {
            // The next generation drains.
            return;
        }
        let is_late = is_planted(Fault::DeathToldLate);
        if !is_late && !core.link.seat.end(*generation) {
            return;
        }
        core.link.remove_all(Reason::Closed);
        if is_late {
            core.link.seat.end(*generation);
        }
        if waiting > 0 {
            let name = &*core.settings.name;
            // Contained, since a second panic while one unwinds would end the process.
            contain(|| tracing::warn!(%name, waiting, "drain task ended with its runtime"));
        }
    }
}

/// A generation of the drain task, with its timers.
struct Drain<'a> {
    core: &'a Arc<Core>,
    generation: Generation,
    ticker: Ticker,
    offers: Offers,
    alarm: Alarm,
    lookout: Lookout,
}

impl<'a> Drain<'a> {
    fn new(seated: &'a Seated) -> Self {
        let Seated { core, generation } = seated;
        let (ticker, offers, alarm) = (Ticker::default(), Offers::default(), Alarm::default());
        let (generation, lookout) = (*generation, Lookout::default());
        Self { core, generation, ticker, offers, alarm, lookout }
    }

    /// Does all work due now, and arranges the next wake-up. At the end returns whether another
    /// generation has taken the seat.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let core = self.core;
        let taken = core.link.seat.take(self.generation, || Box::new(Drained::new(core.pacing())));
        let Some(mut taken) = taken else { return Poll::Ready(true) };
        let Some(drained) = taken.get() else { return Poll::Pending };
        // Before any read of the state, so no later change goes unnoticed.
        core.admission.listeners.drain.register(cx.waker());
        let found = intake::take(core, drained);
        // Before the dispatch, since a tick may raise the limit.
        let ticked = self.ticker.poll(core, &mut drained.limit_report, cx);
        bury(core);
        evict(core);
        intake::take_rights(core);
        if found.has_late && expire(core, &mut drained.now) {
            cx.waker().wake_by_ref();
        }
        let stop = Dispatcher::new(drained).dispatch(core, found.handed_on, cx);
        nested::refuse(core, drained, stop, cx);
        let due = stop.due();
        if ticked {
            self.ticker.on_dispatched(core, drained, waits_for_slots(core, due));
        }
        if core.link.is_dismissed() {
            core.link.remove_all(Reason::Closed);
        }
        self.offers.make(&core.admission, cx);
        let waiting = core.counts().waiting();
        let late = tidy(core, drained);
        if let Some(next) = late.into_iter().chain(due).min() {
            self.alarm.set(next, cx);
        }
        self.lookout.poll(core, drained, waiting, cx);
        if found.is_closed && waiting == 0 { Poll::Ready(false) } else { Poll::Pending }
    }
}

/// Purges the queue, and publishes a summary. Returns the time when the next request is late.
fn tidy(core: &Core, drained: &mut Drained) -> Option<tokio::time::Instant> {
    let occupancy = &core.admission.occupancy;
    let waiting = occupancy.queued();
    // Only a full queue makes a flow give way, so the longest is looked for once half of the places
    // are held. A burst that takes the other half within one turn finds no flow to give way.
    let is_filling = core.counts().held() >= core.admission.total() / 2;
    let mut backlog = core.link.backlog();
    if backlog.queue.has_summaries() {
        let before = occupancy.departed();
        if let Some(summaries) = backlog.queue.summaries(&before.gone, is_filling) {
            occupancy.publish(summaries, &before);
        }
        // Flows change only once a request with a flow has come.
        let flow_limit = &core.admission.flow_limit;
        backlog.queue.take_flow_changes(|flow, is_full| flow_limit.on_changed(flow, is_full));
    }
    backlog.queue.purge(waiting);
    backlog.queue.look_for_oldest(waiting, drained.is_busy);
    let late = backlog.set_next_look();
    drop(backlog);
    drained.has_late = late.is_some();
    let sheds = drained.window.look(&core.admission.shedder, || occupancy.eligible(), drained.now);
    if let Some(sheds) = sheds.and_then(|sheds| drained.sheds.look(sheds, drained.now)) {
        let name = &*core.settings.name;
        contain(|| tracing::info!(%name, sheds, "lower priorities are refused"));
    }
    late
}

#[cfg(all(test, shuttle))]
pub(super) mod models;
