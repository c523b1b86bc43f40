use std::{sync::Arc, time::Duration};

use tokio::runtime;

use crate::{
    flow_key::FlowKey,
    leveler::pace::Pacing,
    options::{Abandon, Execution, Overflow},
    queue::Rules,
    settings::Adaptive,
};

/// The settings given to the builder. Never changed afterwards: changes by a handle are kept
/// elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) name: Arc<str>,
    pub(crate) capacity: usize,
    /// A limit below 1 is honoured by spacing.
    pub(crate) limit: f64,
    /// The known facts about the algorithm of the limit, if any.
    pub(crate) adaptive: Option<Adaptive>,
    pub(crate) line: Rules,
    pub(crate) pacing: Pacing,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) bypass_limit: usize,
    pub(crate) watch_flows: usize,
    pub(crate) overflow: Overflow,
    pub(crate) abandon: Abandon,
    pub(crate) execution: Execution,
    pub(crate) runtime: Option<runtime::Handle>,
    /// The secret for flows. Random for each leveler if `None`.
    pub(crate) flow_key: Option<FlowKey>,
    /// The secret for cohorts. Random for each leveler if `None`.
    pub(crate) cohort_key: Option<FlowKey>,
    /// The hour since 1970 at which the cohorts begin. By the clock if `None`.
    pub(crate) hour: Option<u64>,
    /// Set if the caller's dispatcher goes along with a call.
    pub(crate) carry_dispatcher: bool,
    /// The settings as given, if the leveler is switched off.
    pub(crate) switched_off: Option<Arc<Self>>,
}

impl Given {
    /// Returns the settings of a switched-off leveler: nothing is limited, nothing is late, and
    /// calls run in their callers. `max` is the highest limit.
    pub(crate) fn switched_off(self, max: usize) -> Self {
        Self {
            name: Arc::clone(&self.name),
            capacity: max,
            limit: max as f64,
            adaptive: None,
            line: Rules::default(),
            pacing: Pacing { rate: None, burst: 1 },
            max_wait: None,
            bypass_limit: max,
            watch_flows: 0,
            overflow: Overflow::Reject,
            abandon: Abandon::Cancel,
            execution: Execution::Caller,
            runtime: self.runtime.clone(),
            flow_key: self.flow_key,
            cohort_key: self.cohort_key,
            hour: self.hour,
            carry_dispatcher: self.carry_dispatcher,
            switched_off: Some(Arc::new(self)),
        }
    }

    #[inline]
    pub(crate) fn is_switched_off(&self) -> bool {
        self.switched_off.is_some()
    }

    /// Returns whether a call ends when its caller goes.
    pub(crate) fn gives_up(&self) -> bool {
        self.abandon == Abandon::Cancel
    }
}
