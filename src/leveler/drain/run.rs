//! The drain task: takes in, ticks, evicts, expires, dispatches.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering::SeqCst, atomic::fence},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::leveler::{
    Core, Prediction,
    backlog::Queued,
    contain,
    core::ABSENT,
    occupancy::WINDOW,
    pace::Pace,
    queued::{Dispatched, Removal},
    shedder::Cut,
    ticks::Ticker,
};
use crate::{
    error::Reason,
    options::Overflow,
    queue::{Charge, ChargeId, Entry, Next, Victim},
    rng::draw,
};

/// No more than so many requests are dispatched, or found late, before others on the same thread get
/// their turn. Tokio's own budget for such loops is 128.
const BATCH: usize = 128;

/// Runs until the last layer, handle and service are gone and nothing waits.
pub(crate) fn run(core: Arc<Core>) -> impl Future<Output = ()> + Send {
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
    /// The one timer: for who is late next, and for when the pace lets the next go.
    sleep: Option<Pin<Box<Sleep>>>,
    pace: Pace,
    ticker: Ticker,
    /// When the clock was last looked at.
    now: Instant,
    window: Window,
    /// Taken over from those who finished; kept for its memory.
    settlements: Vec<(ChargeId, Duration)>,
    /// How many waiting services to wake if the last ones do not take the free place. The first was
    /// woken when the place became free.
    offers: usize,
}

/// The time over which arrivals are compared with what is served.
struct Window {
    cut: Cut,
    began: Instant,
    /// Requests dispatched from the queue since.
    served: u64,
    /// Whether something has been waiting all the time.
    stood: bool,
}

impl<'a> Drain<'a> {
    fn new(core: &'a Arc<Core>) -> Self {
        let now = Instant::now();
        let window = Window { cut: Cut::new(), began: now, served: 0, stood: false };
        Self {
            core,
            sleep: None,
            pace: Pace::new(core.settings.rate, now),
            ticker: Ticker::default(),
            now,
            window,
            settlements: Vec::new(),
            offers: 0,
        }
    }

    /// Does all there is to do now, and sees to it that it will be woken for more.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Before any look at the state, so that no change after it goes unnoticed.
        self.core.signal.register(cx.waker());
        let (closed, is_late) = self.take_in(cx);
        // Before the dispatch, for which it may raise the limit.
        let ticked = self.ticker.poll(self.core, cx);
        self.evict();
        if is_late {
            self.expire(cx);
        }
        let next = self.dispatch(cx);
        if ticked {
            self.ticker.on_dispatched(self.core, self.waits_for_slots(next));
        }
        if self.core.dismissed.load(SeqCst) {
            self.core.answer_all(Reason::Closed);
        }
        self.offer_places(cx);
        let waiting = self.core.places.counts().waiting();
        let late = self.look_back();
        self.set_alarm(late, next, cx);
        if closed.is_ready() && waiting == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes in what others have left: what finished calls have shown that they were to be charged, which inner
    /// services say that they may be ready, and newcomers. Returns whether the channel is closed, and whether
    /// anybody may be late.
    fn take_in(&mut self, cx: &mut Context<'_>) -> (Poll<()>, bool) {
        let mut woken = BTreeSet::new();
        self.core.woken.swap(&mut woken);
        self.core.settlements.swap(&mut self.settlements);
        let mut backlog = self.core.backlog();
        self.settlements.drain(..).for_each(|(bill, time)| backlog.settle(bill, time));
        woken.into_iter().for_each(|inner| backlog.wake(inner));
        let closed = backlog.take_in(cx);
        (closed, backlog.next_late().is_some())
    }

    /// Newcomers may have passed the bound, for whom others make room.
    fn evict(&self) {
        let Core { places, settings, .. } = &**self.core;
        let over = places.take_over();
        let evicts_oldest = settings.overflow == Overflow::EvictOldest;
        let mut room = 0;
        while places.counts().held() > places.total() && (evicts_oldest || room < over) {
            let mut backlog = self.core.backlog();
            let victim = if evicts_oldest {
                backlog.pop_oldest().map(|job| (job, Reason::Evicted.into()))
            } else {
                backlog.pop_for_another().map(|victim| {
                    let Victim { entry, reason, over_share } = victim;
                    (entry.item, Removal { reason, over_share })
                })
            };
            drop(backlog);
            let Some((job, why)) = victim else {
                // They are admitted and not yet sent.
                places.return_over(over.saturating_sub(room));
                return;
            };
            room += job.rank().cost as usize;
            contain(|| job.remove(why));
        }
    }

    /// Answers those who are late.
    fn expire(&mut self, cx: &mut Context<'_>) {
        for _ in 0..BATCH {
            let late = {
                let mut backlog = self.core.backlog();
                if backlog.next_late().is_none() {
                    return;
                }
                self.now = Instant::now();
                backlog.pop_late(self.now)
            };
            let Some(job) = late else { return };
            let reason = job.late().map_or(Reason::MaxWait, |late| late.reason);
            contain(|| job.remove(reason.into()));
        }
        cx.waker().wake_by_ref();
    }

