use super::Admission;

/// The turn, until dropped. Direct admissions, kept away since a slot was taken, are let through
/// again before the end.
#[derive(Debug)]
pub(crate) struct OnTurn<'a>(&'a Admission);

impl<'a> OnTurn<'a> {
    /// Takes the turn if free.
    #[inline]
    pub(crate) fn try_take(admission: &'a Admission) -> Option<Self> {
        admission.turn.try_take().then_some(Self(admission))
    }

    /// Takes the turn. `None` if already taken: the holder lets the drain task look again.
    pub(crate) fn take(admission: &'a Admission) -> Option<Self> {
        admission.turn.take_or_mark().then_some(Self(admission))
    }
}

impl Drop for OnTurn<'_> {
    #[inline]
    fn drop(&mut self) {
        let Self(admission) = self;
        admission.bound.end_dispatching();
        if admission.turn.end() {
            admission.listeners.drain.wake();
        }
    }
}

#[cfg(all(test, shuttle))]
mod models;
