use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::leveler::{
    core::Core,
    link::drained::{Drained, LimitChange, LimitReport},
    panics::contain,
};

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
}

impl Ticker {
    /// Ticks if due, and arranges the next tick. Returns whether a tick was due.
    pub(super) fn poll(
        &mut self,
        core: &Core,
        report: &mut LimitReport,
        cx: &mut Context<'_>,
    ) -> bool {
        if !core.limiter.is_adaptive() {
            // A fixed limit, or fixed from now on.
            self.timer = None;
            log(core, report.on_idle());
            core.limiter.end_wanting_ticks();
            core.link.ticked.set(None);
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
            log(core, report.on_idle());
            core.link.ticked.set(None);
            return false;
        }
        let now = Instant::now();
        if is_time {
            core.on_tick(now);
        }
        core.link.ticked.set(Some(now));
        let next = now + TICK;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
        timer.as_mut().reset(next);
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        is_time
    }

    /// Takes note, after a tick and a dispatch, whether requests still wait for slots alone.
    pub(super) fn on_dispatched(&self, core: &Core, drained: &mut Drained, waits_for_slots: bool) {
        log(core, drained.limit_report.on_tick(waits_for_slots));
    }
}

/// Logs for an operator that an adaptive limit begins or ceases to hold requests back.
fn log(core: &Core, change: Option<LimitChange>) {
    let Some(change) = change else { return };
    let (name, limit) = (&*core.settings.name, core.admission.limit());
    contain(|| match change {
        LimitChange::Holds => {
            let queued = core.admission.occupancy.queued();
            tracing::info!(%name, limit, queued, "limit holds requests back");
        }
        LimitChange::HoldsNoMore => {
            tracing::info!(%name, limit, "limit holds no requests back any more");
        }
    });
}
