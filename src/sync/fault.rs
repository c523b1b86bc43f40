//! Faults on purpose: a model has to find each.

/// A mistake in the order of steps, at one place of the code. Nothing is planted but by a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Places and slots are taken by a load and a store.
    TakenInTwoSteps,
    /// The limit is not looked at again after a slot was taken.
    LimitSeenOnce,
    /// A newcomer runs although a queued request is on the way to its inner.
    Overtaken,
    /// A reservation that was used still counts as one.
    ReservationStays,
    /// A caller that leaves its waker does not look again whether the answer came meanwhile.
    AnswerSeenOnce,
    /// A request is put back although its caller has gone.
    PutBackForNobody,
    /// A worker is not told that its caller has gone.
    WorkerNotTold,
    /// The wake-up flag is set after the wake-up.
    FlagSetLate,
    /// A place that a woken service leaves free is offered to nobody else.
    OfferedOnce,
    /// The drain task moves to another runtime while it is polled.
    MovedWhilePolled,
    /// A standby that leaves does not look again whether a request has come.
    StandbyLooksOnce,
    /// A task that finds the turn to dispatch taken leaves no mark for the holder.
    TurnMissed,
    /// A task whose call has ended neither makes the next call nor wakes the drain task.
    HandedToNobody,
    /// A drain task that dies answers those who wait before it says that it is gone.
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
    /// The planted fault. A scheduler plays all threads of a model on one.
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
