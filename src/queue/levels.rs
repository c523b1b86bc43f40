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
    accounts: Accounts,
}

/// The debts to the levels, and the charges of running calls.
#[derive(Debug)]
struct Accounts {
    guaranteed_share: GuaranteedShare,
    open_charges: OpenCharges,
}

impl Accounts {
    /// Charges the `next` level, and opens the charge if the level `has_flows`.
    #[inline(always)]
    fn charge(&mut self, next: NextLevel, charge: &mut Charge, has_flows: bool) {
        let is_waiting = |level| next.is_waiting(level);
        let share = &mut self.guaranteed_share;
        charge.paid =
            share.on_dispatch(next.index, charge.nanos, next.is_only(), is_waiting) as f32;
        if has_flows {
            charge.id = self.open_charges.open(charge);
        }
    }
}

/// The level to take from.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextLevel {
    pub(super) index: usize,
    /// The levels with an eligible request, a bit each.
    waiting: u32,
}

impl NextLevel {
    /// Returns whether no other level has an eligible request.
    #[inline]
    fn is_only(self) -> bool {
        self.waiting.is_power_of_two()
    }

    #[inline]
    fn is_waiting(self, level: usize) -> bool {
        self.waiting >> level & 1 == 1
    }
}

impl<T: QueueItem> Levels<T> {
    pub(super) fn new(guaranteed_share: f64) -> Self {
        let guaranteed_share = GuaranteedShare::new(guaranteed_share);
        let accounts = Accounts { guaranteed_share, open_charges: OpenCharges::default() };
        Self { each: std::array::from_fn(|_| PriorityLevel::new()), accounts }
    }

    /// The number of entries, tombstones included.
    pub(super) fn len(&self) -> usize {
        self.each.iter().map(PriorityLevel::len).sum()
    }

    /// Returns whether a level is owed anything.
    pub(super) fn is_owing(&self) -> bool {
        self.accounts.guaranteed_share.is_owing()
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
            _ if waiting.is_power_of_two() => Some(NextLevel { index: first, waiting }),
            _ => {
                let index = self.owed_level(times, first + 1).unwrap_or(first);
                Some(NextLevel { index, waiting })
            }
        }
    }

    /// Returns the level with the greatest debt, from the index `from` on, whose debt is worth a
    /// request.
    fn owed_level(&self, times: &impl Times, from: usize) -> Option<usize> {
        let share = &self.accounts.guaranteed_share;
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
        next.is_only() && !self.is_owing() && !self.each[next.index].has_flows()
    }

    /// Takes the next request and charges flow and level, if the request is live, only the order of
    /// arrival decides within the flow, and `is_mine` returns true for the request: `Some(None)` if
    /// not mine. `None` leaves the choice to others.
    #[inline(always)]
    pub(super) fn take_plain(
        &mut self,
        times: &impl Times,
        is_mine: impl FnOnce(&T) -> bool,
    ) -> Option<Option<(Entry<T>, Charge)>> {
        let next = self.next(times)?;
        let is_free = self.is_free(next);
        let queues = &mut self.each[next.index].queues;
        let charge = queues.charge_plain(|| times.of(next.index), is_free, is_mine)?;
        let Some(mut charge) = charge else { return Some(None) };
        self.complete(next, &mut charge, is_free);
        let entry = self.each[next.index].queues.pop_charged(&charge);
        Some(entry.map(|entry| (entry, charge)))
    }

    /// Completes the charge of a request taken from the `next` level, unless the request `is_free`.
    #[inline(always)]
    pub(super) fn complete(&mut self, next: NextLevel, charge: &mut Charge, is_free: bool) {
        charge.level = next.index as u8;
        if !is_free {
            self.accounts.charge(next, charge, self.each[next.index].has_flows());
        }
    }

    /// Takes back the charge of a request after its dispatch failed.
    pub(super) fn refund(&mut self, charge: &Charge) {
        self.keep_charge(charge);
        let level = usize::from(charge.level);
        self.each[level].queues.refund(charge);
        self.accounts.guaranteed_share.refund(level, charge.nanos, f64::from(charge.paid));
    }

    /// Closes the charge of a dispatched request as an estimate: the real time will not be known.
    pub(super) fn keep_charge(&mut self, charge: &Charge) {
        charge.id.and_then(|id| self.accounts.open_charges.close(id));
    }

    /// Corrects a charge by the real time of the request.
    pub(super) fn settle(&mut self, id: ChargeId, service_time: Duration) {
        if let Some(charge) = self.accounts.open_charges.close(id) {
            self.each[usize::from(charge.level)].queues.settle(&charge, service_time);
        }
    }
}

fn bit(nth: usize, is_set: bool) -> u32 {
    u32::from(is_set) << nth
}
