//! Places taken by `poll_ready` for the following call, under `Overflow::Wait`.

use std::time::Duration;

use super::{
    Grantor,
    bound::{Denied, Taken},
};

/// The reservation of a ready service, under `Overflow::Wait`.
#[derive(Debug)]
pub(crate) enum Reserved<G: Grantor> {
    Place(Reservation<G>),
    /// The leveler was closed, and no place is held. The following call returns the refusal.
    Nothing,
    /// The service has waited up to the wait limit, and no place is held. The following call
    /// returns the refusal. An error of `poll_ready` would make callers discard the service.
    TimedOut(Duration),
}

/// A place held for a call. Given back in `Drop`.
#[derive(Debug)]
pub(crate) struct Reservation<G: Grantor> {
    /// `None` once the place was used.
    grantor: Option<G>,
}

impl<G: Grantor> Reserved<G> {
    /// Returns whether a place is held.
    pub(crate) fn is_place(&self) -> bool {
        matches!(self, Self::Place(_))
    }

    /// Reserves a place, or returns `None` if all are taken. Calls `owner` only for a place.
    pub(crate) fn take(from: &super::Admission, owner: impl FnOnce() -> G) -> Option<Self> {
        match from.bound.reserve() {
            Ok(()) => Some(Self::Place(Reservation { grantor: Some(owner()) })),
            Err(Denied::Closed) => Some(Self::Nothing),
            Err(Denied::Full) => None,
        }
    }
}

impl<G: Grantor> Reservation<G> {
    /// Uses the place, with a slot if `direct` is wanted and the request need not wait. `Err` if
    /// the leveler has been closed since; then the place was given back.
    pub(super) fn redeem(mut self, direct: bool) -> Result<Taken, Denied> {
        let Some(grantor) = self.grantor.take() else { return Err(Denied::Closed) };
        let admission = grantor.admission();
        admission.bound.use_reservation(direct).inspect_err(|_| {
            let after = admission.bound.release_waiting(1);
            admission.listeners.on_place_free(after, admission.bound.reserved());
        })
    }
}

impl<G: Grantor> Drop for Reservation<G> {
    #[inline]
    fn drop(&mut self) {
        if let Some(grantor) = self.grantor.take() {
            give_back(grantor);
        }
    }
}

#[cold]
fn give_back<G: Grantor>(grantor: G) {
    let admission = grantor.admission();
    admission.bound.end_reservation();
    let after = admission.bound.release_waiting(1);
    admission.listeners.on_place_free(after, admission.bound.reserved());
}
