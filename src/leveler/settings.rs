use std::{sync::Arc, time::Duration};

use tokio::runtime;

use crate::{
    leveler::pace::Pacing,
    options::{Abandon, Execution, Overflow},
    queue::Rules,
    settings::Adaptive,
};

/// The settings given to the builder. Never changed afterwards: what a handle changes is kept
/// elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) name: Arc<str>,
    pub(crate) capacity: usize,
    /// A limit below 1 is honoured by spacing.
    pub(crate) limit: f64,
    /// What is known of the algorithm that finds the limit, if one does.
    pub(crate) adaptive: Option<Adaptive>,
    pub(crate) line: Rules,
    pub(crate) pacing: Pacing,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) bypass_limit: usize,
    pub(crate) overflow: Overflow,
    pub(crate) abandon: Abandon,
    pub(crate) execution: Execution,
    pub(crate) runtime: Option<runtime::Handle>,
}
