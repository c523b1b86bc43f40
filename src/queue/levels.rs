//! The priority levels, and the choice between them.

use std::time::Duration;

use super::{
    charge::{Charge, ChargeId},
    guaranteed_share::{GuaranteedShare, LEVELS},
    item::{Entry, QueueItem},
    next::Times,
    open_charges::OpenCharges,
    priority_level::PriorityLevel,
};

/// The priority levels. A dispatched request is charged to its flow, and to its level.
///
/// The highest level with something to dispatch is next. Meanwhile each other level is owed a
/// guaranteed share of the inner's time, and is next once the debt is worth a request.
#[derive(Debug)]
pub(super) struct Levels<T> {
    pub(super) each: [PriorityLevel<T>; LEVELS],
    guaranteed_share: GuaranteedShare,
    open_charges: OpenCharges,
}

/// The level to take from.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextLevel {
    pub(super) index: usize,
    /// Set if no other level has an eligible request.
    is_only: bool,
}

impl<T: QueueItem> Levels<T> {
    pub(super) fn new(guaranteed_share: f64) -> Self {
        Self {
            each: std::array::from_fn(|_| PriorityLevel::new()),
            guaranteed_share: GuaranteedShare::new(guaranteed_share),
            open_charges: OpenCharges::default(),
        }
    }

    /// The number of entries, tombstones included.
    pub(super) fn len(&self) -> usize {
        self.each.iter().map(PriorityLevel::len).sum()
    }

    /// Returns whether a level is owed anything.
    pub(super) fn is_owing(&self) -> bool {
        self.guaranteed_share.is_owing()
    }

    /// Returns the highest level with an eligible request, unless a lower level is owed the charge
    /// of its next request. Of several such levels, the level with the greatest debt is next.
    #[inline]
    pub(super) fn next(&self, times: &impl Times) -> Option<NextLevel> {
        // A bit for each level: mostly one level waits, and no other needs a look.
        let levels = self.each.iter().enumerate();
        let waiting = levels.fold(0_u32, |bits, (nth, level)| bits | bit(nth, level.may_go()));
        let first = waiting.trailing_zeros() as usize;
        match waiting {
            0 => None,
            _ if waiting.is_power_of_two() => Some(NextLevel { index: first, is_only: true }),
            _ => {
                let index = self.owed_level(times, first + 1).unwrap_or(first);
                Some(NextLevel { index, is_only: false })
            }
        }
    }

    /// Returns the level with the greatest debt, from the index `from` on, whose debt is worth a
    /// request.
    fn owed_level(&self, times: &impl Times, from: usize) -> Option<usize> {
        let share = &self.guaranteed_share;
        let mut owed: Option<usize> = None;
        for (index, level) in self.each.iter().enumerate().skip(from) {
            if !level.may_go() {
                continue;
            }
            let debt = share.owed(index);
            if debt >= level.queues.estimate(|| times.of(index))
                && owed.is_none_or(|other| share.owed(other) < debt)
            {
                owed = Some(index);
            }
        }
        owed
    }

    /// Returns whether the next request costs nothing: a single flow has no rival, and needs no
    /// charge.
    #[inline]
    pub(super) fn is_free(&self, next: NextLevel) -> bool {
        next.is_only && !self.is_owing() && !self.each[next.index].has_flows()
    }

    /// Takes the next request as [`CountedQueues::take_plain`] does, and charges flow and level.
    ///
    /// [`CountedQueues::take_plain`]: super::counted_queues::CountedQueues::take_plain
    #[inline]
    pub(super) fn take_plain(
        &mut self,
        times: &impl Times,
        is_mine: impl FnOnce(&T) -> bool,
    ) -> Option<Option<(Entry<T>, Charge)>> {
        let next = self.next(times)?;
        let is_free = self.is_free(next);
        let queues = &mut self.each[next.index].queues;
        let taken = queues.take_plain(|| times.of(next.index), is_free, is_mine)?;
        Some(taken.map(|(entry, charge)| (entry, self.charge(next, charge, is_free))))
    }

    /// Completes the charge of a request taken from the `next` level: charges the level, and opens
    /// the charge, unless the request `is_free`.
    #[inline]
    pub(super) fn charge(&mut self, next: NextLevel, charge: Charge, is_free: bool) -> Charge {
        let NextLevel { index, is_only } = next;
        let mut charge = Charge { level: index as u8, ..charge };
        if is_free {
            return charge;
        }
        let is_waiting = |level: usize| self.each[level].may_go();
        let paid = self.guaranteed_share.on_dispatch(index, charge.nanos, is_only, is_waiting);
        charge.paid = paid as f32;
        if self.each[index].has_flows() {
            charge.id = self.open_charges.open(charge);
        }
        charge
    }

    /// Takes back the charge of a request after its dispatch failed.
    pub(super) fn refund(&mut self, charge: &Charge) {
        self.keep_charge(charge);
        let level = usize::from(charge.level);
        self.each[level].queues.refund(charge);
        self.guaranteed_share.refund(level, charge.nanos, f64::from(charge.paid));
    }

    /// Closes the charge of a dispatched request as an estimate: the real time will not be known.
    pub(super) fn keep_charge(&mut self, charge: &Charge) {
        charge.id.and_then(|id| self.open_charges.close(id));
    }

    /// Corrects a charge by the real time of the request.
    pub(super) fn settle(&mut self, id: ChargeId, service_time: Duration) {
        if let Some(charge) = self.open_charges.close(id) {
            self.each[usize::from(charge.level)].queues.settle(&charge, service_time);
        }
    }
}

fn bit(nth: usize, is_set: bool) -> u32 {
    u32::from(is_set) << nth
}
