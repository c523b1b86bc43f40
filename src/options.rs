//! Settings with a fixed set of choices.

use crate::words::{display_words, words};

/// The handling of a new request if no place is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The request is refused at once, with [`Reason::Full`](crate::error::Reason::Full). For
    /// servers. A worker with a work queue of its own needs [`Wait`](Self::Wait): nothing else
    /// holds the worker back.
    #[default]
    Reject,
    /// `poll_ready` waits for a place, and reserves the place until `call` or until the service is
    /// dropped. For clients that can slow down. A `call` without `poll_ready` is still decided at
    /// once.
    ///
    /// - A service waiting for a place is not admitted yet. [`Stats::waiting_for_place`] counts
    ///   such services, and [`Stats::longest_wait_for_place`] tells for how long the first has
    ///   waited.
    /// - [`max_wait`](crate::Builder::max_wait) holds for the wait for a place too, and then again
    ///   for the wait in the queue. After `max_wait`, `poll_ready` is ready without a place, and
    ///   `call` answers [`Reason::MaxWait`](crate::error::Reason::MaxWait): an error of
    ///   `poll_ready` would make tower discard the service. Outside of any runtime there are no
    ///   timers. With a `max_wait` nobody waits there, unless a
    ///   [`runtime`](crate::Builder::runtime) was set.
    /// - Places are given in the order of waiting. The [class](crate::Class) of a request is known
    ///   in `call`, so priorities and flows order only the requests with a place. A consumer of
    ///   requests with priorities takes a [`capacity`](crate::Builder::capacity) of at least the
    ///   number of requests in hand, or pulls by [`Handle::room`](crate::Handle::room).
    /// - A ready service keeps its place until it is called or dropped ([`Stats::reserved`]).
    ///   Receive the next piece of work first, and then wait with `ready()`: the other way round
    ///   idle workers hold the places.
    ///
    /// [`Stats::waiting_for_place`]: crate::Stats::waiting_for_place
    /// [`Stats::longest_wait_for_place`]: crate::Stats::longest_wait_for_place
    /// [`Stats::reserved`]: crate::Stats::reserved
    ///
    /// `poll_ready` does not know the coming request and waits for one place. A request of a higher
    /// [cost](crate::Class::cost) may still be refused, and a request that
    /// [bypasses](crate::Class::bypass) the queue has waited for a place without needing one. The
    /// waiting requests of a flow at its [limit](crate::Builder::flow_limit) can hold all places.
    /// Then every caller waits.
    Wait,
    /// The request is admitted, and the oldest waiting request is removed with
    /// [`Reason::Evicted`](crate::error::Reason::Evicted). If none waits, the new request is
    /// refused. For work that loses value with age.
    EvictOldest,
}

/// The order in which requests leave the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Oldest first: fair, and right while the queue is short.
    #[default]
    Fifo,
    /// Newest first. Old requests wait until the queue is empty or until they are late: set a
    /// [`max_wait`](crate::Builder::max_wait) or deadlines.
    Lifo,
    /// Oldest first while the queue is short, newest first once requests at the head have waited
    /// longer than [`lifo_after`](crate::Builder::lifo_after). Under overload, served requests are
    /// served fast, and only requests already too old wait in vain. Not for clients that need
    /// requests in order. Set a [`max_wait`](crate::Builder::max_wait) or deadlines.
    AdaptiveLifo,
}

/// The handling of a call if the caller drops the future.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abandon {
    /// The work is dropped too: a waiting request never reaches the inner, and the future of a
    /// running call is dropped. Work not stopped by a drop, such as `spawn_blocking`, goes on
    /// beyond its slot: use `Finish` for such work. If a call need not wait, it may already have
    /// finished when `call` returns: see [`Execution::Spawn`].
    #[default]
    Cancel,
    /// The work continues. For work that must not stop half way, and for fire-and-forget.
    Finish,
}

/// The choice of who polls the inner's futures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Execution {
    /// Each call runs as a separate task: inner calls use every core, and a caller that stops
    /// polling blocks nobody. Calls that finish at once are polled in `call` and need no task.
    ///
    /// One direct call in sixteen is measured. While at least a quarter of the calls are ready at
    /// the first poll, and first polls take no more than 10 µs on average, direct calls are polled
    /// once in [`LoadLevel::call`](crate::LoadLevel). If not ready, the call becomes a task. For
    /// calls polled in `call`:
    ///
    /// - The first poll runs in the task of the caller, and sees the caller's task-locals.
    /// - Of several calls made together, the first polls run one after the other.
    /// - No lock taken by the inner's future may be held across `call`.
    ///
    /// A call always becomes a task if made outside of a task (as in the body of `#[tokio::main]`),
    /// by another inner's `call`, or within a first poll in `call`. So does a call that bypasses
    /// the queue, and every call if the [`runtime`](crate::Builder::runtime) of the layer was set.
    #[default]
    Spawn,
    /// The caller polls, as with tower's `Buffer`, for the least overhead. **A caller that keeps
    /// the future without polling it keeps the slot, and is never answered.** Not possible with
    /// [`Abandon::Finish`].
    Caller,
}

words!(Overflow, "overflow", { Reject = "reject", Wait = "wait", EvictOldest = "evict_oldest" });
words!(Order, "order", { Fifo = "fifo", Lifo = "lifo", AdaptiveLifo = "adaptive_lifo" });
words!(Abandon, "abandon", { Cancel = "cancel", Finish = "finish" });
words!(Execution, "execution", { Spawn = "spawn", Caller = "caller" });
display_words!(Overflow, Order, Abandon, Execution);
