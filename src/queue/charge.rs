//! The price of a dispatch, in nanoseconds of the inner's time.

use std::{num::NonZeroU32, time::Duration};

use super::{flow_limit::FlowRight, item::QueueId};

/// The record of a charge: how much a dispatched request was charged, and which queue paid.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Charge {
    /// The index of the priority level.
    pub(super) level: u8,
    pub(super) queue: QueueId,
    /// The generation of the queue. If the generation has changed, the paying queue is gone.
    pub(super) generation: u32,
    /// The amount: an estimate, in nanoseconds of one slot, times the cost.
    pub(super) nanos: u64,
    pub(super) cost: u32,
    /// The weight of the flow: the queue has paid the amount divided by the weight.
    pub(super) share: u16,
    /// The part of the amount that the level's guaranteed share covered, in nanoseconds.
    pub(super) paid: f32,
    /// The number of expiries [taken out](super::expiry::Expiry::taken) before the request was
    /// popped. If the number has changed, the request may have lost its expiry.
    pub(super) expiries: u32,
    /// The id of the open charge, until the real time is known. `None` without other flows: an
    /// exact charge would then change nothing.
    pub(crate) id: Option<ChargeId>,
    /// The right to run in the flow, under a limit for each flow. The running call takes the right
    /// out.
    pub(crate) right: Option<FlowRight>,
}

/// Names an open charge. Four bytes, since each running call carries an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChargeId(NonZeroU32);

impl ChargeId {
    #[inline]
    pub(super) fn new(number: NonZeroU32) -> Self {
        Self(number)
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The mean service time of a queue's requests at cost 1, in nanoseconds, once any has finished.
///
/// A dispatch is charged by the estimate, and the real time corrects the charge afterwards (as in
/// KEP-1040, and in the virtual token counter of OSDI '24).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Estimate(Option<f64>);

/// The charge when neither the queue nor its priority has a mean: 3 ms, as in KEP-1040.
const DEFAULT_CHARGE: f64 = 3e6;

/// The least charge: 1 µs, before and after the real time is known. If requests were free, a flow
/// could go on for ever. Shorter calls are charged alike.
const MIN_CHARGE: f64 = 1e3;

/// The weight of a new sample in the mean.
const SAMPLE_WEIGHT: f64 = 0.1;

impl Estimate {
    /// The charge of a request of cost 1. `service` is the mean service time of the priority.
    #[inline]
    pub(super) fn nanos(self, service: impl FnOnce() -> Option<Duration>) -> f64 {
        let mean = self.0.or_else(|| service().map(|service| service.as_secs_f64() * 1e9));
        mean.unwrap_or(DEFAULT_CHARGE).max(MIN_CHARGE)
    }

    /// Takes in the real time of a request of cost `cost`. Returns the final charge.
    #[inline]
    pub(super) fn settle(&mut self, service_time: Duration, cost: u32) -> u64 {
        let nanos = service_time.as_secs_f64() * 1e9;
        let mean = self.0.unwrap_or(nanos);
        self.0 = Some(mean + SAMPLE_WEIGHT * (nanos - mean));
        whole(nanos.max(MIN_CHARGE) * f64::from(cost))
    }
}

/// Returns a charge in whole nanoseconds. By way of `i64`, which takes half the instructions: three
/// centuries are enough.
#[inline]
pub(super) fn whole(nanos: f64) -> u64 {
    nanos as i64 as u64
}