    /// Dispatches as many as now fit. Returns when the pace lets the next one go.
    fn dispatch(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        let core = self.core;
        let (mut left, mut due) = (BATCH, None);
        let times = core.estimates.times();
        while left > 0 && core.places.may_dispatch(1) {
            let now = Instant::now();
            self.now = now;
            due = self.pace.wait_until(now, self.gap());
            if due.is_some() {
                break;
            }
            let next = core.backlog().pop(now, &times);
            let Some(next) = next else { break };
            left -= 1;
            match next {
                Next::Remove(entry, reason) => drop(contain(|| entry.item.remove(reason.into()))),
                Next::Dispatch(entry, charge) => {
                    if !self.try_dispatch(entry, charge, now) {
                        break;
                    }
                }
            }
        }
        if left < BATCH {
            core.measure_rate(self.now);
            core.places.end_dispatching();
        }
        if left == 0 {
            cx.waker().wake_by_ref();
        } else if core.places.counts().waiting() == 0 {
            core.on_queue_empty();
        }
        due
    }

    /// Whether something waits after a dispatch, and for no other reason than the limit.
    fn waits_for_slots(&self, due: Option<Instant>) -> bool {
        let Core { places, settings, .. } = &**self.core;
        let by_limit = match due {
            // A limit below 1 is a pace.
            Some(_) => settings.rate.is_none(),
            None => !places.may_dispatch(1),
        };
        by_limit && self.core.queued() > 0 && !places.counts().is_paused()
    }

    /// Dispatches one, or removes it. `false` when it has to wait for a slot, and all others with it.
    fn try_dispatch(&mut self, entry: Queued, charge: Charge, now: Instant) -> bool {
        let core = self.core;
        if let Some(reason) = self.too_late(&entry, now) {
            core.backlog().refund(&charge);
            contain(|| entry.item.remove(reason.into()));
            return true;
        }
        if !core.places.may_dispatch(entry.item.cost()) {
            core.backlog().put_back(entry, &charge);
            return false;
        }
        let Entry { seq, inner, rank, admitted, item } = entry;
        let again = |item| Entry { seq, inner, rank, admitted, item };
        match contain(|| item.dispatch(now, charge.id)) {
            Some(Dispatched::Started) => self.on_called(now),
            Some(Dispatched::Panicked) => {
                self.on_called(now);
                core.backlog().keep_charge(&charge);
            }
            Some(Dispatched::Unready(item)) => core.backlog().stall(again(item), &charge),
            Some(Dispatched::NoSlot(item)) => {
                core.backlog().put_back(again(item), &charge);
                return false;
            }
            Some(Dispatched::Ended) | None => core.backlog().refund(&charge),
        }
        true
    }

    fn on_called(&mut self, now: Instant) {
        self.window.served += 1;
        let is_spaced = self.core.exact_limit() < 1.0;
        let spread = if is_spaced { 0.75 + draw() / 2.0 } else { 1.0 };
        self.pace.on_dispatched(now, spread);
    }

    /// Why it is not to be dispatched any more.
    fn too_late(&self, entry: &Queued, now: Instant) -> Option<Reason> {
        let job = &entry.item;
        if let Some(late) = job.late().filter(|late| late.at <= now) {
            return Some(late.reason);
        }
        let left = job.deadline()?.saturating_duration_since(now);
        let predicted = self.core.predict(job.predicted_by(), 0.0, left, now);
        (predicted == Prediction::TooLate).then_some(Reason::WouldMissDeadline)
    }

    /// The spacing of a limit below 1: by Little's law, the mean service time divided by the limit.
    fn gap(&self) -> Option<Duration> {
        let limit = self.core.exact_limit();
        if !(limit > 0.0 && limit < 1.0) {
            return None;
        }
        let gap = self.core.estimates.service_time()?.as_secs_f64() / limit;
        Duration::try_from_secs_f64(gap).ok()
    }

    /// Tidies up, and tells the door how the line looks. Returns when the next request is late.
    fn look_back(&mut self) -> Option<Instant> {
        let waiting = self.core.queued();
        let mut backlog = self.core.backlog();
        if let Some(shapes) = backlog.shapes() {
            self.core.door.publish(shapes);
        }
        backlog.purge(waiting);
        let late = backlog.next_late();
        drop(backlog);
        if self.core.door.has_priorities() {
            self.cut(waiting);
        }
        late
    }

    /// At the end of a window, finds out anew whom to refuse for their priority.
    fn cut(&mut self, waiting: usize) {
        let door = &self.core.door;
        let Window { cut, began, served, stood } = &mut self.window;
        *stood &= waiting > 0;
        let now = self.now;
        let length = now.saturating_duration_since(*began);
        if length < WINDOW {
            return;
        }
        let was_open = cut.is_open();
        // Nobody was here to end those before this one.
        let windows = length.as_secs_f64() / WINDOW.as_secs_f64();
        door.set_cut(cut.on_window(door.arrivals(), *served, *stood, windows), now);
        if cut.is_open() != was_open {
            let name = &*self.core.settings.name;
            tracing::info!(%name, sheds = was_open, "lower priorities are refused");
        }
        (*began, *served, *stood) = (now, 0, waiting > 0);
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

    /// Sees to it that the task is woken when somebody is late, or when the pace lets the next one go.
    fn set_alarm(&mut self, late: Option<Instant>, due: Option<Instant>, cx: &mut Context<'_>) {
        let Some(next) = late.into_iter().chain(due).min() else { return };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(next)));
        if sleep.deadline() != next {
            sleep.as_mut().reset(next);
        }
        if sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
