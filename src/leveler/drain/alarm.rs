use std::{pin::Pin, task::Context};

use tokio::time::{Instant, Sleep, sleep_until};

/// The only timer of the drain task, apart from the ticker.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// Kept while off, to reuse the memory.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Wakes the task at the instant `at`.
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
