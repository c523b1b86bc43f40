//! The requests of a queue.

use std::{collections::VecDeque, mem, time::Duration};

use tokio::time::Instant;

use super::{
    adaptive_lifo::{AdaptiveLifo, End},
    controlled_delay::ControlledDelay,
    item::{Entry, Hold, InnerId, QueueItem},
    level_summary::PassedOver,
    parked::Parked,
    rules::Rules,
};

/// The requests of a queue, taken from either end.
///
/// A request is *eligible* unless its inner is known to be unready. Gone requests leave tombstones,
/// dropped at their turn or by [`purge`](Self::purge).
#[derive(Debug)]
pub(super) struct RequestDeque<T> {
    /// In order of arrival.
    main: VecDeque<Entry<T>>,
    /// The requests of unready inners. Boxed, since most queues never have any.
    parked: Option<Box<Parked<T>>>,
    /// A request put back for want of slots, the next again. Otherwise lighter requests behind
    /// would keep taking the free slots.
    next: Option<Entry<T>>,
    lifo: AdaptiveLifo,
    delay: ControlledDelay,
    /// The weight of the entries in `main`, in slots.
    weight: u64,
}

/// An entry taken at its turn.
#[derive(Debug)]
pub(super) enum Taken<T> {
    Next(Entry<T>),
    /// Controlled delay removes the request.
    Overdue(Entry<T>),
    /// The request has gone.
    Tombstone,
}

impl<T: QueueItem> Taken<T> {
    fn next(entry: Entry<T>) -> Self {
        if entry.item.is_gone() { Self::Tombstone } else { Self::Next(entry) }
    }

    fn overdue(entry: Entry<T>) -> Self {
        if entry.item.is_gone() { Self::Tombstone } else { Self::Overdue(entry) }
    }
}

impl<T: QueueItem> RequestDeque<T> {
    pub(super) fn new() -> Self {
        Self {
            main: VecDeque::new(),
            parked: None,
            next: None,
            lifo: AdaptiveLifo::default(),
            delay: ControlledDelay::default(),
            weight: 0,
        }
    }

    /// The weight of all entries in slots, tombstones included.
    pub(super) fn weight(&self) -> u64 {
        let parked = self.parked.as_ref().map_or(0, |parked| parked.weight());
        self.weight + parked + self.next.as_ref().map_or(0, Entry::weight)
    }

    /// Returns whether requests are parked, or were until the last look.
    #[inline]
    pub(super) fn is_parking(&self) -> bool {
        self.parked.is_some()
    }

    /// The parked requests that are not eligible.
    pub(super) fn passed_over(&self) -> PassedOver {
        self.parked.as_ref().map(|parked| parked.passed_over()).unwrap_or_default()
    }

    /// The number of entries, tombstones included.
    pub(super) fn len(&self) -> usize {
        let parked = self.parked.as_ref().map_or(0, |parked| parked.len());
        self.main.len() + parked + usize::from(self.next.is_some())
    }

    /// Returns whether the queue has an eligible request.
    pub(super) fn may_go(&self) -> bool {
        self.next.is_some() || !self.main.is_empty() || self.parked(End::Oldest).is_some()
    }

    /// Adds an entry in the order of arrival, usually as the last.
    #[inline(always)]
    pub(super) fn push(&mut self, entry: Entry<T>) {
        self.weight += entry.weight();
        if self.main.back().is_none_or(|last| last.seq < entry.seq) {
            self.main.push_back(entry);
        } else {
            let at = self.main.partition_point(|other| other.seq < entry.seq);
            self.main.insert(at, entry);
        }
    }

    /// Adds the newest entry of all.
    #[inline]
    pub(super) fn push_newest(&mut self, entry: Entry<T>) {
        self.weight += entry.weight();
        self.main.push_back(entry);
    }

    /// Returns the oldest entry. `None` if it has gone, or if others may come first.
    #[inline(always)]
    pub(super) fn first_plain(&self) -> Option<&Entry<T>> {
        if self.next.is_some() || self.parked.is_some() {
            return None;
        }
        self.main.front().filter(|entry| !entry.item.is_gone())
    }

