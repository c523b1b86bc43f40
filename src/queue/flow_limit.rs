//! The limit on the running calls of a flow.

use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroU32,
};

use super::item::QueueId;

/// The slots in use by each flow, and the held flows.
///
/// A request takes slots by its cost, at most the limit: a heavier request runs alone in its flow.
/// At the end of the call, the owner of the right gives the right back.
///
/// A flow is *held* from the first request without room until one of the flow's calls ends, or a
/// heavy request of the flow leaves the queue, in all priorities. Lighter requests of the flow
/// therefore do not overtake a heavy request. Held requests wait and keep their places, and the
/// queue passes over them.
#[derive(Debug, Default)]
pub(super) struct FlowLimit {
    limit: Option<NonZeroU32>,
    /// The slots of each flow with running calls.
    running: HashMap<u64, u32>,
    /// The rights given out, by id.
    rights: Vec<Option<Right>>,
    free: Vec<FlowRight>,
    /// The flows held back, each with its queues, as level and id.
    held: HashMap<u64, BTreeSet<(usize, QueueId)>>,
    /// The flows held or at the limit (`true`), or with room again (`false`), until taken.
    changes: Vec<(u64, bool)>,
}

/// Names the right of a request to run in its flow. Four bytes, since each running call has a
/// right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowRight(NonZeroU32);

#[derive(Clone, Copy, Debug)]
struct Right {
    flow: u64,
    slots: u32,
}

/// A flow no longer held, with its queues, as level and id.
pub(super) type Woken = (u64, BTreeSet<(usize, QueueId)>);

impl FlowLimit {
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self { limit: limit.and_then(whole), ..Self::default() }
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.limit.is_some()
    }

    /// Returns whether a flow is held, or runs as much as it may.
    pub(super) fn is_full(&self, flow: u64) -> bool {
        !self.has_room(flow, 1)
    }

    /// Returns whether a flow is not held, and has room for a request of cost `cost`.
    pub(super) fn has_room(&self, flow: u64, cost: u32) -> bool {
        !self.held.contains_key(&flow) && self.fits(flow, cost)
    }

    /// Returns whether any request of the flow, if there is a flow, is beyond the flow's limit.
    pub(super) fn holds(&self, flow: Option<u64>) -> bool {
        self.is_on() && flow.is_some_and(|flow| self.is_full(flow))
    }

    fn fits(&self, flow: u64, cost: u32) -> bool {
        let Some(limit) = self.limit.map(NonZeroU32::get) else { return true };
        let running = self.running.get(&flow).copied().unwrap_or(0);
        running.saturating_add(cost.min(limit)) <= limit
    }

    /// Takes the right for a request to run; `None` if the flow has no room for the request.
    pub(super) fn take(&mut self, flow: u64, cost: u32) -> Option<FlowRight> {
        if !self.has_room(flow, cost) {
            return None;
        }
        let limit = self.limit.map_or(u32::MAX, NonZeroU32::get);
        let id = self.free.pop().or_else(|| {
            let number = u32::try_from(self.rights.len() + 1).ok().and_then(NonZeroU32::new)?;
            self.rights.push(None);
            Some(FlowRight(number))
        })?;
        let slots = cost.min(limit);
        self.rights[id.index()] = Some(Right { flow, slots });
        let running = self.running.entry(flow).or_default();
        *running += slots;
        if *running >= limit {
            self.changes.push((flow, true));
        }
        Some(id)
    }

    /// Takes a right back. Returns the flow if the flow was held and has room now.
    pub(super) fn give_back(&mut self, right: FlowRight) -> Option<Woken> {
        let Right { flow, slots } = self.rights.get_mut(right.index())?.take()?;
        self.free.push(right);
        let was_full = self.is_full(flow);
        let running = self.running.get(&flow).copied().unwrap_or(0).saturating_sub(slots);
        if running == 0 {
            self.running.remove(&flow);
        } else {
            self.running.insert(flow, running);
        }
        self.end_hold(flow, was_full)
    }

    /// Ends the hold on a flow with any room. Returns the flow if the flow was held.
    pub(super) fn release(&mut self, flow: u64) -> Option<Woken> {
        self.end_hold(flow, self.is_full(flow))
    }

    fn end_hold(&mut self, flow: u64, was_full: bool) -> Option<Woken> {
        if !self.fits(flow, 1) {
            return None;
        }
        if was_full {
            self.changes.push((flow, false));
        }
        self.held.remove_entry(&flow)
    }

    /// Holds a queue of a flow, until [`release`](Self::release).
    pub(super) fn hold(&mut self, flow: u64, level: usize, id: QueueId) {
        if !self.is_full(flow) {
            self.changes.push((flow, true));
        }
        self.held.entry(flow).or_default().insert((level, id));
    }

    /// Sets the limit. Running calls keep their rights. Returns all held flows: the caller has to
    /// look at them again.
    pub(super) fn set(&mut self, limit: Option<usize>) -> Vec<Woken> {
        // A held flow has running calls.
        let flows: Vec<u64> = self.running.keys().copied().collect();
        let were_full: Vec<_> = flows.into_iter().map(|flow| (flow, self.is_full(flow))).collect();
        self.limit = limit.and_then(whole);
        let held = self.held.drain().collect();
        for (flow, was_full) in were_full {
            if self.is_full(flow) != was_full {
                self.changes.push((flow, !was_full));
            }
        }
        held
    }

    /// Takes the flows held or at the limit since the last call, and the flows with room again. For
    /// each flow, the changes come in order.
    pub(super) fn take_changes(&mut self, mut take: impl FnMut(u64, bool)) {
        self.changes.drain(..).for_each(|(flow, is_full)| take(flow, is_full));
    }
}

