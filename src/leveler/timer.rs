//! A timer for a task of the user's.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Sleep;

use super::relay::Relay;

/// A [`Sleep`] that keeps the waker of its task to itself, and gives a [`Relay`] to tokio.
///
/// Tokio wakes the tasks of its timers in batches. If a waker panics, the rest of the batch stays
/// asleep, and the runtime may end. Before 1.53.2, tokio also dropped the waker of a dropped timer
/// under the lock of all timers.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    relay: Arc<Relay>,
}

impl Timer {
    pub(crate) fn new(sleep: Sleep) -> Self {
        Self { sleep: Box::pin(sleep), relay: Arc::default() }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let relay = self.relay.to(cx.waker());
        self.sleep.as_mut().poll(&mut Context::from_waker(&relay))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.relay.end();
    }
}
