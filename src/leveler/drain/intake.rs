use std::{
    collections::BTreeSet,
    mem,
    task::{Context, Poll},
    time::Duration,
};

use crate::{leveler::link::Link, queue::ChargeId};

/// Takes in the input from other threads.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Empty between two polls. Kept to reuse the memory.
    settlements: Vec<(ChargeId, Duration)>,
}

/// The findings of an intake.
#[derive(Debug)]
pub(super) struct Found {
    /// Set if the channel is closed and empty.
    pub(super) is_closed: bool,
    /// Set if any request may be late.
    pub(super) has_late: bool,
}

impl Intake {
    /// Takes in the measured times of finished calls, the wake-ups of inner services, and new
    /// requests.
    pub(super) fn take(&mut self, link: &Link, cx: &mut Context<'_>) -> Found {
        let mut woken = BTreeSet::new();
        link.woken.swap(&mut woken);
        let mut settlements = mem::take(&mut self.settlements);
        link.settlements.swap(&mut settlements);
        let mut backlog = link.backlog();
        settlements.drain(..).for_each(|(charge, time)| backlog.queue.settle(charge, time));
        woken.into_iter().for_each(|inner| backlog.queue.wake(inner));
        let is_closed = matches!(backlog.take_in(cx), Poll::Ready(()));
        let has_late = backlog.queue.next_late().is_some();
        drop(backlog);
        self.settlements = settlements;
        Found { is_closed, has_late }
    }
}
