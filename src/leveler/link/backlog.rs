//! The waiting requests.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    job::{Job, Newcomer},
    nested_calls::NestedCalls,
};
use crate::{
    leveler::runtime::RuntimeId,
    queue::{Charge, Entry, Gone, InnerId, Queue, Rules, Times},
};

/// The most by which displacing requests may exceed the bound, in all: the work of the drain task
/// at its next eviction.
pub(crate) const MAX_OVERRUN: usize = 1024;

/// The number of newcomers after which the caller checks whether tombstones outnumber the rest. A
/// smaller number costs time, a larger number memory.
const SWEEP: usize = 512;

pub(crate) type Queued = Entry<Arc<dyn Job>>;

/// The [`Queue`], with the operations of callers. Callers put requests in; the drain task orders
/// them.
pub(crate) struct Backlog {
    pub(crate) queue: Queue<Arc<dyn Job>>,
    newcomers: usize,
    /// The instant at which the drain task looks for late requests, at the latest.
    next_look: Option<Instant>,
    /// The requests called by tasks of ended calls, since the drain task last looked.
    handed_on: u32,
    /// The nested calls put in, or put back by hand-on, since the drain task last took them.
    nested: NestedCalls,
}

/// The number of requests handed on after which the drain task is woken: for the rate, the oldest
/// request, tombstones, and for runtimes whose requests wait meanwhile. As many as half of a batch.
const DUE: u32 = 64;

impl Backlog {
    pub(crate) fn new(rules: Rules) -> Self {
        let (queue, nested) = (Queue::new(rules), NestedCalls::default());
        Self { queue, newcomers: 0, next_look: None, handed_on: 0, nested }
    }

    /// Puts a request into the queue. Returns whether the request is late before the drain task
    /// looks for late requests. `live` returns the number of waiting requests.
    #[inline]
    pub(crate) fn add(&mut self, newcomer: Newcomer, live: impl FnOnce() -> usize) -> bool {
        let Newcomer { job, inner, rank, admitted, late, is_first: _ } = newcomer;
        let late = late.map(|late| late.at);
        let is_next_late = late.is_some_and(|at| self.next_look.is_none_or(|look| at < look));
        if is_next_late {
            self.next_look = late;
        }
        self.queue.push(inner, rank, admitted, late, job);
        self.newcomers = self.newcomers.wrapping_add(1);
        if self.newcomers % SWEEP == 0 {
            // A caller that does not yield keeps the drain task from purging. The drain task may
            // have a request in hand, and put the request back.
            self.queue.purge_left(live());
            self.nested.sweep();
        }
        is_next_late
    }

    /// Returns when the next request is late. The drain task looks for late requests then.
    pub(crate) fn set_next_look(&mut self) -> Option<Instant> {
        self.next_look = self.queue.next_late();
        self.next_look
    }

    /// Takes the next request for a task on the runtime `home`. `None` if there is no request, a
    /// request of another runtime, or a request for the drain task to choose. `times` and `charge`
    /// as for [`Queue::pop`].
    #[inline]
    pub(crate) fn pop_for(
        &mut self,
        home: RuntimeId,
        now: Instant,
        times: &impl Times,
        charge: &mut Charge,
    ) -> Option<Queued> {
        // A model has no runtimes.
        let is_mine = |job: &Arc<dyn Job>| cfg!(shuttle) || job.home() == home;
        let next = self.queue.pop_if(now, times, is_mine, charge);
        self.handed_on += u32::from(next.is_some());
        next
    }

    /// Returns whether the drain task needs to look at the requests handed on.
    pub(crate) fn is_look_due(&self) -> bool {
        self.handed_on >= DUE
    }

    /// Records that a request of [`pop_for`](Self::pop_for) was not called, and has ended.
    pub(crate) fn not_handed_on(&mut self, charge: &Charge) {
        self.handed_on = self.handed_on.saturating_sub(1);
        self.queue.refund(charge);
    }

    /// Puts back a request of [`pop_for`](Self::pop_for), as the next.
    pub(crate) fn put_back_handed_on(&mut self, entry: Queued, charge: &Charge) {
        self.handed_on = self.handed_on.saturating_sub(1);
        self.queue.put_back(entry, charge);
    }

    /// Returns the number of requests handed on since the last call.
    pub(crate) fn take_handed_on(&mut self) -> u32 {
        std::mem::take(&mut self.handed_on)
    }

    /// Adds a nested call, already in the queue, for the drain task to look at.
    pub(crate) fn add_nested(&mut self, inner: InnerId, job: Arc<dyn Job>) {
        self.nested.push(inner, job);
    }

    /// Moves the nested calls to `nested`, for the drain task to look at.
    #[inline]
    pub(crate) fn take_nested(&mut self, nested: &mut NestedCalls) {
        nested.append(&mut self.nested);
    }

    /// Takes the oldest request of the longest flow of the lowest priority. `gone` as for
    /// [`Queue::summaries`].
    pub(crate) fn pop_oldest(&mut self, gone: &Gone) -> Option<Arc<dyn Job>> {
        self.queue.pop_oldest(gone).map(|entry| entry.item)
    }

    /// Takes all requests of an inner, oldest first.
    pub(crate) fn take_all_of(&mut self, inner: InnerId) -> Vec<Arc<dyn Job>> {
        self.queue.take_all_of(inner).into_iter().map(|entry| entry.item).collect()
    }

    /// Returns the admission time of the oldest of `live` requests, and whether the drain task is
    /// to have a turn, as for [`Queue::oldest`].
    pub(crate) fn oldest_admitted(&mut self, live: usize) -> (Option<Instant>, bool) {
        self.queue.oldest(live)
    }
}