    /// Takes the entry of [`first_plain`](Self::first_plain).
    #[inline(always)]
    pub(super) fn pop_first(&mut self) -> Option<Entry<T>> {
        self.weight -= self.main.front().map_or(0, Entry::weight);
        if self.main.len() == 1 {
            self.main.shrink_to(KEPT_CAPACITY);
        }
        // The last step, so the entry moves once.
        self.main.pop_front()
    }

    /// Takes in entries of cost 1, older than all other entries. In constant time if the queue is
    /// empty.
    pub(super) fn adopt(&mut self, entries: VecDeque<Entry<T>>) {
        self.weight += entries.len() as u64;
        let others = mem::replace(&mut self.main, entries);
        self.main.extend(others);
    }

    /// Takes the next eligible entry. `service` returns the mean service time, once known.
    #[inline]
    pub(super) fn take(
        &mut self,
        now: Instant,
        rules: &Rules,
        service: impl FnOnce() -> Option<Duration>,
    ) -> Option<Taken<T>> {
        if let Some(entry) = self.next.take() {
            return Some(Taken::next(entry));
        }
        while self.main.front().is_some_and(|entry| entry.item.is_gone()) {
            self.pop_main(End::Oldest);
        }
        if rules.is_plain() && self.parked.is_none() {
            return self.pop_main(End::Oldest).map(Taken::Next);
        }
        self.take_by_age(now, rules, service())
    }

    /// Takes the next eligible entry, if more than the order of arrival has a say.
    fn take_by_age(
        &mut self,
        now: Instant,
        rules: &Rules,
        service: Option<Duration>,
    ) -> Option<Taken<T>> {
        let (first, parked) = (self.main.front(), self.parked(End::Oldest));
        let live_seq = first.map(|entry| entry.seq);
        let oldest = first.into_iter().chain(parked).min_by_key(|entry| entry.seq)?;
        let (seq, age) = (oldest.seq, now.saturating_duration_since(oldest.admitted));
        let mut lifo = self.lifo;
        let end = lifo.end(rules.order, seq, age, || rules.threshold(oldest, service));
        self.lifo = lifo;
        if let Some(target) = rules.delay_target(service) {
            if self.delay.is_overdue(now, age, target) {
                return self.remove(End::Oldest).map(Taken::overdue);
            }
        }
        let entry = self.remove(end)?;
        if !self.may_go() {
            self.delay.on_empty();
        }
        Some(if live_seq == Some(entry.seq) { Taken::Next(entry) } else { Taken::next(entry) })
    }

    /// The first eligible of the parked entries from `end`.
    fn parked(&self, end: End) -> Option<&Entry<T>> {
        self.parked.as_ref().and_then(|parked| parked.peek(end))
    }

    /// Takes the first eligible entry from `end`.
    fn remove(&mut self, end: End) -> Option<Entry<T>> {
        let main = match end {
            End::Oldest => self.main.front(),
            End::Newest => self.main.back(),
        };
        let is_first = |parked: &Entry<T>| match (main, end) {
            (Some(main), End::Oldest) => parked.seq < main.seq,
            (Some(main), End::Newest) => parked.seq > main.seq,
            (None, _) => true,
        };
        if self.parked(end).is_some_and(is_first) {
            let entry = self.parked.as_mut().and_then(|parked| parked.pop(end));
            self.tidy();
            entry
        } else {
            self.pop_main(end)
        }
    }

    /// Takes the first unparked entry from `end`.
    fn pop_main(&mut self, end: End) -> Option<Entry<T>> {
        let entry = match end {
            End::Oldest => self.main.pop_front(),
            End::Newest => self.main.pop_back(),
        };
        self.weight -= entry.as_ref().map_or(0, Entry::weight);
        if self.main.is_empty() {
            self.main.shrink_to(KEPT_CAPACITY);
        }
        entry
    }

