//! One run, and its figures.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Result,
    client::{Answer, Client, Outcome},
    contenders::Contender,
    plan::{PATIENCE, Plan, SETTLE},
    progress,
    server::Server,
    store::Store,
};

/// Times are from the start of the run.
pub(crate) struct Run {
    pub(crate) contender: Contender,
    pub(crate) answers: Vec<Answer>,
    /// When each order was committed: (number, time).
    pub(crate) stored: Vec<(u64, Duration)>,
    /// How long the database went on after the last client had gone.
    pub(crate) settled: Duration,
    pub(crate) peak: usize,
    /// What the database can do, in orders a second: the mean of a look before and one after.
    pub(crate) possible: f64,
    books: Vec<u64>,
    accepted: HashSet<u64>,
}

/// What a run has done with accepted and refused orders. All should be 0.
pub(crate) struct Mistakes {
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) stored_though_refused: usize,
}

impl Run {
    /// Sends the load of the plan to a contender: `rate` is what counts as once.
    pub(crate) async fn of(
        contender: Contender,
        lines: u64,
        rate: f64,
        plan: &Plan,
    ) -> Result<Self> {
        let store = Store::create(contender.name(), lines)?;
        let (app, handle) = contender.app(store.clone())?;
        let server = Server::start(app).await?;
        let client = Client::connect(server.address()).await?;
        let start = Instant::now();
        let (name, length) = (contender.name(), plan.length() + PATIENCE);
        let answers = progress::during(name, length, client.send_all(start, rate, plan)).await;
        // Clients have gone, but work that they began goes on. Only then is the database final.
        let settled = progress::during("  until it is idle", SETTLE, store.settle(SETTLE)).await;
        if let Some(handle) = handle {
            handle.drain(Duration::from_secs(5)).await;
        }
        server.stop();
        let stored = store.stored();
        let accepted = answers.iter().filter(|answer| answer.outcome == Outcome::Accepted);
        Ok(Self {
            contender,
            stored: stored.iter().map(|stored| (stored.number, stored.at - start)).collect(),
            settled,
            peak: store.peak(),
            possible: rate,
            books: store.books()?,
            accepted: accepted.map(|answer| answer.number).collect(),
            answers,
        })
    }

    /// When each order was answered that was answered in time, and how long that took.
    pub(crate) fn answered(&self) -> impl Iterator<Item = (Duration, Duration)> {
        let accepted = self.answers.iter().filter(|answer| answer.outcome == Outcome::Accepted);
        accepted.map(|answer| (answer.sent + answer.took, answer.took))
    }

    /// When each order was stored whose client has never learned of it.
    pub(crate) fn wasted(&self) -> impl Iterator<Item = Duration> {
        let wasted = self.stored.iter().filter(|(number, _)| !self.accepted.contains(number));
        wasted.map(|(_, at)| *at)
    }

    /// How many orders a second were answered in time.
    pub(crate) fn goodput(&self, time: &Range<Duration>) -> f64 {
        let answered = self.answered().filter(|(at, _)| time.contains(at)).count();
        answered as f64 / (time.end - time.start).as_secs_f64()
    }

    /// The share of the orders sent in this time that were answered in time.
    pub(crate) fn share(&self, time: &Range<Duration>) -> f64 {
        let sent = self.sent(time);
        let answered = sent.iter().filter(|answer| answer.outcome == Outcome::Accepted).count();
        answered as f64 / sent.len().max(1) as f64
    }

    /// A quantile of the latencies of the orders sent in this time and answered in time.
    pub(crate) fn latency(&self, q: f64, time: &Range<Duration>) -> Option<Duration> {
        let sent = self.sent(time).into_iter();
        let accepted = sent.filter(|answer| answer.outcome == Outcome::Accepted);
        quantile(q, accepted.map(|answer| answer.took).collect())
    }

    /// How many orders sent in this time had these outcomes.
    pub(crate) fn count(&self, time: &Range<Duration>, which: fn(&Outcome) -> bool) -> usize {
        self.sent(time).iter().filter(|answer| which(&answer.outcome)).count()
    }

    /// How many orders were refused for each reason.
    pub(crate) fn refusals(&self, time: &Range<Duration>) -> BTreeMap<&str, usize> {
        let mut refusals = BTreeMap::new();
        for answer in self.sent(time) {
            if let Outcome::Refused(reason) = &answer.outcome {
                *refusals.entry(reason.as_str()).or_default() += 1;
            }
        }
        refusals
    }

    /// Compares what clients were told with what the database holds.
    pub(crate) fn mistakes(&self) -> Mistakes {
        let mut times: HashMap<u64, usize> = HashMap::new();
        for number in &self.books {
            *times.entry(*number).or_default() += 1;
        }
        let refused = self.answers.iter().filter(|a| matches!(a.outcome, Outcome::Refused(_)));
        Mistakes {
            lost: self.accepted.iter().filter(|number| !times.contains_key(number)).count(),
            doubled: times.values().filter(|times| **times > 1).count(),
            stored_though_refused: refused.filter(|a| times.contains_key(&a.number)).count(),
        }
    }

    fn sent(&self, time: &Range<Duration>) -> Vec<&Answer> {
        self.answers.iter().filter(|answer| time.contains(&answer.sent)).collect()
    }
}

pub(crate) fn quantile(q: f64, mut latencies: Vec<Duration>) -> Option<Duration> {
    latencies.sort();
    let rank = (latencies.len() as f64 * q) as usize;
    latencies.get(rank.min(latencies.len().checked_sub(1)?)).copied()
}
