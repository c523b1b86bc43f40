//! The last five minutes of a leveler, second by second, and the verdict on the last ten seconds.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tower_load_leveling::{
    Priority, Stats,
    limit::View,
    stats::{FlowId, FlowStats, State, Verdict},
};

use crate::{
    sample::Sample,
    times::{Fine, Merged},
};

/// The number of samples kept: five minutes. A page that is opened in an incident shows its
/// beginning.
pub(crate) const KEPT: usize = 300;

/// The judged period, less half a sample: 10 s. With a shorter period the state would change with
/// each burst.
const JUDGED: Duration = Duration::from_millis(9500);

/// The history of one leveler.
#[derive(Debug)]
pub(crate) struct History {
    /// The snapshot from which the next sample counts.
    before: Stats,
    /// The oldest first.
    samples: VecDeque<Sample>,
    /// The newest samples in full, as many as are judged, the oldest first.
    recent: VecDeque<Recent>,
    /// The verdict on the time since anything was dispatched or finished, from a second on.
    still: Option<Verdict>,
}

#[derive(Debug)]
struct Recent {
    verdict: Verdict,
    wait: Fine,
    removed_wait: Fine,
    service_time: Fine,
    /// The waits of dispatched requests, in the order of [`Priority::ALL`].
    by_priority: [Fine; Priority::ALL.len()],
    /// The flows that asked most in this second.
    flows: Box<[OfFlow]>,
}

/// The times of the judged period.
pub(crate) struct Waits {
    pub(crate) wait: Merged,
    pub(crate) removed_wait: Merged,
    pub(crate) service_time: Merged,
    pub(crate) by_priority: [Merged; Priority::ALL.len()],
}

/// A flow in a period.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfFlow {
    pub(crate) id: FlowId,
    pub(crate) asked: u64,
    pub(crate) rejected: u64,
}

/// The number of flows kept of a second, and shown. A flow that floods is among the first.
const FLOWS: usize = 10;

impl History {
    /// Returns a history that begins with `before`.
    pub(crate) fn new(before: Stats) -> Self {
        // Not grown by doubling, which would end at 512.
        let samples = VecDeque::with_capacity(KEPT);
        let (recent, still) = Default::default();
        Self { before, samples, recent, still }
    }

    /// Adds a sample: the time from the last snapshot to `now`.
    pub(crate) fn add(&mut self, now: Stats, max_wait: Option<Duration>, id: u64, at: u64) {
        let stats = now.since(&self.before);
        self.before = now;
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample::of(&stats, max_wait, id, at));
        let verdict = stats.verdict();
        let is_still = verdict.done == 0 && stats.wait.count() == 0;
        let still = self.still.take().filter(|_| is_still);
        self.still = is_still.then(|| still.map_or(verdict.clone(), |still| still.join(&verdict)));
        self.recent.push_back(Recent {
            verdict,
            wait: Fine::of(&stats.wait),
            removed_wait: Fine::of(&stats.removed_wait),
            service_time: Fine::of(&stats.service_time),
            by_priority: std::array::from_fn(|nth| {
                Fine::of(&stats.priority(Priority::ALL[nth]).wait)
            }),
            flows: flows_of(&stats),
        });
        let mut period: Duration = self.recent.iter().map(|recent| recent.verdict.period).sum();
        while let Some(oldest) = self.recent.front() {
            period = period.saturating_sub(oldest.verdict.period);
            if period < JUDGED {
                break;
            }
            self.recent.pop_front();
        }
    }

    /// Returns the samples, the oldest first.
    pub(crate) fn samples(&self) -> &VecDeque<Sample> {
        &self.samples
    }

    /// Returns the samples of the judged period.
    pub(crate) fn judged(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().rev().take(self.recent.len())
    }

    /// Returns the verdict on the last ten seconds. During a stall, from the fifth second on,
    /// returns the verdict on the whole stall.
    pub(crate) fn verdict(&self) -> Verdict {
        if let Some(still) = self.still.as_ref().filter(|still| still.state == State::Stalled) {
            return still.clone();
        }
        let verdicts = self.recent.iter().map(|recent| recent.verdict.clone());
        let joined = verdicts.reduce(|earlier, later| earlier.join(&later));
        // Before the first sample there is the whole life of the leveler.
        joined.unwrap_or_else(|| self.before.verdict())
    }

    /// Returns how many calls succeeded a second in the judged period, and in the best period of
    /// that length in the last five minutes.
    pub(crate) fn successes(&self) -> (f64, f64) {
        let length = self.recent.len();
        let rate = |from: usize| {
            let period = || self.samples.range(from..from + length);
            let succeeded: u64 = period().map(|sample| u64::from(sample.succeeded)).sum();
            let millis: f64 = period().map(|sample| sample.period.as_millis()).sum();
            succeeded as f64 * 1e3 / millis.max(1.0)
        };
        let newest = self.samples.len() - length;
        (rate(newest), (0..=newest).map(rate).fold(0.0, f64::max))
    }

    pub(crate) fn waits(&self) -> Waits {
        Waits {
            wait: Merged::of(self.recent.iter().map(|recent| &recent.wait)),
            removed_wait: Merged::of(self.recent.iter().map(|recent| &recent.removed_wait)),
            service_time: Merged::of(self.recent.iter().map(|recent| &recent.service_time)),
            by_priority: std::array::from_fn(|nth| {
                Merged::of(self.recent.iter().map(|recent| &recent.by_priority[nth]))
            }),
        }
    }

    /// Returns the flows that asked most in the judged period, the most first.
    pub(crate) fn flows(&self) -> Vec<OfFlow> {
        let mut sums = BTreeMap::<FlowId, OfFlow>::new();
        for of in self.recent.iter().flat_map(|recent| &recent.flows) {
            let sum = sums.entry(of.id).or_insert(OfFlow { asked: 0, rejected: 0, ..*of });
            sum.asked += of.asked;
            sum.rejected += of.rejected;
        }
        let mut flows: Vec<_> = sums.into_values().collect();
        flows.sort_by_key(|flow| Reverse(flow.asked));
        flows.truncate(FLOWS);
        flows
    }

    /// Returns the look into the algorithm at the newest sample.
    pub(crate) fn limit_view(&self) -> Option<View> {
        self.before.limit_view
    }
}

fn flows_of(stats: &Stats) -> Box<[OfFlow]> {
    let asked = stats.flows.iter().filter(|flow| flow.asked > 0).take(FLOWS);
    let of = |flow: &FlowStats| OfFlow { id: flow.id, asked: flow.asked, rejected: flow.rejected };
    asked.map(of).collect()
}
