use super::Admission;

/// The cost that was admitted over the bound, and for which the drain task evicts as much.
///
/// What has not been evicted goes back to the admission in `Drop`: the next eviction will do it.
#[derive(Debug)]
pub(crate) struct Overrun<'a> {
    admission: &'a Admission,
    left: usize,
}

impl<'a> Overrun<'a> {
    /// Takes over the cost admitted over the bound since this was last done.
    pub(crate) fn take(admission: &'a Admission) -> Self {
        Self { admission, left: admission.places.take_overrun() }
    }

    /// Returns whether no more needs to be evicted on behalf of those admitted over the bound.
    pub(crate) fn is_settled(&self) -> bool {
        self.left == 0
    }

    /// Takes note that so much cost was evicted.
    pub(crate) fn on_evicted(&mut self, cost: usize) {
        self.left = self.left.saturating_sub(cost);
    }

    /// Forgets the rest: nothing is over the bound any more.
    pub(crate) fn forgive(mut self) {
        self.left = 0;
    }
}

impl Drop for Overrun<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.admission.places.add_overrun(self.left);
        }
    }
}
