//! What a round is like: drawn from its seed.

use std::time::Duration;

use tower_load_leveling::{Abandon, Execution, Order, Overflow};

use crate::rng::Rng;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) round: u64,
    pub(crate) capacity: usize,
    pub(crate) limit: usize,
    /// The highest limit in the round.
    pub(crate) highest: usize,
    pub(crate) overflow: Overflow,
    pub(crate) order: Order,
    pub(crate) execution: Execution,
    pub(crate) abandon: Abandon,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) bypass_limit: usize,
    pub(crate) has_bypass: bool,
    /// An algorithm that draws its limits decides.
    pub(crate) is_adaptive: bool,
    /// Settings change while calls are made.
    pub(crate) changes: bool,
    /// Costs above 1.
    pub(crate) has_costs: bool,
    pub(crate) has_classes: bool,
    pub(crate) has_panics: bool,
    /// Calls of the own leveler, made by the inner services.
    pub(crate) has_nested: bool,
    /// A subscriber of `tracing` that panics now and then.
    pub(crate) has_rough_subscriber: bool,
    /// One of the inner services dies.
    pub(crate) has_dying_inner: bool,
    /// A runtime is shut down while its calls are under way.
    pub(crate) has_mortal_runtime: bool,
    /// A runtime makes some calls, and is not driven any more.
    pub(crate) has_idle_runtime: bool,
    pub(crate) end: End,
    /// The time of the round, while calls are made.
    pub(crate) time: Duration,
    pub(crate) callers: u64,
    /// How often an inner sleeps, in calls.
    pub(crate) sleeps_one_in: u64,
}

/// The end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All calls end, and the leveler is used again.
    Rest,
    Close,
    Drain,
    /// All calls are dropped.
    Drop,
}

impl Plan {
    /// Puts in, or leaves out, what is named.
    pub(crate) fn having(mut self, wanted: &[(String, bool)]) -> Self {
        for (what, is_wanted) in wanted {
            match what.as_str() {
                "idle" => self.has_idle_runtime = *is_wanted,
                "mortal" => self.has_mortal_runtime = *is_wanted,
                "rough" => self.has_rough_subscriber = *is_wanted,
                "nested" => self.has_nested = *is_wanted,
                "dying" => self.has_dying_inner = *is_wanted,
                other => panic!("there is no {other}"),
            }
        }
        self
    }

    pub(crate) fn draw(seed: u64, round: u64) -> Self {
        let mut rng = Rng::new((seed, round));
        let limit = rng.pick(&[1, 1, 2, 3, 8, 64]);
        let (changes, is_adaptive) = (rng.one_in(2), rng.one_in(4));
        let abandon = rng.pick(&[Abandon::Cancel, Abandon::Cancel, Abandon::Finish]);
        let execution = rng.pick(&[Execution::Spawn, Execution::Caller]);
        let max_waits = [None, None, Some(1), Some(20)];
        Self {
            seed,
            round,
            capacity: rng.pick(&[0, 1, 4, 30, 300, 3000]),
            limit,
            highest: if changes || is_adaptive { limit.max(8) } else { limit },
            overflow: rng.pick(&[Overflow::Reject, Overflow::Wait, Overflow::EvictOldest]),
            order: rng.pick(&[Order::Fifo, Order::Lifo, Order::AdaptiveLifo]),
            execution,
            abandon: if execution == Execution::Caller { Abandon::Cancel } else { abandon },
            max_wait: rng.pick(&max_waits).map(Duration::from_millis),
            bypass_limit: rng.pick(&[0, 1, 4]),
            has_bypass: rng.one_in(2),
            is_adaptive,
            changes,
            has_costs: rng.one_in(3),
            has_classes: rng.one_in(2),
            has_panics: rng.one_in(3),
            has_nested: Rng::new((seed, round, "nested")).one_in(3),
            has_rough_subscriber: rng.one_in(10),
            has_dying_inner: rng.one_in(4),
            has_mortal_runtime: rng.one_in(2),
            has_idle_runtime: rng.one_in(2),
            end: rng.pick(&[End::Rest, End::Rest, End::Rest, End::Close, End::Drain, End::Drop]),
            time: Duration::from_millis(30 + rng.below(200)),
            callers: 1 + rng.below(12),
            sleeps_one_in: rng.pick(&[20, 500, 5000]),
        }
    }
}
