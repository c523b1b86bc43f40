//! A scenario with what is expected in it.

use crate::{
    contestants::Contestant,
    figures::{Figures, Metric, Span},
    oracle::Oracle,
    scenario::Scenario,
};

/// Built by chained calls: a phase, and the bars that are for it, and the next.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    pub scenario: Scenario,
    pub oracle: Oracle,
    pub phases: Vec<Phase>,
    /// Who has to meet the bars, and the limits from which else it starts.
    pub judged: Contestant,
    pub starts: &'static [usize],
    /// Shown beside what is shown of all.
    pub also: Option<Metric>,
    /// Who else runs, and who must not meet them.
    pub beside: Vec<Contestant>,
    pub controls: Vec<Contestant>,
    /// How many seeds are run of the one that is judged.
    pub seeds: u64,
}

#[derive(Clone, Debug)]
pub struct Phase {
    pub name: &'static str,
    pub span: Span,
    pub bars: Vec<Bar>,
    /// The limit that it takes, if that is not the knee.
    pub needed: Option<f64>,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    pub metric: Metric,
    pub asks: Asks,
}

#[derive(Clone, Copy, Debug)]
pub enum Asks {
    /// Of the median of all seeds.
    AtLeast(f64),
    AtMost(f64),
    /// Of the median, whatever its sign.
    Within(f64),
    /// Of every seed.
    NeverAbove(f64),
    NeverBelow(f64),
}

/// Enough for a median that stays.
const SEEDS: u64 = 15;

impl Case {
    pub fn new(name: &'static str, about: &'static str, scenario: Scenario) -> Self {
        Self {
            name,
            about,
            scenario,
            oracle: Oracle::Knee,
            phases: Vec::new(),
            judged: Contestant::Bdp(None),
            starts: &[],
            also: None,
            beside: Contestant::field(),
            controls: Contestant::CONTROLS.to_vec(),
            seeds: SEEDS,
        }
    }

    /// Adds a phase until the end, in which nothing changed since the beginning.
    pub fn from(self, from: f64) -> Self {
        let to = self.scenario.length;
        self.span("", Span { begun: 0.0, from, to })
    }

    /// Adds a phase that begins with a change.
    pub fn phase(self, name: &'static str, from: f64, to: f64) -> Self {
        self.span(name, Span { begun: from, from, to })
    }

    pub fn span(mut self, name: &'static str, span: Span) -> Self {
        self.phases.push(Phase { name, span, bars: Vec::new(), needed: None });
        self
    }

    pub fn at_least(self, metric: Metric, bar: f64) -> Self {
        self.bar(metric, Asks::AtLeast(bar))
    }

    pub fn at_most(self, metric: Metric, bar: f64) -> Self {
        self.bar(metric, Asks::AtMost(bar))
    }

    /// Adds a bar for the goodput of the worst seed.
    pub fn never_below(self, bar: f64) -> Self {
        self.bar(Metric::Goodput, Asks::NeverBelow(bar))
    }

    pub fn bar(mut self, metric: Metric, asks: Asks) -> Self {
        self.last_phase().bars.push(Bar { metric, asks });
        self
    }

    pub fn needs(mut self, limit: f64) -> Self {
        self.last_phase().needed = Some(limit);
        self
    }

    fn last_phase(&mut self) -> &mut Phase {
        self.phases.last_mut().expect("bars come after the phase that they are for")
    }
}

impl Bar {
    /// Whether these runs of all seeds are good enough.
    pub fn is_met(&self, runs: &[Figures]) -> bool {
        let median = median(self.metric, runs);
        match self.asks {
            Asks::AtLeast(bar) => median >= bar,
            Asks::AtMost(bar) => median <= bar,
            Asks::Within(bar) => median.abs() <= bar,
            Asks::NeverAbove(bar) => worst(self.metric, runs) <= bar,
            Asks::NeverBelow(bar) => worst(self.metric, runs) >= bar,
        }
    }

    pub fn print(&self) -> String {
        let metric = self.metric;
        match self.asks {
            Asks::AtLeast(bar) => format!("≥ {}", metric.print(bar)),
            Asks::AtMost(bar) => format!("≤ {}", metric.print(bar)),
            Asks::Within(bar) => format!("0 ± {}", metric.print(bar).trim_start_matches('+')),
            Asks::NeverAbove(bar) => format!("never > {}", metric.print(bar)),
            Asks::NeverBelow(bar) => format!("never < {}", metric.print(bar)),
        }
    }
}

pub fn median(metric: Metric, runs: &[Figures]) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(|run| run[metric]).collect();
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

pub fn worst(metric: Metric, runs: &[Figures]) -> f64 {
    let values = runs.iter().map(|run| run[metric]);
    let worse = |a: &f64, b: &f64| metric.badness(*a).total_cmp(&metric.badness(*b));
    values.max_by(worse).expect("a run")
}
