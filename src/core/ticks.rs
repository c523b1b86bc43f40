use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::Core;

/// Short beside the second or so in which an algorithm decides something, and no load: each costs a
/// microsecond.
const TICK: Duration = Duration::from_millis(10);

/// Ticks for the algorithm that finds the limit, while anything runs or waits.
///
/// Its timer is on or off. It goes off when it fires and there is nothing to do any more, so it fires once
/// after the end, however often a leveler turns idle and busy in between.
#[derive(Default)]
pub(super) struct Ticker {
    /// Kept for its memory while it is off.
    timer: Option<Pin<Box<Sleep>>>,
    is_on: bool,
}

impl Ticker {
    /// Ticks when it is time, and sees to it that the task is woken for the next one.
    pub(super) fn poll(&mut self, core: &Core, cx: &mut Context<'_>) {
        if !core.is_adaptive() {
            // A fixed limit, or fixed from now on.
            self.timer = None;
            core.end_wanting_ticks();
            return;
        }
        let is_time = match &mut self.timer {
            Some(timer) if self.is_on => match timer.as_mut().poll(cx) {
                Poll::Ready(()) => true,
                Poll::Pending => return,
            },
            _ => false,
        };
        self.is_on = core.needs_ticks();
        if !self.is_on {
            return;
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
    }
}
