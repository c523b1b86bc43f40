//! The drain task: takes in, expires, dispatches.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering::SeqCst, atomic::fence},
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Core, contain, job::Dispatched, lock, state::ABSENT};
use crate::{builder::Overflow, error::Reason};

/// No more than so many requests are dispatched, or found late, before others on the same thread get
/// their turn. Tokio's own budget for such loops is 128.
const TURN: usize = 128;

/// Runs until the last layer, handle and service are gone and nothing waits.
pub(super) fn run(core: Arc<Core>) -> impl Future<Output = ()> + Send {
    // Made here and not in the task, which may be dropped before it is first polled.
    let alive = Alive(core);
    async move {
        let mut drain = Drain::new(&alive.0);
        let span = tracing::debug_span!(parent: None, "load_level", name = %alive.0.settings.name);
        poll_fn(|cx| span.in_scope(|| drain.step(cx))).await;
    }
}

/// While this lives there is a drain task. Dropped with the task's runtime, if that goes first: then
/// those who wait are answered.
struct Alive(Arc<Core>);

impl Drop for Alive {
    fn drop(&mut self) {
        let Self(core) = self;
        let waiting = core.places.counts().waiting();
        if waiting > 0 {
            tracing::warn!(name = %core.settings.name, waiting, "drain task ended with its runtime");
        }
        core.places.end_dispatching();
        core.drain.store(ABSENT, SeqCst);
        // Pairs with the fence in `Leveler::send`.
        fence(SeqCst);
        core.answer_all(Reason::Closed);
    }
}

struct Drain<'a> {
    core: &'a Arc<Core>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// How many waiting services to wake if the last ones do not take the free place. The first was
    /// woken when the place became free.
    offers: usize,
}

impl<'a> Drain<'a> {
    fn new(core: &'a Arc<Core>) -> Self {
        Self { core, sleep: None, offers: 0 }
    }

    /// Does all there is to do now, and sees to it that it will be woken for more.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Before any look at the state, so that no change after it goes unnoticed.
        self.core.signal.register(cx.waker());
        self.wake_lanes();
        let closed = self.core.backlog().take_in(cx);
        self.evict();
        self.expire(cx);
        self.dispatch(cx);
        if self.core.dismissed.load(SeqCst) {
            self.core.answer_all(Reason::Closed);
        }
        self.offer_places(cx);
        let waiting = self.core.places.counts().waiting();
        self.core.backlog().purge(waiting);
        if closed.is_ready() && waiting == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Asks those inner services again that said they may be ready.
    fn wake_lanes(&self) {
        let woken = std::mem::take(&mut *lock(&self.core.woken));
        if !woken.is_empty() {
            let mut backlog = self.core.backlog();
            woken.into_iter().for_each(|lane| backlog.wake(lane));
        }
    }

    /// Under `EvictOldest` newcomers may have passed the bound; the oldest make room.
    fn evict(&self) {
        let core = self.core;
        if core.settings.overflow != Overflow::EvictOldest {
            return;
        }
        while core.places.counts().held() > core.places.total() {
            let oldest = core.backlog().pop_oldest();
            let Some(job) = oldest else { return };
            contain(|| job.remove(Reason::Evicted));
        }
    }

    /// Answers those who are late, and sets the alarm for the next.
    fn expire(&mut self, cx: &mut Context<'_>) {
        for _ in 0..TURN {
            let (late, next) = {
                let mut backlog = self.core.backlog();
                let late = backlog.next_late().and_then(|_| backlog.pop_late(Instant::now()));
                (late, backlog.next_late())
            };
            if let Some(job) = late {
                let reason = job.late().map_or(Reason::MaxWait, |late| late.reason);
                contain(|| job.remove(reason));
                continue;
            }
            let Some(next) = next else { return };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if sleep.deadline() != next {
                sleep.as_mut().reset(next);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return;
            }
        }
        cx.waker().wake_by_ref();
    }

    /// Dispatches as many as now fit.
    fn dispatch(&self, cx: &mut Context<'_>) {
        let core = self.core;
        let mut left = TURN;
        while left > 0 && core.places.may_dispatch() {
            let next = core.backlog().pop();
            let Some(entry) = next else { break };
            left -= 1;
            let job = &entry.item;
            let now = Instant::now();
            core.measure_rate(now);
            if let Some(late) = job.late().filter(|late| late.at <= now) {
                contain(|| job.remove(late.reason));
                continue;
            }
            match contain(|| job.dispatch(now)) {
                Some(Dispatched::Unready) => core.backlog().stall(entry),
                Some(Dispatched::NoSlot) => {
                    core.backlog().put_back(entry);
                    break;
                }
                Some(Dispatched::Ended) | None => {}
            }
        }
        if left < TURN {
            core.places.end_dispatching();
        }
        if left == 0 {
            cx.waker().wake_by_ref();
        } else if core.places.counts().waiting() == 0 {
            core.on_queue_empty();
        }
    }

    /// Wakes services that wait for a place, until one takes it or all have been woken.
    fn offer_places(&mut self, cx: &mut Context<'_>) {
        let Core { settings, places, waiters, .. } = &**self.core;
        let free = places.counts().held() < places.total();
        if settings.overflow != Overflow::Wait || waiters.is_empty() || !free {
            self.offers = 0;
            return;
        }
        waiters.wake_some(self.offers);
        self.offers = self.offers.saturating_mul(2).max(1);
        cx.waker().wake_by_ref();
    }
}
