//! The stream of server-sent events: a document for each sample.
//!
//! A stream ends by itself, so that an open page holds up no shutdown: at once when all levelers or
//! the dashboard are closed, and otherwise after ten seconds. The page comes back and gets only the
//! newer samples.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::futures::OwnedNotified,
    time::{Instant, Sleep},
};

use crate::{
    document::{Samples, document},
    shared::Shared,
    timer::timer,
    viewers::Viewer,
};

/// The longest life of a stream, and so the longest wait of a graceful shutdown.
pub(crate) const LIFE: Duration = Duration::from_secs(10);

/// Tells the browser to come back a second after a broken connection: a restarting server is not
/// hurried.
const RETRY: &str = "retry: 1000\n\n";

/// Tells the browser to come back soon: the stream ends by itself.
const RETRY_SOON: &str = "retry: 100\n\n";

pub(crate) struct Events {
    shared: Arc<Shared>,
    _viewer: Viewer,
    /// The number of the newest sample sent.
    sent: u64,
    stage: Stage,
    news: Pin<Box<OwnedNotified>>,
    /// `None` on a runtime without timers.
    end: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Open,
    Over,
}

impl Events {
    /// Begins a stream of samples after the one with the number `sent`.
    pub(crate) fn new(shared: Arc<Shared>, viewer: Viewer, sent: u64) -> Self {
        let news = Box::pin(shared.news());
        let end = timer(Instant::now() + LIFE);
        Self { shared, _viewer: viewer, sent, stage: Stage::Begin, news, end }
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.stage == Stage::Over {
            return Poll::Ready(None);
        }
        if self.stage == Stage::Begin {
            self.stage = Stage::Open;
            return Poll::Ready(Some(format!("{RETRY}{}", self.event()).into()));
        }
        loop {
            let is_last = self.shared.is_closed() || self.shared.is_over();
            if is_last {
                self.stage = Stage::Over;
                // For the word that the page shows last.
                self.shared.look();
            }
            if self.shared.newest() > self.sent {
                return Poll::Ready(Some(self.event().into()));
            }
            if is_last {
                return Poll::Ready(None);
            }
            let end = self.end.as_mut().map(|end| end.as_mut().poll(cx));
            if end.is_some_and(|end| end.is_ready()) {
                self.stage = Stage::Over;
                return Poll::Ready(Some(RETRY_SOON.into()));
            }
            if self.news.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // Before the next look at what there is, so that nothing falls between.
            self.news.set(self.shared.news());
        }
    }

    /// Makes an event of all samples not sent yet.
    fn event(&mut self) -> String {
        let newest = self.shared.newest();
        let data = document(&self.shared, Samples::After(self.sent));
        self.sent = newest;
        format!("id: {:x}-{newest}\ndata: {data}\n\n", self.shared.run())
    }
}

/// Reads the id of the last event that a browser has seen. Returns the number of the event's newest
/// sample, or 0 for an event of another process.
pub(crate) fn last_seen(id: &str, run: u64) -> u64 {
    let parts = id.split_once('-').filter(|(of, _)| u64::from_str_radix(of, 16) == Ok(run));
    parts.and_then(|(_, newest)| newest.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_process_or_of_nobody_counts_as_nothing_seen() {
        assert_eq!(last_seen("1f-12", 0x1f), 12);
        for id in ["1e-12", "12", "", "1f-", "1f--1", "1f-99999999999999999999", "x-1"] {
            assert_eq!(last_seen(id, 0x1f), 0, "{id}");
        }
    }
}
