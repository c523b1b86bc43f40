//! Planted faults: a model has to find each.

/// A mistake in the order of steps, at one place of the code. Only models plant faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The caller takes a place or a slot by a load and a store.
    TakenInTwoSteps,
    /// The caller does not look at the limit again after taking a slot.
    LimitSeenOnce,
    /// A newcomer runs although a queued request is on the way to its inner.
    Overtaken,
    /// A used reservation still counts as a reservation.
    ReservationStays,
    /// A caller registers a waker and does not look again for an answer sent meanwhile.
    AnswerSeenOnce,
    /// A request is put back although its caller has gone.
    PutBackForNobody,
    /// A worker is not told that its caller has gone.
    WorkerNotTold,
    /// The wake-up flag is set after the wake-up.
    FlagSetLate,
    /// A woken service that leaves a place free offers the place to no other service.
    OfferedOnce,
    /// The drain task moves to another runtime while being polled.
    MovedWhilePolled,
    /// A standby leaves without looking again for a new request.
    StandbyLooksOnce,
    /// A task that finds the turn to dispatch taken leaves no mark for the holder.
    TurnMissed,
    /// A task whose call has ended neither makes the next call nor wakes the drain task.
    HandedToNobody,
    /// A watcher registers a waker although the notification has come since the last look.
    NoticeOverlooked,
    /// A task that was idle ends without a word to those who may give it work.
    EndedUntold,
    /// A dying drain task answers the waiting callers before saying that it is gone.
    DeathToldLate,
}

/// Returns whether a model has planted the fault.
#[cfg(not(shuttle))]
#[inline(always)]
pub(crate) const fn is_planted(_: Fault) -> bool {
    false
}

#[cfg(shuttle)]
std::thread_local! {
    /// The planted fault. The scheduler plays all threads of a model on one thread.
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Returns whether a model has planted the fault.
#[cfg(shuttle)]
pub(crate) fn is_planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Plants a fault, or removes it.
#[cfg(all(test, shuttle))]
pub(crate) fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}
