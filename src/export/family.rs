use crate::{
    handle::Handle,
    settings::{Concurrency, Settings},
    stats::{Histogram, Stats},
};

/// All numbers and settings of a leveler at an instant.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) stats: Stats,
    pub(crate) settings: Settings,
}

impl Look {
    pub(crate) fn at(handle: &Handle) -> Self {
        Self { stats: handle.stats(), settings: handle.settings() }
    }

    pub(super) fn is_adaptive(&self) -> bool {
        matches!(self.settings.concurrency, Some(Concurrency::Adaptive(_)))
    }
}

/// A metric with all its series.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) read: Read,
}

/// The type of a metric, and the way to read its series from a look.
#[derive(Debug)]
pub(crate) enum Read {
    Counter(fn(&Look) -> Vec<Series<u64>>),
    Gauge(fn(&Look) -> Vec<Series<f64>>),
    Histogram(fn(&Look) -> Vec<Series<&Histogram>>),
}

/// A value with its labels.
#[derive(Debug)]
pub(crate) struct Series<T> {
    pub(crate) labels: Vec<(&'static str, &'static str)>,
    pub(crate) value: T,
}

impl<T> Series<T> {
    pub(super) fn new<const N: usize>(labels: [(&'static str, &'static str); N], value: T) -> Self {
        Self { labels: labels.into(), value }
    }

    /// The only series of a metric.
    pub(super) fn only(value: T) -> Vec<Self> {
        vec![Self::new([], value)]
    }

    /// The only series of a metric, or none.
    pub(super) fn maybe(value: Option<T>) -> Vec<Self> {
        value.map(|value| Self::new([], value)).into_iter().collect()
    }
}
