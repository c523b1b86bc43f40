//! Settings that are one of a few.

/// What happens to a newcomer when no place is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// It is refused at once, with [`Reason::Full`](crate::error::Reason::Full). For servers.
    #[default]
    Reject,
    /// `poll_ready` waits until there is a place, and reserves it until `call` or until the service is
    /// dropped. For clients that can slow down. A `call` without `poll_ready` is still decided at once.
    ///
    /// `poll_ready` does not know the request that will come: it waits for one place. A request of a higher
    /// [cost](crate::Class::cost) may be refused all the same, and one that [bypasses](crate::Class::bypass)
    /// the queue has waited for a place that it does not need.
    Wait,
    /// It is admitted, and the oldest request that waits is removed with
    /// [`Reason::Evicted`](crate::error::Reason::Evicted). When nobody waits, the newcomer is refused.
    /// For work that loses its value with age.
    EvictOldest,
}

/// In which order requests leave the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Oldest first: fair, and right as long as the queue is short.
    #[default]
    Fifo,
    /// Newest first. The old ones wait until the queue is empty, or until they are late: set a
    /// [`max_wait`](crate::Builder::max_wait) or deadlines with it.
    Lifo,
    /// Oldest first while the queue is short, newest first while it stands: when requests at its head have
    /// waited longer than [`lifo_after`](crate::Builder::lifo_after). Under overload those served are served fast,
    /// and those that wait in vain are the ones who have waited too long already. Not for clients that need
    /// their requests in order. Set a [`max_wait`](crate::Builder::max_wait) or deadlines with it.
    AdaptiveLifo,
}

/// What happens to a call whose caller drops its future.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abandon {
    /// Its work is dropped too: a request that waits never reaches the inner, and the future of one that
    /// runs is dropped. One that need not wait may have been done when `call` returns: see [`Execution::Spawn`].
    #[default]
    Cancel,
    /// It is done all the same: for work that must not stop half way, and for fire-and-forget.
    Finish,
}

/// Who polls the inner's futures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Execution {
    /// A task of its own for each call, so that inner calls use every core, and a caller that stops polling holds
    /// nobody up; but for calls that need none.
    ///
    /// One direct call in sixteen is measured. While at least a quarter are ready at their first poll, and first polls take
    /// no more than 10 µs on average, those that need not wait are polled once in
    /// [`LoadLevel::call`](crate::LoadLevel), and get a task only if they are not ready. That poll is made in the task
    /// of the caller, and sees its task-locals; calls that are made together have their first polls one after the
    /// other; and no lock that the inner's future takes may be held over `call`. A call gets a task always when it is
    /// made outside of one (as in the body of `#[tokio::main]`), when it goes past the queue, when it is made by
    /// another inner's `call` or from within such a first poll, and when the
    /// [`runtime`](crate::Builder::runtime) of the layer was set.
    #[default]
    Spawn,
    /// The caller, as with tower's `Buffer`: the least overhead. **A caller that keeps its future and does
    /// not poll it keeps its slot, and is never answered.** Not possible with [`Abandon::Finish`].
    Caller,
}
