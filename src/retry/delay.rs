//! The time between two attempts.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::sleep;

use crate::leveler::timer::Timer;

/// Resolves when it is time for the next attempt. Made by [`RetryPolicy`](super::RetryPolicy).
///
/// # Cancel safety
///
/// Dropping the future has no effect.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct RetryDelay {
    timer: Timer,
}

impl RetryDelay {
    pub(super) fn new(delay: Duration) -> Self {
        Self { timer: Timer::new(sleep(delay)) }
    }
}

impl Future for RetryDelay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(cx)
    }
}
