//! The time between two attempts.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

pin_project! {
    /// Resolves when it is time for the next attempt. Made by [`RetryPolicy`](super::RetryPolicy).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryDelay {
        #[pin]
        sleep: Sleep,
    }
}

impl RetryDelay {
    pub(super) fn new(delay: Duration) -> Self {
        Self { sleep: sleep(delay) }
    }
}

impl Future for RetryDelay {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().sleep.poll(cx)
    }
}
