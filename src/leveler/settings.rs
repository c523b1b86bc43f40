use std::{sync::Arc, time::Duration};

use tokio::runtime;

use crate::{
    leveler::pace::Rate,
    options::{Abandon, Execution, Overflow},
    queue::Rules,
};

/// The settings given to the builder. Never changed afterwards.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: Arc<str>,
    pub(crate) capacity: usize,
    /// A limit below 1 is honoured by spacing.
    pub(crate) limit: f64,
    pub(crate) line: Rules,
    pub(crate) rate: Option<Rate>,
    pub(crate) rate_burst: u32,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) bypass_limit: usize,
    pub(crate) overflow: Overflow,
    pub(crate) abandon: Abandon,
    pub(crate) execution: Execution,
    pub(crate) runtime: Option<runtime::Handle>,
}
