//! Idle tasks: a task that has ended a direct call may take the next.
//!
//! Making a task costs a direct call more than all other work of this layer. A task that has ended
//! a direct call, with nothing to hand on, therefore wakes itself, and looks once more: its next
//! poll finds a call in the [`Exchange`](super::exchange::Exchange), or the task ends. So a task is
//! idle while it stands in the queue of its runtime, and never sleeps: the runtime polls an idle
//! task as it polls a new one, and after a burst no task is left.
//!
//! The caller's end of the exchange is what makes the next call: the caller has the answer, and
//! leaves the exchange on its thread. A call of the same types and runtime, made on the thread,
//! takes the exchange out, and puts its work in if the task is still idle.

use std::{any::Any, cell::RefCell, sync::Arc};

use crate::leveler::runtime::RuntimeId;

/// The most exchanges left on a thread. Each is empty, and some 200 bytes large; the task may have
/// ended since.
const MAX: usize = 64;

/// How many exchanges to look at for one of the same types and runtime.
const LOOKS: usize = 4;

/// How many tasks in a row may be idle in vain, on a thread. From then on most tasks end at once.
const PATIENCE: u32 = 16;

/// With the patience at an end, one of so many tasks is idle all the same, to find out whether
/// calls follow each other again.
const PROBE: u32 = 64;

thread_local! {
    static LEFT: RefCell<Left> = const { RefCell::new(Left { exchanges: Vec::new(), in_vain: 0 }) };
}

/// The exchanges left on a thread.
struct Left {
    exchanges: Vec<Arc<dyn Reusable>>,
    /// The tasks idle since a call was last given to one.
    in_vain: u32,
}

/// An exchange of a direct call, with the caller's end left for the next call.
pub(super) trait Reusable: Any + Send + Sync {
    /// Returns the runtime of the task.
    fn home(&self) -> RuntimeId;
}

/// Leaves the exchange of an answered call for the next call on this thread.
pub(super) fn leave(exchange: Arc<dyn Reusable>) {
    let evicted = with(|left| {
        // The oldest: most likely its task has ended.
        let evicted = (left.exchanges.len() == MAX).then(|| left.exchanges.remove(0));
        left.exchanges.push(exchange);
        evicted
    });
    drop(evicted);
}

/// Takes out an exchange for a call on the runtime `home`, the last left one first.
pub(super) fn take<T: Reusable>(home: RuntimeId) -> Option<Arc<T>> {
    let fits = |exchange: &Arc<dyn Reusable>| {
        let exchange: &dyn Reusable = &**exchange;
        exchange.home() == home && (exchange as &dyn Any).is::<T>()
    };
    let found = with(|left| {
        let first = left.exchanges.len().saturating_sub(LOOKS);
        let nth = left.exchanges[first..].iter().rposition(fits)?;
        Some(left.exchanges.remove(first + nth))
    });
    let found: Arc<dyn Any + Send + Sync> = found.flatten()?;
    found.downcast().ok()
}

/// Takes note that a call was given to an idle task.
pub(super) fn on_given() {
    with(|left| left.in_vain = 0);
}

/// Returns whether a task that has ended a call on this thread is to be idle.
pub(super) fn is_worthwhile() -> bool {
    let is_worthwhile = with(|left| {
        left.in_vain = left.in_vain.wrapping_add(1);
        left.in_vain <= PATIENCE || left.in_vain % PROBE == 0
    });
    is_worthwhile == Some(true)
}

/// `None` while the thread ends.
fn with<T>(run: impl FnOnce(&mut Left) -> T) -> Option<T> {
    LEFT.try_with(|left| left.try_borrow_mut().ok().map(|mut left| run(&mut left))).ok()?
}
