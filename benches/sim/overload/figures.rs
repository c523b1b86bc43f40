//! The figures of a run, most of them as ratios to what the oracle reached with the same arrivals.

use std::ops::Index;

use crate::report::Report;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Answers in time, ÷ the oracle's.
    Goodput,
    /// Mean latency of the backend, ÷ the oracle's.
    Bloat,
    /// How long it takes until it is, nearly, as good as the oracle for once: [`Report::settled`].
    Settled,
    /// Mean of the limit, ÷ what is needed.
    Limit,
    /// The 99th percentile of the time from arrival to answer, ÷ the oracle's.
    Tail,
    /// How evenly the limits of several levelers are distributed.
    Jain,
    /// How much of itself the limit grows in an hour.
    Trend,
}

impl Metric {
    pub fn title(self) -> &'static str {
        match self {
            Self::Goodput => "goodput",
            Self::Bloat => "bloat",
            Self::Settled => "settled",
            Self::Limit => "limit ÷ needed",
            Self::Tail => "p99",
            Self::Jain => "Jain",
            Self::Trend => "trend per hour",
        }
    }

    pub fn print(self, value: f64) -> String {
        match self {
            Self::Settled if value.is_infinite() => "never".to_owned(),
            Self::Settled => format!("{value:.1} s"),
            Self::Trend => format!("{:+.1} %", 100.0 * value),
            Self::Goodput | Self::Jain | Self::Tail => format!("{value:.3}"),
            Self::Bloat | Self::Limit if value >= 100.0 => format!("{value:.0}"),
            Self::Bloat | Self::Limit => format!("{value:.2}"),
        }
    }

    /// How bad a value is, to find the worst seed.
    pub fn badness(self, value: f64) -> f64 {
        match self {
            Self::Goodput | Self::Jain => -value,
            Self::Trend => value.abs(),
            Self::Bloat | Self::Settled | Self::Limit | Self::Tail => value,
        }
    }
}

/// The values of all of them, for one phase of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures([f64; 7]);

impl Index<Metric> for Figures {
    type Output = f64;

    fn index(&self, metric: Metric) -> &f64 {
        &self.0[metric as usize]
    }
}

/// From when to when a run is judged, and since when it could know.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub begun: f64,
    pub from: f64,
    pub to: f64,
}

/// What the oracle reached in a span.
#[derive(Clone, Copy, Debug)]
pub struct Yardstick {
    pub goodput: f64,
    /// Mean latency of the backend.
    pub backend: f64,
    pub p99: f64,
    /// The limit that it takes.
    pub needed: f64,
}

impl Yardstick {
    pub fn of(report: &Report, span: Span, needed: f64) -> Self {
        let Span { from, to, .. } = span;
        Self {
            goodput: report.goodput(from, to),
            backend: report.backend(from, to),
            p99: report.quantile(0.99, from, to),
            needed,
        }
    }

    pub fn measure(&self, report: &Report, span: Span) -> Figures {
        let Span { begun, from, to } = span;
        // In the order of `Metric`.
        Figures([
            report.goodput(from, to) / self.goodput,
            report.backend(from, to) / self.backend,
            report.settled(begun, to, self.goodput, self.backend),
            report.limit(from, to) / self.needed,
            report.quantile(0.99, from, to) / self.p99,
            report.jain(from, to),
            report.trend(from, to),
        ])
    }
}
