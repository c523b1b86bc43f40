//! The line by behaviour, and against a sorted vector.

mod costs;
mod flows;
mod inner_services;
mod order;
mod priorities;
mod reference;
mod whole;

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Entry, FairQueue, InnerId, Next, Rules, Times,
    testing::{Item, Random},
};
use crate::{
    class::{Class, Priority},
    error::Reason,
    options::Order,
};

const A: InnerId = 1;
const B: InnerId = 2;

const MS: Duration = Duration::from_millis(1);
const NO_TIMES: Times = [None; Priority::ALL.len()];

/// A line with a clock, and requests by number.
struct Rig {
    line: FairQueue<Item>,
    now: Instant,
    times: Times,
    items: Vec<Item>,
}

impl Rig {
    fn new(rules: Rules) -> Self {
        Self {
            line: FairQueue::new(rules),
            now: Instant::now(),
            times: NO_TIMES,
            items: Vec::new(),
        }
    }

    fn order(order: Order) -> Self {
        Self::new(Rules { order, ..Rules::default() })
    }

    /// Adds one for inner `A`; returns its number.
    fn push(&mut self, class: Class) -> u32 {
        self.push_for(A, class)
    }

    fn push_for(&mut self, inner: InnerId, class: Class) -> u32 {
        let id = self.items.len() as u32;
        let item = Item::new(id);
        self.items.push(item.clone());
        self.line.push(inner, class.rank, self.now, item);
        id
    }

    fn push_for_each(&mut self, inner_ids: &[InnerId]) {
        for inner in inner_ids {
            self.push_for(*inner, Class::new());
        }
    }

    fn push_many(&mut self, count: usize, class: &Class) -> Vec<u32> {
        (0..count).map(|_| self.push(class.clone())).collect()
    }

    fn leaves(&mut self, id: u32) {
        self.items[id as usize].gone.set(true);
    }

    fn next(&mut self) -> Option<Entry<Item>> {
        match self.line.pop(self.now, &self.times)? {
            Next::Dispatch(entry, _) => Some(entry),
            Next::Remove(entry, reason) => panic!("{} was removed: {reason}", entry.item.id),
        }
    }

    fn pop(&mut self) -> Option<u32> {
        self.next().map(|entry| entry.item.id)
    }

    fn pop_many(&mut self, count: usize) -> Vec<u32> {
        (0..count).map_while(|_| self.pop()).collect()
    }

    fn drain(&mut self) -> Vec<u32> {
        self.pop_many(usize::MAX)
    }

    /// Takes the next, and sets it aside since its inner is not ready.
    fn park(&mut self) {
        let entry = self.take_back().expect("one should be waiting");
        self.line.park(entry);
    }

    fn put_back(&mut self) {
        let entry = self.take_back().expect("one should be waiting");
        self.line.put_back(entry);
    }

    /// Takes the next, which will not be dispatched.
    fn take_back(&mut self) -> Option<Entry<Item>> {
        match self.line.pop(self.now, &self.times)? {
            Next::Dispatch(entry, charge) => {
                self.line.refund(&charge);
                Some(entry)
            }
            Next::Remove(entry, reason) => panic!("{} was removed: {reason}", entry.item.id),
        }
    }
}

fn flow(name: &str) -> Class {
    Class::new().flow(name)
}

fn priority(priority: Priority) -> Class {
    Class::new().priority(priority)
}
