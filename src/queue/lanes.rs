//! Requests set aside because their inner service was not ready.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{Entry, LaneId, Waiting};

/// A lane per inner service that has been found unready and still has requests here.
///
/// A lane stays until it is empty, even when its inner becomes ready: the requests in it are older than
/// all in the main line, and those that come after them join it. So each request is moved at most once,
/// however often its inner changes its mind.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    lanes: HashMap<LaneId, Lane<T>>,
    /// The heads of all lanes, by age.
    heads: BTreeSet<(u64, LaneId)>,
    /// The heads of the lanes whose inner is worth asking again.
    ready: BTreeSet<(u64, LaneId)>,
    len: usize,
}

#[derive(Debug)]
struct Lane<T> {
    entries: VecDeque<Entry<T>>,
    ready: bool,
}

impl<T: Waiting> Lanes<T> {
    pub(super) fn new() -> Self {
        Self { lanes: HashMap::new(), heads: BTreeSet::new(), ready: BTreeSet::new(), len: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether somebody still waits in this lane. One in which all have gone is dropped: nobody may have
    /// been told to wake it.
    pub(super) fn contains(&mut self, id: LaneId) -> bool {
        while self.lanes.get(&id).and_then(Lane::head).is_some_and(|head| head.item.is_gone()) {
            self.pop_from(id);
        }
        self.lanes.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Sets aside the entry whose inner was just found unready, in front of those after it.
    pub(super) fn stall(&mut self, entry: Entry<T>) {
        let id = entry.lane;
        self.len += 1;
        self.forget_head(id);
        let lane = self.lanes.entry(id).or_insert_with(Lane::new);
        lane.entries.push_front(entry);
        lane.ready = false;
        self.note_head(id);
    }

    /// Puts back an entry that could not be dispatched for want of a slot.
    pub(super) fn put_back(&mut self, entry: Entry<T>) {
        let id = entry.lane;
        self.len += 1;
        self.forget_head(id);
        let lane = self.lanes.entry(id).or_insert_with(Lane::new);
        lane.entries.push_front(entry);
        self.note_head(id);
    }

    /// Adds an entry behind those of its lane, which must exist.
    pub(super) fn join(&mut self, entry: Entry<T>) {
        let id = entry.lane;
        self.len += 1;
        self.forget_head(id);
        self.lanes.entry(id).or_insert_with(Lane::new).entries.push_back(entry);
        self.note_head(id);
    }

    /// Takes note that an inner may be ready again.
    pub(super) fn wake(&mut self, id: LaneId) {
        self.forget_head(id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.ready = true;
        }
        self.note_head(id);
    }

    /// The oldest entry whose inner is worth asking.
    pub(super) fn pop_ready(&mut self) -> Option<Entry<T>> {
        let (_, id) = *self.ready.first()?;
        self.pop_from(id)
    }

    /// The oldest entry of all.
    pub(super) fn pop_oldest(&mut self) -> Option<Entry<T>> {
        let (_, id) = *self.heads.first()?;
        self.pop_from(id)
    }

    pub(super) fn oldest(&self) -> Option<&Entry<T>> {
        let (_, id) = self.heads.first()?;
        self.lanes.get(id)?.head()
    }

    /// Drops the entries that have gone.
    pub(super) fn purge(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.entries.retain(|entry| !entry.item.is_gone());
        }
        self.lanes.retain(|_, lane| !lane.entries.is_empty());
        self.len = self.lanes.values().map(|lane| lane.entries.len()).sum();
        self.heads.clear();
        self.ready.clear();
        let ids: Vec<_> = self.lanes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.note_head(id));
    }

    fn pop_from(&mut self, id: LaneId) -> Option<Entry<T>> {
        self.forget_head(id);
        let entry = self.lanes.get_mut(&id)?.entries.pop_front();
        self.len -= usize::from(entry.is_some());
        self.note_head(id);
        entry
    }

    fn forget_head(&mut self, id: LaneId) {
        if let Some(head) = self.lanes.get(&id).and_then(Lane::head) {
            let key = (head.seq, id);
            self.heads.remove(&key);
            self.ready.remove(&key);
        }
    }

    fn note_head(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(&id) else { return };
        let Some(head) = lane.head() else {
            self.lanes.remove(&id);
            return;
        };
        let key = (head.seq, id);
        if lane.ready {
            self.ready.insert(key);
        }
        self.heads.insert(key);
    }
}

impl<T> Lane<T> {
    fn new() -> Self {
        Self { entries: VecDeque::new(), ready: true }
    }

    fn head(&self) -> Option<&Entry<T>> {
        self.entries.front()
    }
}
