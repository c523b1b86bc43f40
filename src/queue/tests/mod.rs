//! Tests of the queue: by behaviour, and against a sorted vector.

mod arrival_order;
mod costs;
mod flows;
mod inner_services;
mod order;
mod priorities;
mod random_play;
mod reference;

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Charge, Entry, InnerId, Next, Rules,
    fair_queue::FairQueue,
    level_summary::Gone,
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
const NO_TIMES: [Option<Duration>; 5] = [None; Priority::ALL.len()];

/// A queue with a clock, and requests by number.
struct Rig {
    queue: FairQueue<Item>,
    now: Instant,
    times: [Option<Duration>; 5],
    items: Vec<Item>,
    costs: Vec<u64>,
}

impl Rig {
    fn new(rules: Rules) -> Self {
        Self {
            queue: FairQueue::new(rules),
            now: Instant::now(),
            times: NO_TIMES,
            items: Vec::new(),
            costs: Vec::new(),
        }
    }

    fn order(order: Order) -> Self {
        Self::new(Rules { order, ..Rules::default() })
    }

    /// Adds a request for inner `A`. Returns the number.
    fn push(&mut self, class: Class) -> u32 {
        self.push_for(A, class)
    }

    fn push_for(&mut self, inner: InnerId, class: Class) -> u32 {
        let id = self.items.len() as u32;
        let item = Item::new(id);
        self.items.push(item.clone());
        self.costs.push(class.rank.cost.into());
        self.queue.push(inner, class.rank, self.now, item);
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
        match self.queue.pop(self.now, &self.times, &mut Charge::default())? {
            Next::Dispatch(entry) => Some(entry),
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

    /// Takes the next request, and parks it.
    fn park(&mut self) {
        let entry = self.take_back().expect("a request waits");
        self.queue.park(entry);
    }

    fn put_back(&mut self) {
        let entry = self.take_back().expect("a request waits");
        self.queue.put_back(entry);
    }

    /// Takes the next request, and refunds the charge.
    fn take_back(&mut self) -> Option<Entry<Item>> {
        let mut charge = Charge::default();
        match self.queue.pop(self.now, &self.times, &mut charge)? {
            Next::Dispatch(entry) => {
                self.queue.refund(&charge);
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