impl FlowRight {
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Returns the limit in slots. A limit above the greatest limit of a leveler has no effect.
fn whole(limit: usize) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(limit).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_runs_no_more_than_the_limit_and_a_heavier_request_alone() {
        let mut limit = FlowLimit::new(Some(3));
        let two = limit.take(7, 2).expect("room for 3");
        assert!(limit.take(7, 2).is_none() && limit.take(8, 9).is_some());
        let one = limit.take(7, 1).expect("room for 1");
        assert!(limit.is_full(7) && limit.is_full(8) && !limit.is_full(9));
        assert!(limit.take(7, 9).is_none());
        limit.give_back(two);
        limit.give_back(two);
        assert!(limit.take(7, 9).is_none(), "a right is given back once");
        limit.give_back(one);
        assert!(limit.take(7, 9).is_some());
    }

    #[test]
    fn a_held_flow_takes_nothing_until_one_of_its_calls_ends() {
        let mut limit = FlowLimit::new(Some(3));
        let first = limit.take(7, 1).expect("room");
        limit.take(7, 1).expect("room");
        assert!(limit.take(7, 2).is_none());
        limit.hold(7, 2, QueueId::new(5));
        assert!(limit.take(7, 1).is_none(), "the heavy one is before it");
        assert_eq!(limit.give_back(first), Some((7, [(2, QueueId::new(5))].into())));
        assert!(limit.take(7, 2).is_some());
    }

    #[test]
    fn a_hold_is_ended_only_if_the_flow_has_room() {
        let mut limit = FlowLimit::new(Some(3));
        let two = limit.take(7, 2).expect("room");
        limit.hold(7, 2, QueueId::new(5));
        let held = Some((7, [(2, QueueId::new(5))].into()));
        assert_eq!((limit.release(7), limit.release(7)), (held.clone(), None));
        limit.take(7, 1).expect("room");
        limit.hold(7, 2, QueueId::new(5));
        assert_eq!(limit.release(7), None, "nothing of the flow fits");
        assert_eq!(limit.give_back(two), held);
    }

    #[test]
    fn a_flow_held_below_its_limit_is_told_like_one_at_its_limit() {
        let mut limit = FlowLimit::new(Some(3));
        let two = limit.take(7, 2).expect("room");
        assert!(limit.take(7, 2).is_none());
        for level in [2, 3] {
            limit.hold(7, level, QueueId::new(5));
        }
        let mut told = Vec::new();
        limit.take_changes(|_, is_full| told.push(is_full));
        assert_eq!(told, [true]);
        // The heavy request leaves; another is held, and a call ends; another is held, until the
        // limit is raised.
        limit.release(7);
        limit.hold(7, 2, QueueId::new(5));
        limit.give_back(two);
        limit.take(7, 2).expect("room");
        limit.hold(7, 2, QueueId::new(5));
        limit.set(Some(4));
        limit.take_changes(|_, is_full| told.push(is_full));
        assert_eq!(told[1..], [false, true, false, true, false]);
    }

    #[test]
    fn whoever_asks_is_told_each_change_once() {
        let mut limit = FlowLimit::new(Some(2));
        let rights: Vec<_> = (0..2).filter_map(|_| limit.take(7, 1)).collect();
        let mut told = Vec::new();
        limit.take_changes(|flow, is_full| told.push((flow, is_full)));
        rights.iter().for_each(|right| drop(limit.give_back(*right)));
        limit.take(7, 2).expect("room");
        limit.set(Some(5));
        limit.set(Some(1));
        limit.set(None);
        limit.take_changes(|flow, is_full| told.push((flow, is_full)));
        let changes = [true, false, true, false, true, false];
        assert_eq!(told, changes.map(|is_full| (7, is_full)));
    }
}
