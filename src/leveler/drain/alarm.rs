use std::{pin::Pin, task::Context};

use tokio::time::{Instant, Sleep, sleep_until};

/// The one timer of the drain task, beside its ticker.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// Kept for its memory while it is off.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Has the task woken at this instant.
    pub(super) fn set(&mut self, at: Instant, cx: &mut Context<'_>) {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        if sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
