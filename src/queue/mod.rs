//! The queue: the waiting requests, in the order of dispatch, with the instants of their expiry.
//!
//! Plain structs without clock, lock, atomics or `await`. The time is an argument, so the tests
//! need no runtime. From the outside in:
//!
//! - [`Queue`] holds all waiting requests: in a [`FairQueue`](fair_queue::FairQueue) for the order,
//!   and in an [`Expiry`](expiry::Expiry) for the instants at which requests become late. A gone
//!   request leaves a tombstone in both, dropped later.
//! - [`FairQueue`](fair_queue::FairQueue) has [`Levels`](levels::Levels), one for each priority.
//!   Higher levels are first, and each lower level keeps a
//!   [`GuaranteedShare`](guaranteed_share::GuaranteedShare) of the inner's time. While all requests
//!   are alike, an [`ArrivalOrder`](arrival_order::ArrivalOrder) holds them instead.
//! - [`PriorityLevel`](priority_level::PriorityLevel) is fair between flows, by start-time fair
//!   queueing. Its [`CountedQueues`](counted_queues::CountedQueues) have [`Turns`](turns::Turns),
//!   in the order of the inner's time each queue has had, in a
//!   [`VirtualTimeHeap`](virtual_time_heap::VirtualTimeHeap). A dispatch is [charged](Charge) by an
//!   estimate, and the real time corrects the charge when the call ends (as in Kubernetes' API
//!   Priority and Fairness, KEP-1040, and in the virtual token counter of OSDI '24). A full queue
//!   evicts from the [`LongestQueue`](longest_queue::LongestQueue). Both orders are
//!   [`QueueHeap`](queue_heap::QueueHeap)s.
//! - [`FlowLimit`](flow_limit::FlowLimit) counts the slots of each flow, and knows the flows to
//!   pass over: the whole of a dedicated queue, or requests parked in a shared one.
//! - [`FlowTable`](flow_table::FlowTable) finds the queue of a flow. Frequent flows have dedicated
//!   queues; [`HeavyHitters`](heavy_hitters::HeavyHitters) recognizes them by the majority vote of
//!   Boyer and Moore. All other flows share queues by shuffle sharding (KEP-1040).
//! - [`RequestDeque`](request_deque::RequestDeque) are the requests of a queue.
//!   [`AdaptiveLifo`](adaptive_lifo::AdaptiveLifo) chooses the end to take from,
//!   [`ControlledDelay`](controlled_delay::ControlledDelay) removes requests from a standing queue
//!   (as folly's `Codel` does), and [`Parked`](parked::Parked) holds the requests of unready
//!   inners, and of held flows in shared queues.
//!
//! Imports run one way, from `queue` down to the leaves `item`, `charge` and `rules`.

mod adaptive_lifo;
mod arrival_order;
mod charge;
mod controlled_delay;
mod counted_queues;
mod eviction;
mod expiry;
mod fair_queue;
mod flow_limit;
mod flow_queue;
mod flow_table;
mod guaranteed_share;
mod heavy_hitters;
mod in_use;
mod item;
mod level_summary;
mod levels;
mod longest_queue;
mod next;
mod oldest;
mod open_charges;
mod parked;
mod priority_level;
#[expect(clippy::module_inception, reason = "it is the file of the type `Queue`")]
mod queue;
mod queue_heap;
mod request_deque;
mod rules;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tombstones;
mod turns;
mod virtual_time_heap;

pub(crate) use self::{
    adaptive_lifo::MIN_THRESHOLD,
    charge::{Charge, ChargeId},
    flow_limit::FlowRight,
    item::{Entry, InnerId, QueueItem},
    level_summary::{Gone, LevelSummary, LongestFlow, PassedOver},
    next::{Next, Times, Victim},
    queue::Queue,
    rules::Rules,
};
