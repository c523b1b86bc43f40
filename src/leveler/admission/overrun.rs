use super::Admission;

/// Cost admitted over the bound. The drain task evicts as much.
///
/// `Drop` returns the part not evicted to the admission, for the next eviction.
#[derive(Debug)]
pub(crate) struct Overrun<'a> {
    admission: &'a Admission,
    left: usize,
}

impl<'a> Overrun<'a> {
    /// Takes over the cost admitted over the bound since the last call.
    pub(crate) fn take(admission: &'a Admission) -> Self {
        Self { admission, left: admission.bound.take_overrun() }
    }

    /// Returns whether enough was evicted for the requests admitted over the bound.
    pub(crate) fn is_settled(&self) -> bool {
        self.left == 0
    }

    /// Takes note of an eviction.
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
            self.admission.bound.add_overrun(self.left);
        }
    }
}
