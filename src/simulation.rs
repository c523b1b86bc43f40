//! The waiting line without the layer, for the simulations in `benches`: not part of the public
//! API.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::time::Instant;

use crate::{
    class::Rank,
    options::Order,
    queue::{Expiry, FairQueue, Next, QueueItem, Rules},
};

/// Requests that wait, each with a number and perhaps an instant at which it is late.
#[derive(Debug)]
pub struct WaitingLine {
    line: FairQueue<Waiter>,
    expiry: Expiry<Waiter>,
    service: Option<Duration>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Waiter {
    id: usize,
    gone: Rc<Cell<bool>>,
    late: Option<Instant>,
}

impl QueueItem for Waiter {
    fn is_gone(&self) -> bool {
        self.gone.get()
    }

    fn late(&self) -> Option<Instant> {
        self.late
    }
}

impl WaitingLine {
    /// Returns an empty line that has this order.
    #[must_use]
    pub fn new(order: Order) -> Self {
        let rules = Rules { order, ..Rules::default() };
        Self { line: FairQueue::new(rules), expiry: Expiry::new(), service: None, len: 0 }
    }

    /// Puts a request at the end.
    pub fn push(&mut self, id: usize, now: Instant, late: Option<Instant>) {
        let waiter = Waiter { id, gone: Rc::default(), late };
        if let Some(at) = late {
            self.expiry.push(at, waiter.clone());
        }
        self.line.push(0, Rank::default(), now, waiter);
        self.len += 1;
    }

    /// Takes the one whose turn it is.
    pub fn pop(&mut self, now: Instant) -> Option<usize> {
        loop {
            let entry = match self.line.pop(now, &[self.service; 5])? {
                Next::Dispatch(entry, charge) => {
                    self.line.keep_charge(&charge);
                    entry
                }
                Next::Remove(entry, _) => entry,
            };
            if !entry.item.gone.replace(true) {
                self.len -= 1;
                return Some(entry.item.id);
            }
        }
    }

    /// Takes one that is late.
    pub fn pop_late(&mut self, now: Instant) -> Option<usize> {
        let late = self.expiry.pop(now)?;
        late.gone.set(true);
        self.len -= 1;
        self.line.purge(self.len);
        Some(late.id)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
