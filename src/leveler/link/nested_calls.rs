use std::{fmt, sync::Arc};

use super::job::Job;
use crate::queue::InnerId;

/// Nested calls in the queue whose wait nothing bounds, each with the inner. Some may have gone.
///
/// A call put back by a task that hands on may be listed twice.
#[derive(Default)]
pub(crate) struct NestedCalls(Vec<(InnerId, Arc<dyn Job>)>);

impl NestedCalls {
    pub(crate) fn push(&mut self, inner: InnerId, job: Arc<dyn Job>) {
        self.0.push((inner, job));
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Moves the calls of `other` to the end.
    #[inline]
    pub(crate) fn append(&mut self, other: &mut Self) {
        if !other.is_empty() {
            self.append_some(other);
        }
    }

    #[cold]
    fn append_some(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// Drops the calls that have left for good. A call in hand may be put back.
    #[inline(never)]
    pub(crate) fn sweep(&mut self) {
        self.0.retain(|(_, job)| !job.has_left());
    }

    /// Takes the calls that must not wait on: all, or those without a chance to go. Drops the calls
    /// that no longer wait.
    pub(crate) fn take_if(
        &mut self,
        mut is_taken: impl FnMut(InnerId, &dyn Job) -> bool,
    ) -> Vec<Arc<dyn Job>> {
        let (mut taken, mut kept) = (Vec::new(), Vec::new());
        for (inner, job) in self.0.drain(..).filter(|(_, job)| !job.is_gone()) {
            match is_taken(inner, &*job) {
                true => taken.push(job),
                false => kept.push((inner, job)),
            }
        }
        self.0 = kept;
        taken
    }
}

impl fmt::Debug for NestedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NestedCalls").field(&self.0.len()).finish()
    }
}
