use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::leveler::core::Core;

/// The time between two ticks. Short beside the second or so of an algorithm's decision, and no
/// load: each tick costs a microsecond.
const TICK: Duration = Duration::from_millis(10);

/// Ticks for the limit algorithm, while anything runs or waits.
///
/// The ticker stops at the first tick with nothing running or waiting. The timer thus fires once
/// after the end, however often a leveler turns idle and busy in between.
#[derive(Default)]
pub(super) struct Ticker {
    /// Kept while off, to reuse the memory.
    timer: Option<Pin<Box<Sleep>>>,
    is_on: bool,
    report: LimitReport,
}

impl Ticker {
    /// Ticks if due, and arranges the next tick. Returns whether a tick was due.
    pub(super) fn poll(&mut self, core: &Core, cx: &mut Context<'_>) -> bool {
        if !core.limiter.is_adaptive() {
            // A fixed limit, or fixed from now on.
            self.timer = None;
            self.report.on_idle(core);
            core.limiter.end_wanting_ticks();
            return false;
        }
        let is_time = match &mut self.timer {
            Some(timer) if self.is_on => match timer.as_mut().poll(cx) {
                Poll::Ready(()) => true,
                Poll::Pending => return false,
            },
            _ => false,
        };
        self.is_on = core.needs_ticks();
        if !self.is_on {
            self.report.on_idle(core);
            return false;
        }
        let now = Instant::now();
        if is_time {
            core.on_tick(now);
        }
        let next = now + TICK;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
        timer.as_mut().reset(next);
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        is_time
    }

    /// Takes note, after a tick and a dispatch, whether requests still wait for slots alone.
    pub(super) fn on_dispatched(&mut self, core: &Core, waits_for_slots: bool) {
        self.report.on_tick(core, waits_for_slots);
    }
}

/// Tells an operator when an adaptive limit begins to hold requests back for more than a moment,
/// and when the limit ceases to.
#[derive(Default)]
struct LimitReport {
    /// The recent share of ticks with requests waiting for slots.
    share: f64,
    is_on: bool,
}

impl LimitReport {
    /// The share of ticks above which the event is logged. Below `OFF`, the end is logged. Bursts
    /// pass without a word, and a queue empty now and then is no end. Either change takes about a
    /// second.
    const ON: f64 = 0.9;
    const OFF: f64 = 0.1;

    /// The weight of a tick. Ticks of half a second ago weigh a third.
    const WEIGHT: f64 = 0.02;

    fn on_tick(&mut self, core: &Core, waits_for_slots: bool) {
        let now = f64::from(u8::from(waits_for_slots));
        self.share += Self::WEIGHT * (now - self.share);
        if !self.is_on && self.share > Self::ON {
            self.is_on = true;
            let (name, limit, queued) =
                (&*core.settings.name, core.admission.limit(), core.admission.occupancy.queued());
            tracing::info!(%name, limit, queued, "limit holds requests back");
        } else if self.share < Self::OFF {
            self.end(core);
        }
    }

    /// Takes note that the leveler is idle.
    fn on_idle(&mut self, core: &Core) {
        self.share = 0.0;
        self.end(core);
    }

    fn end(&mut self, core: &Core) {
        if std::mem::take(&mut self.is_on) {
            let (name, limit) = (&*core.settings.name, core.admission.limit());
            tracing::info!(%name, limit, "limit holds no requests back any more");
        }
    }
}