    /// Drops the box of parked requests once empty.
    fn tidy(&mut self) {
        self.parked.take_if(|parked| parked.is_empty());
    }

    /// Puts back an entry for want of slots, as the next.
    pub(super) fn put_back(&mut self, entry: Entry<T>) {
        if let Some(other) = self.next.replace(entry) {
            self.push(other);
        }
    }

    /// Parks an entry of an unready inner, or of a flow without room, until [`wake`](Self::wake).
    pub(super) fn park(&mut self, hold: Hold, entry: Entry<T>) {
        self.parked.get_or_insert_with(|| Box::new(Parked::new())).park(hold, entry);
    }

    /// Makes the requests parked for one reason eligible again.
    pub(super) fn wake(&mut self, hold: Hold) {
        if let Some(parked) = self.parked.as_mut() {
            parked.wake(hold);
        }
    }

    /// Returns whether live requests of an inner are parked.
    pub(super) fn has_parked(&mut self, inner: InnerId) -> bool {
        let Some(parked) = self.parked.as_mut() else { return false };
        let found = parked.has_live(Hold::Inner(inner));
        self.tidy();
        found
    }

    /// The oldest live entry, eligible or not.
    pub(super) fn oldest(&self) -> Option<&Entry<T>> {
        let main = self.main.iter().find(|entry| !entry.item.is_gone());
        let parked = self.parked.as_ref().and_then(|parked| parked.oldest_live());
        let next = self.next.as_ref().filter(|entry| !entry.item.is_gone());
        main.into_iter().chain(parked).chain(next).min_by_key(|entry| entry.seq)
    }

    /// Takes the oldest entry, eligible or not, perhaps a tombstone.
    pub(super) fn pop_oldest(&mut self) -> Option<Entry<T>> {
        let seq = |entry: Option<&Entry<T>>| entry.map_or(u64::MAX, |entry| entry.seq);
        let main = seq(self.main.front());
        let parked = seq(self.parked.as_ref().and_then(|parked| parked.oldest()));
        let next = seq(self.next.as_ref());
        if next < main.min(parked) {
            self.next.take()
        } else if parked < main {
            let entry = self.parked.as_mut().and_then(|parked| parked.pop_oldest());
            self.tidy();
            entry
        } else {
            self.pop_main(End::Oldest)
        }
    }

    /// Takes the newest unparked entry, possibly a tombstone.
    pub(super) fn pop_newest(&mut self) -> Option<Entry<T>> {
        self.pop_main(End::Newest)
    }

    /// Takes all entries of an inner, perhaps tombstones.
    pub(super) fn take_all_of(&mut self, inner: InnerId) -> Vec<Entry<T>> {
        let mut taken: Vec<_> =
            self.next.take_if(|entry| entry.inner == inner).into_iter().collect();
        if let Some(parked) = self.parked.as_mut() {
            taken.extend(parked.take_all_of(inner));
            self.tidy();
        }
        if self.main.iter().any(|entry| entry.inner == inner) {
            let (of_inner, others) = self.main.drain(..).partition(|entry| entry.inner == inner);
            taken.extend::<VecDeque<_>>(of_inner);
            self.main = others;
            self.weight = self.main.iter().map(Entry::weight).sum();
        }
        taken
    }

    /// Drops the tombstones.
    pub(super) fn purge(&mut self) {
        // Mostly the oldest have gone. Dropping the front moves no other entries.
        while self.main.front().is_some_and(|entry| entry.item.is_gone()) {
            self.main.pop_front();
        }
        self.main.retain(|entry| !entry.item.is_gone());
        self.main.shrink_to(KEPT_CAPACITY);
        self.weight = self.main.iter().map(Entry::weight).sum();
        self.next.take_if(|entry| entry.item.is_gone());
        if let Some(parked) = self.parked.as_mut() {
            parked.purge();
        }
        self.tidy();
    }
}

/// The number of entries for which an emptied queue keeps memory. The rest is freed.
pub(super) const KEPT_CAPACITY: usize = 1024;
