//! The worker of this crate beside the loop that the client's documentation shows, in one run.
//!
//! ```sh
//! cargo bench -p tower-load-leveling-jetstream --bench durable           # all, some minutes
//! cargo bench -p tower-load-leveling-jetstream --bench durable -- short  # a section, see `main`
//! cargo bench -p tower-load-leveling-jetstream --bench durable -- fragile --once # one round
//! cargo bench -p tower-load-leveling-jetstream --bench durable -- --test # each once, small
//! ```
//!
//! Every line has the median of the rounds, as a ratio to the loop with as many calls at once, and
//! the bar that the ratio has to keep.

#[path = "../support/broker.rs"]
mod broker;
mod contenders;
mod work;

use std::{sync::Arc, time::Duration};

use self::{
    broker::Broker,
    contenders::{Contender, Setting, run},
    work::{Fragile, Work},
};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What of the command line counts.
struct Plan {
    test: bool,
    /// One round before the fragile inner.
    once: bool,
    only: Option<String>,
}

impl Plan {
    fn does(&self, section: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == section)
    }

    fn rounds(&self) -> usize {
        if self.test { 1 } else { 5 }
    }

    fn messages(&self, many: usize) -> usize {
        if self.test { many / 20 } else { many }
    }
}

/// A bar for a ratio.
enum Bar {
    AtLeast(f64),
    AtMost(f64),
    None,
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let test = arguments.iter().any(|argument| argument == "--test");
    let once = arguments.iter().any(|argument| argument == "--once");
    let only = arguments.into_iter().find(|argument| !argument.starts_with("--"));
    let plan = Plan { test, once, only };
    tokio::runtime::Runtime::new()?.block_on(async {
        let broker = Broker::start().await?;
        if plan.does("short") {
            short(&broker, &plan).await?;
        }
        if plan.does("long") {
            long(&broker, &plan).await?;
        }
        if plan.does("order") {
            order(&broker, &plan).await?;
        }
        if plan.does("slow") {
            slow(&broker, &plan).await?;
        }
        if plan.does("fragile") {
            fragile(&broker, &plan).await?;
        }
        if plan.does("learned") {
            learned(&broker, &plan).await?;
        }
        Ok(())
    })
}

/// Calls that do nothing: what the worker itself costs.
async fn short(broker: &Broker, plan: &Plan) -> Result<(), Error> {
    println!("\nCalls that do nothing, 64 at once, prefetch 64: messages a second");
    for (workers, payload) in [(1, 100), (2, 100), (4, 100), (1, 16 << 10)] {
        let messages = plan.messages(if payload > 1000 { 8000 } else { 20_000 });
        let setting = Setting {
            works: vec![Work::Nothing; workers],
            limit: 64,
            prefetch: Some(64),
            payload,
            messages,
            warm_up: 0,
            learned: Arc::default(),
        };
        let ratio = compare(broker, plan, &setting, Contender::Worker).await?;
        let what = format!("{workers} workers, {payload} B");
        print(&what, ratio, &Bar::AtLeast(0.7));
        if workers == 1 && payload == 100 {
            let ratio = compare(broker, plan, &setting, Contender::Confirmed).await?;
            print("  the same, each ack confirmed", ratio, &Bar::None);
        }
    }
    Ok(())
}

/// Calls that take some time.
async fn long(broker: &Broker, plan: &Plan) -> Result<(), Error> {
    println!("\nCalls that take time, default prefetch: messages a second");
    for (millis, limit, messages) in
        [(1, 16, 10_000), (5, 16, 5000), (5, 64, 15_000), (20, 64, 5000)]
    {
        let setting = Setting {
            works: vec![Work::Sleep(Duration::from_millis(millis))],
            limit,
            prefetch: None,
            payload: 100,
            messages: plan.messages(messages),
            warm_up: 0,
            learned: Arc::default(),
        };
        let ratio = compare(broker, plan, &setting, Contender::Worker).await?;
        let bar = if millis < 5 { Bar::None } else { Bar::AtLeast(0.95) };
        print(&format!("{millis} ms, {limit} at once"), ratio, &bar);
    }
    Ok(())
}

/// A queue in order: the price of one message of a partition at a time.
async fn order(broker: &Broker, plan: &Plan) -> Result<(), Error> {
    println!("\nIn order, calls of 5 ms, 16 at once and 4 more in hand: messages a second");
    for partitions in [20, 64, 256] {
        let setting = Setting {
            works: vec![Work::Sleep(Duration::from_millis(5))],
            limit: 16,
            prefetch: None,
            payload: 100,
            messages: plan.messages(5000),
            warm_up: 0,
            learned: Arc::default(),
        };
        let ratio = compare(broker, plan, &setting, Contender::InOrder(partitions)).await?;
        print(&format!("{partitions} partitions"), ratio, &Bar::None);
    }
    Ok(())
}

