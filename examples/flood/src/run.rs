//! A run, and the figures of the run.

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

/// A run. Times are from the start of the run.
pub(crate) struct Run {
    pub(crate) contender: Contender,
    pub(crate) answers: Vec<Answer>,
    /// The number and the time of each commit.
    pub(crate) stored: Vec<(u64, Duration)>,
    /// The time from the end of the last client to the end of the work in the database.
    pub(crate) settled: Duration,
    pub(crate) peak: usize,
    /// The rate of the database, in orders a second: the mean of the measurements before and after
    /// the run.
    pub(crate) possible: f64,
    books: Vec<u64>,
    accepted: HashSet<u64>,
}

/// The broken promises of a run about accepted and refused orders. All counts should be 0.
pub(crate) struct Mistakes {
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) stored_though_refused: usize,
}

impl Run {
    /// Sends the load of the plan to a contender. `rate` is the rate of the database alone.
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
        // After the last client has gone, the work in the database goes on. The database is final
        // at the end of the work.
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

    /// The orders answered in time: the time of the answer, and the latency.
    pub(crate) fn answered(&self) -> impl Iterator<Item = (Duration, Duration)> {
        let accepted = self.answers.iter().filter(|answer| answer.outcome == Outcome::Accepted);
        accepted.map(|answer| (answer.sent + answer.took, answer.took))
    }

    /// The times of storing orders for clients long gone.
    pub(crate) fn wasted(&self) -> impl Iterator<Item = Duration> {
        let wasted = self.stored.iter().filter(|(number, _)| !self.accepted.contains(number));
        wasted.map(|(_, at)| *at)
    }

    /// The orders answered in time in a second.
    pub(crate) fn goodput(&self, time: &Range<Duration>) -> f64 {
        let answered = self.answered().filter(|(at, _)| time.contains(at)).count();
        answered as f64 / (time.end - time.start).as_secs_f64()
    }

    /// The share answered in time, of the orders sent in this time.
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

    /// Counts the orders sent in this time by outcome.
    pub(crate) fn count(&self, time: &Range<Duration>, which: fn(&Outcome) -> bool) -> usize {
        self.sent(time).iter().filter(|answer| which(&answer.outcome)).count()
    }

    /// Counts the refused orders by reason.
    pub(crate) fn refusals(&self, time: &Range<Duration>) -> BTreeMap<&str, usize> {
        let mut refusals = BTreeMap::new();
        for answer in self.sent(time) {
            if let Outcome::Refused(reason) = &answer.outcome {
                *refusals.entry(reason.as_str()).or_default() += 1;
            }
        }
        refusals
    }

    /// Compares the answers to clients with the orders in the database.
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
