//! The metrics of levelers as text for Prometheus (feature `prometheus`).
//!
//! Serve [`render`] under `/metrics`, on a port for your monitoring only: the text tells your load.
//! `docs/watching.md` explains every metric, with queries. No dependency, and no work in a call: a
//! scrape takes a snapshot of each leveler.
//!
//! ```
//! use tower_load_leveling::{LoadLevelLayer, prometheus};
//!
//! let layer = LoadLevelLayer::builder().name("orders").concurrency(64).build()?;
//! let text = prometheus::render(&[layer.handle()]);
//! assert!(text.contains("load_leveling_limit_slots{leveler=\"orders\"} 64\n"));
//! # Ok::<(), tower_load_leveling::error::BuildError>(())
//! ```

use std::{
    fmt::{self, Write},
    time::Duration,
};

use crate::{
    export::{FAMILIES, Look, Names, Read},
    handle::Handle,
    stats::Histogram,
};

/// The value of the header `Content-Type` for the text of [`render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns the metrics of levelers in the text format of Prometheus, version 0.0.4.
///
/// The label `leveler` is the [name](crate::Builder::name). Of several levelers with one name, the
/// second of the list is `name#2`; a `warn` event reports the first clash. Several handles of one
/// leveler count as one.
#[must_use]
pub fn render(handles: &[Handle]) -> String {
    let mut names = Names::default();
    let mut levelers: Vec<(String, Look)> = Vec::new();
    for (nth, handle) in handles.iter().enumerate() {
        if !handles[..nth].iter().any(|earlier| earlier.is_same(handle)) {
            levelers.push((names.give(handle), Look::at(handle)));
        }
    }
    let mut text = Text(String::new());
    for family in &FAMILIES {
        let before = text.0.len();
        for (leveler, look) in &levelers {
            match family.read {
                Read::Counter(read) => read(look).iter().for_each(|series| {
                    text.line(family.name, "", leveler, &series.labels, "", series.value);
                }),
                Read::Gauge(read) => read(look).iter().for_each(|series| {
                    text.line(family.name, "", leveler, &series.labels, "", series.value);
                }),
                Read::Histogram(read) => read(look).iter().for_each(|series| {
                    text.histogram(family.name, leveler, &series.labels, series.value);
                }),
            }
        }
        // The head of a metric without series would be noise.
        if text.0.len() > before {
            let kind = match family.read {
                Read::Counter(_) => "counter",
                Read::Gauge(_) => "gauge",
                Read::Histogram(_) => "histogram",
            };
            let (name, help) = (family.name, family.help);
            text.0.insert_str(before, &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
    }
    text.0
}

type Labels = [(&'static str, &'static str)];

struct Text(String);

impl Text {
    /// Writes a sample. `le` is the bound of a bucket, if any.
    fn line(
        &mut self,
        name: &str,
        suffix: &str,
        leveler: &str,
        labels: &Labels,
        le: &str,
        value: impl fmt::Display,
    ) {
        self.0.push_str(name);
        self.0.push_str(suffix);
        self.0.push_str("{leveler=\"");
        self.escaped(leveler);
        self.0.push('"');
        let le = (!le.is_empty()).then_some(("le", le));
        let all = labels.iter().copied().chain(le);
        for (label, value) in all {
            self.0.push(',');
            self.0.push_str(label);
            self.0.push_str("=\"");
            self.escaped(value);
            self.0.push('"');
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "}} {value}");
    }

    /// Writes the value of a label. The phase of an algorithm is the user's, as a name is.
    fn escaped(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
    }

    fn histogram(&mut self, name: &str, leveler: &str, labels: &Labels, times: &Histogram) {
        for bound in BOUNDS {
            let le = bound.as_secs_f64().to_string();
            self.line(name, "_bucket", leveler, labels, &le, times.count_at_most(bound));
        }
        self.line(name, "_bucket", leveler, labels, "+Inf", times.count());
        self.line(name, "_sum", leveler, labels, "", times.sum().as_secs_f64());
        self.line(name, "_count", leveler, labels, "", times.count());
    }
}

/// The upper bounds of the buckets of the histograms. From 5 ms to 10 s the bounds are from the
/// semantic conventions of OpenTelemetry for the durations of HTTP; two smaller bounds serve fast
/// services.
const BOUNDS: [Duration; 16] = [
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(75),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(750),
    Duration::from_millis(1000),
    Duration::from_millis(2500),
    Duration::from_millis(5000),
    Duration::from_millis(7500),
    Duration::from_millis(10_000),
];