/// A slow worker beside a fast one: the time until all is done.
async fn slow(broker: &Broker, plan: &Plan) -> Result<(), Error> {
    println!(
        "\nA worker with calls of 200 ms beside one of 10 ms, 8 at once: time until all is done"
    );
    for (prefetch, name) in [(None, "default prefetch"), (Some(0), "prefetch 0")] {
        let setting = Setting {
            works: [200, 10].map(|ms| Work::Sleep(Duration::from_millis(ms))).into(),
            limit: 8,
            prefetch,
            payload: 100,
            messages: if plan.test { 400 } else { 1500 },
            warm_up: 0,
            learned: Arc::default(),
        };
        let ratio = 1.0 / compare(broker, plan, &setting, Contender::Worker).await?;
        print(name, ratio, &Bar::AtMost(0.7));
    }
    Ok(())
}

/// How many messages a limit is found with before it counts as warm: 11 s at the knee.
const WARM_UP: usize = 4000;

/// A contender before a fragile inner: its name, its limit, and its warm-up.
type Row = (&'static str, Contender, usize, usize);

const TOLD: Row = ("the loop, told 8", Contender::Loop, 8, 0);
const COLD: Row = ("the worker, adaptive, cold", Contender::Adaptive, 8, 0);

/// An inner that gets slower for all when more than 8 calls run: messages a second, with the time
/// in which an adaptive limit is found.
async fn fragile(broker: &Broker, plan: &Plan) -> Result<(), Error> {
    let told_64 = ("the loop, told 64", Contender::Loop, 64, 0);
    let fixed = ("the worker, limit 8", Contender::Worker, 8, 0);
    let rates = before_fragile(broker, plan, &[TOLD, told_64, fixed, COLD]).await?;
    print("limit 8, to the loop told 8", rates[2] / rates[0], &Bar::AtLeast(0.95));
    print("adaptive, cold, to the loop told 8", rates[3] / rates[0], &Bar::AtLeast(0.95));
    print("adaptive, cold, to the loop told 64", rates[3] / rates[1], &Bar::AtLeast(3.0));
    Ok(())
}

/// The same inner, and what a limit is worth that was found before.
async fn learned(broker: &Broker, plan: &Plan) -> Result<(), Error> {
    let rows = [
        TOLD,
        ("the worker, adaptive, warm", Contender::Adaptive, 8, WARM_UP),
        // With what the warm one has learned.
        ("the worker, adaptive, resumed", Contender::Resumed, 8, 0),
        ("the layer alone, adaptive, cold", Contender::Alone, 8, 0),
        ("the layer alone, adaptive, warm", Contender::Alone, 8, WARM_UP),
    ];
    let rates = before_fragile(broker, plan, &rows).await?;
    print("adaptive, warm, to the loop told 8", rates[1] / rates[0], &Bar::AtLeast(0.95));
    print("adaptive, resumed, to the loop told 8", rates[2] / rates[0], &Bar::AtLeast(0.95));
    print("the layer alone, cold, to the same", rates[3] / rates[0], &Bar::None);
    print("adaptive, warm, to the layer alone", rates[1] / rates[4], &Bar::AtLeast(0.95));
    Ok(())
}

async fn before_fragile(broker: &Broker, plan: &Plan, rows: &[Row]) -> Result<Vec<f64>, Error> {
    println!("\nAn inner that bears 8 calls of 20 ms at once: messages a second");
    let rounds = if plan.test || plan.once { 1 } else { 3 };
    let (mut rates, learned) = (Vec::new(), Arc::default());
    for &(name, contender, limit, warm_up) in rows {
        let mut each = Vec::new();
        for _ in 0..rounds {
            let inner = Arc::new(Fragile::new(8, Duration::from_millis(20)));
            let setting = Setting {
                works: vec![Work::Fragile(inner)],
                limit,
                prefetch: None,
                payload: 100,
                messages: match (plan.test, limit) {
                    (true, _) => 100,
                    // As long as the others.
                    (_, 64) => 1000,
                    _ => 4000,
                },
                warm_up: if plan.test { warm_up / 40 } else { warm_up },
                learned: Arc::clone(&learned),
            };
            each.push(run(broker, contender, &setting).await?);
        }
        let rate = median(each);
        println!("{name:<40}{rate:>10.0}/s");
        rates.push(rate);
    }
    Ok(rates)
}

/// The rate of a contender by that of the loop, each the median of the rounds, in turn.
async fn compare(
    broker: &Broker,
    plan: &Plan,
    setting: &Setting,
    contender: Contender,
) -> Result<f64, Error> {
    let (mut own, mut stock) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds() {
        stock.push(run(broker, Contender::Loop, setting).await?);
        own.push(run(broker, contender, setting).await?);
    }
    let (own, stock) = (median(own), median(stock));
    print!("{own:>9.0} to {stock:>7.0}/s   ");
    Ok(own / stock)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(what: &str, ratio: f64, bar: &Bar) {
    let (bar, holds) = match *bar {
        Bar::AtLeast(bar) => (format!("at least {bar}"), ratio >= bar),
        Bar::AtMost(bar) => (format!("at most {bar}"), ratio <= bar),
        Bar::None => (String::new(), true),
    };
    println!("{what:<32} ratio {ratio:>5.2}  {bar}{}", if holds { "" } else { "  MISSED" });
}
