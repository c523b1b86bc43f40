//! The decision: to run, to wait, or to be refused.

use std::time::Duration;

use super::{
    Admission, Grantor,
    arrival::Arrival,
    bound::{Denied, Taken},
    place::Place,
    prediction::predictor::{Load, Prediction},
    queue_size::QueueSize,
    refusal::Refusal,
    reservation::Reserved,
    slot::Slot,
};
use crate::{
    class::{NO_FLOW, Rank},
    leveler::link::backlog::MAX_OVERRUN,
    options::Order,
    retry_after::Estimate,
};

/// The right of an admitted request.
#[derive(Debug)]
pub(crate) enum Admitted<'a> {
    /// Nothing waits and a slot is free: the request is dispatched at once.
    Run(Slot<&'a Admission>),
    /// The request waits in the queue.
    Wait(Place<&'a Admission>),
}

/// Admits a request, or returns the reason for the refusal. Uses the reserved place, if any.
#[inline(always)]
pub(crate) fn admit<'a, G: Grantor>(
    admission: &'a Admission,
    arrival: &mut Arrival,
    reserved: Option<Reserved<G>>,
) -> Result<Admitted<'a>, Refusal> {
    if let Some(Reserved::TimedOut(waited)) = reserved {
        return Err(Refusal::MaxWait { waited });
    }
    if let Some(left) = arrival.left {
        predict(admission, arrival, left)?;
    }
    let limit = admission.limit();
    let is_slot_free = || admission.counts().in_flight() < limit;
    let Admission { shedder, occupancy, flow_limit, .. } = admission;
    if !shedder.admits(arrival, limit, occupancy, flow_limit, is_slot_free) {
        return Err(Refusal::CutOff);
    }
    match take(admission, arrival, reserved) {
        Ok(Taken::Slots(slots)) => Ok(Admitted::Run(Slot::new(admission, slots))),
        Ok(Taken::Places) => Ok(Admitted::Wait(Place::waiting(Some(admission), arrival.rank))),
        Err(Denied::Full) => Err(Refusal::Full),
        Err(Denied::Closed) => Err(Refusal::Closed),
    }
}

/// Admits a request that bypasses the queue, within the bypass budget.
pub(crate) fn admit_bypass(admission: &Admission) -> Result<Slot<&Admission>, Refusal> {
    if admission.counts().is_closed() {
        return Err(Refusal::Closed);
    }
    Slot::bypass(admission).ok_or(Refusal::Bypass)
}

/// Refuses a late newcomer, or a newcomer predicted to miss its deadline. The prediction adds the
/// service time of like requests to the wait for the work ahead. The wait counts only in FIFO
/// order, without overtaking.
#[inline(never)]
fn predict(admission: &Admission, arrival: &mut Arrival, left: Duration) -> Result<(), Refusal> {
    if left.is_zero() {
        return Err(Refusal::Late);
    }
    if is_surely_in_time(admission, arrival, left) {
        return Ok(());
    }
    predict_exactly(admission, arrival, left)
}

/// Predicts without the shortcut of [`is_surely_in_time`].
#[inline(never)]
fn predict_exactly(
    admission: &Admission,
    arrival: &mut Arrival,
    left: Duration,
) -> Result<(), Refusal> {
    let (now, counts) = (arrival.now(), admission.counts());
    let (mut wait, mut others_wait) = (Duration::ZERO, counts.in_flight() >= admission.limit());
    if admission.occupancy.queued() > 0 {
        // Not for those that wait for something other than a slot, nor for reserved places.
        others_wait |= admission.occupancy.eligible() > 0;
        if admission.order == Order::Fifo {
            wait = wait_of(admission, arrival.rank);
        }
    }
    let (in_flight, limit) = (counts.in_flight(), admission.exact_limit());
    let load = Load { others_wait, is_newcomer: true, in_flight, limit, now };
    match admission.predictor.predict(arrival.like(), wait, left, load) {
        Prediction::InTime => {}
        Prediction::Probe => arrival.is_probe = true,
        Prediction::TooLate { by_itself } => return Err(Refusal::WouldMiss { by_itself }),
    }
    Ok(())
}

