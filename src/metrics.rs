//! The metrics of levelers for the facade [`metrics`](https://docs.rs/metrics) (feature `metrics`).
//!
//! A [`Sampler`] looks at the levelers once a second, and passes all changes to the recorder of the
//! process. Calls do no extra work. The metrics are those of `docs/watching.md`.
//!
//! Set buckets for `load_leveling_wait_seconds` and `load_leveling_service_seconds` in the
//! exporter. Otherwise the exporter shows quantiles only.
//!
//! ```
//! use std::time::Duration;
//! use tower_load_leveling::{LoadLevelLayer, metrics::Sampler};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let layer = LoadLevelLayer::new(1024, 64);
//! Sampler::new().watch(layer.handle()).every(Duration::from_secs(1)).spawn();
//! # }
//! ```

use std::{fmt, sync::Weak, time::Duration};

use metrics::{
    Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use tokio::time::MissedTickBehavior;

use crate::{
    export::{FAMILIES, Look, Names, Read, Series},
    handle::Handle,
    leveler::front::Leveler,
    stats::Histogram,
};

/// Passes the numbers of levelers to the recorder of the facade, again and again.
///
/// Counters are set to their totals. A histogram gets the times since the last look, each as the
/// middle of its bucket: within 3.2 %.
#[must_use = "a sampler does nothing until `spawn` or `sample` is called"]
pub struct Sampler {
    levelers: Vec<Watched>,
    names: Names,
    every: Duration,
}

/// A leveler to look at. The sampler does not keep the leveler alive.
struct Watched {
    name: String,
    leveler: Weak<Leveler>,
    /// The last look, from which histograms go on.
    last: Option<Look>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler {
    /// Returns a sampler without levelers, with a look every second.
    pub fn new() -> Self {
        let (levelers, names) = Default::default();
        Self { levelers, names, every: Duration::from_secs(1) }
    }

    /// Adds a leveler. The sampler does not keep the leveler alive.
    ///
    /// The label `leveler` is the [name](crate::Builder::name). Of several levelers with one name,
    /// the second is `name#2`; a `warn` event reports the first clash. If the sampler watches the
    /// leveler already, nothing is added.
    pub fn watch(mut self, handle: Handle) -> Self {
        let mut known = self.levelers.iter().filter_map(|watched| watched.leveler.upgrade());
        if !known.any(|leveler| Handle::new(leveler).is_same(&handle)) {
            let (name, leveler) = (self.names.give(&handle), handle.downgrade());
            self.levelers.push(Watched { name, leveler, last: None });
        }
        self
    }

    /// Sets the time between two looks. Zero counts as a millisecond. Default is a second.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every.max(Duration::from_millis(1));
        self
    }

    /// Spawns a task that looks until all watched levelers are gone: the last layer, handle and
    /// service of each. To stop earlier, run [`sample`](Self::sample) in a task of your own.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime, or of one without timers.
    pub fn spawn(mut self) {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::spawn(async move {
            loop {
                ticks.tick().await;
                if !self.sample() {
                    return;
                }
            }
        });
    }

    /// Looks once, and passes the changes to the recorder. Returns whether any watched leveler is
    /// left.
    #[allow(clippy::must_use_candidate, reason = "the look is the point, the answer is news")]
    pub fn sample(&mut self) -> bool {
        self.levelers.retain_mut(Watched::sample);
        !self.levelers.is_empty()
    }
}

impl Watched {
    /// Returns whether the leveler is still there.
    fn sample(&mut self) -> bool {
        let Some(leveler) = self.leveler.upgrade() else { return false };
        let now = Look::at(&Handle::new(leveler));
        if self.last.is_none() {
            describe();
        }
        for family in &FAMILIES {
            match family.read {
                Read::Counter(read) => read(&now).into_iter().for_each(|series| {
                    counter!(family.name, self.labels(series.labels)).absolute(series.value);
                }),
                Read::Gauge(read) => {
                    let series = read(&now);
                    let before = self.last.as_ref().map(read).unwrap_or_default();
                    let is_gone = |before: &&Series<_>| find(&series, &before.labels).is_none();
                    for gone in before.iter().filter(is_gone) {
                        gauge!(family.name, self.labels(gone.labels.clone())).set(absent(gone));
                    }
                    for series in series {
                        gauge!(family.name, self.labels(series.labels)).set(series.value);
                    }
                }
                Read::Histogram(read) => {
                    let before = self.last.as_ref().map(read).unwrap_or_default();
                    for series in read(&now) {
                        let earlier = find(&before, &series.labels).map(|series| series.value);
                        let histogram = histogram!(family.name, self.labels(series.labels));
                        for (time, count) in news(series.value, earlier).middles() {
                            let count = usize::try_from(count).unwrap_or(usize::MAX);
                            histogram.record_many(time.as_secs_f64(), count);
                        }
                    }
                }
            }
        }
        self.last = Some(now);
        true
    }

    fn labels(&self, labels: Vec<(&'static str, &'static str)>) -> Vec<Label> {
        let own = Label::new("leveler", self.name.clone());
        let others = labels.into_iter().map(|(name, value)| Label::from_static_parts(name, value));
        std::iter::once(own).chain(others).collect()
    }
}

/// Returns the series with these labels.
fn find<'a, T>(all: &'a [Series<T>], labels: &[(&str, &str)]) -> Option<&'a Series<T>> {
    all.iter().find(|series| series.labels == labels)
}

/// Returns the value for a series that a gauge no longer has. The facade cannot forget a series and
/// would keep its last value for good. A series with labels becomes 0; a series without labels
/// becomes unknown (NaN).
fn absent(gone: &Series<f64>) -> f64 {
    if gone.labels.is_empty() { f64::NAN } else { 0.0 }
}

/// Returns the times since an earlier look.
fn news(now: &Histogram, earlier: Option<&Histogram>) -> Histogram {
    earlier.map_or_else(|| now.clone(), |earlier| now.since(earlier))
}

fn describe() {
    for family in &FAMILIES {
        let unit = if family.name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
        match family.read {
            Read::Counter(_) => describe_counter!(family.name, unit, family.help),
            Read::Gauge(_) => describe_gauge!(family.name, unit, family.help),
            Read::Histogram(_) => describe_histogram!(family.name, unit, family.help),
        }
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.levelers.iter().map(|watched| &watched.name);
        f.debug_struct("Sampler")
            .field("levelers", &names.collect::<Vec<_>>())
            .field("every", &self.every)
            .finish()
    }
}