/// Returns whether a newcomer would be in time even if the call were slow, and all the waiting
/// weight went first, in requests of cost 1. Spares most newcomers the exact look.
#[inline]
fn is_surely_in_time(admission: &Admission, arrival: &Arrival, left: Duration) -> bool {
    let Admission { predictor, flow_limit, .. } = admission;
    if flow_limit.get().is_some() {
        // A flow may wait longer for its own calls than for all waiting requests.
        return false;
    }
    let wait = match admission.counts().waiting() {
        0 => 0.0,
        // The cast is exact: all places together number less than 2^32.
        weight => predictor.nanos_for(weight as u32, admission.exact_limit()),
    };
    predictor.surely_ends(arrival.like(), wait, left)
}

/// Returns the time for the work ahead of a newcomer. Requests of flows at their limit and of
/// unready inners are not ahead: they are passed over.
fn wait_of(admission: &Admission, rank: Rank) -> Duration {
    let Admission { occupancy, predictor, flow_limit, .. } = admission;
    let limit = admission.exact_limit();
    let flow_limit = flow_limit.get();
    let ahead = occupancy.ahead_of(rank);
    let wait = duration(predictor.time_for(ahead, limit));
    let Some(most) = flow_limit.filter(|_| rank.flow != NO_FLOW) else { return wait };
    let own = occupancy.size_of_flow(rank);
    wait.max(duration(predictor.time_for_flow(own, limit.min(most as f64))))
}

/// Returns the time until the queue has drained for a newcomer of this rank. `all` is the whole
/// queue. Passed-over requests do not count, but for the flow's own if flows are limited.
#[inline(always)]
pub(crate) fn drain_time(admission: &Admission, all: QueueSize, rank: Rank) -> Estimate {
    let eligible = admission.occupancy.eligible_of(all);
    let time = admission.predictor.time_for(eligible, admission.exact_limit());
    if rank.flow == NO_FLOW { time } else { time.longer(drain_time_of_flow(admission, rank)) }
}

/// Returns the time until the newcomer's flow has drained, if flows are limited.
#[inline(never)]
fn drain_time_of_flow(admission: &Admission, rank: Rank) -> Estimate {
    let Admission { occupancy, predictor, flow_limit, .. } = admission;
    let Some(most) = flow_limit.get() else { return Estimate::Unknown };
    let limit = admission.exact_limit().min(most as f64);
    predictor.time_for_flow(occupancy.size_of_flow(rank), limit)
}

/// Returns an estimate as a duration, and zero if unknown.
#[inline]
fn duration(estimate: Estimate) -> Duration {
    let seconds = estimate.seconds().unwrap_or(0.0);
    // Beyond five centuries, a wait is as long as any.
    Duration::from_nanos((f64::from(seconds) * 1e9 + 0.5) as u64)
}

#[inline(always)]
fn take<G: Grantor>(
    admission: &Admission,
    arrival: &Arrival,
    reserved: Option<Reserved<G>>,
) -> Result<Taken, Denied> {
    let direct = !admission.is_paced() && !admission.flow_limit.concerns(arrival.rank);
    let cost = arrival.rank.cost as usize;
    if let Some(Reserved::Place(reservation)) = reserved {
        if cost == 1 {
            return reservation.redeem(direct);
        }
    }
    match admission.bound.take(cost, direct, 0) {
        // Requests in the queue may have to give way.
        Err(Denied::Full) if admission.counts().waiting() > 0 => {
            take_over_bound(admission, arrival.rank, direct)
        }
        taken => taken,
    }
}

/// Admits over the bound, if requests in the full queue have to give way.
fn take_over_bound(admission: &Admission, rank: Rank, direct: bool) -> Result<Taken, Denied> {
    let has_held = admission.flow_limit.get().is_some();
    match admission.occupancy.yields_to(rank, admission.overflow, has_held) {
        0 => Err(Denied::Full),
        cost => admission.bound.take(rank.cost as usize, direct, cost.min(MAX_OVERRUN)),
    }
}
