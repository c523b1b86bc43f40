use opentelemetry::{KeyValue, metrics::Meter};
use tower_load_leveling::{Handle, Priority, Stats, error::Reason, stats::PriorityStats};

/// Lets a meter observe a leveler. The instruments keep the leveler alive.
pub fn observe(meter: &Meter, handle: &Handle) {
    let counter = |name: &'static str, read: fn(&Stats) -> Vec<Series>| {
        let observed = Observed::new(handle, read);
        let counter = meter.u64_observable_counter(name).with_unit("{request}");
        counter
            .with_callback(move |to| observed.tell(|value, at| to.observe(value as u64, at)))
            .build();
    };
    counter("load_leveling.admitted_requests", |stats| by_priority(stats, |level| level.admitted));
    counter("load_leveling.rejected_requests", rejected);
    counter("load_leveling.finished_requests", finished);

    let gauge = |name: &'static str, unit: &'static str, read: fn(&Stats) -> Vec<Series>| {
        let observed = Observed::new(handle, read);
        let gauge = meter.f64_observable_gauge(name).with_unit(unit);
        gauge.with_callback(move |to| observed.tell(|value, at| to.observe(value, at))).build();
    };
    gauge("load_leveling.queued_requests", "{request}", |stats| {
        by_priority(stats, |level| level.queued as u64)
    });
    gauge("load_leveling.in_flight_requests", "{request}", |stats| only(stats.in_flight as f64));
    gauge("load_leveling.slots_taken", "{slot}", |stats| only(stats.slots_taken as f64));
    gauge("load_leveling.limit_slots", "{slot}", |stats| only(stats.limit as f64));
    gauge("load_leveling.capacity_requests", "{request}", |stats| only(stats.capacity as f64));
    gauge("load_leveling.oldest_wait", "s", |stats| {
        only(stats.oldest_wait.unwrap_or_default().as_secs_f64())
    });
    gauge("load_leveling.drain_rate", "{request}/s", |stats| {
        stats.drain_rate.into_iter().flat_map(only).collect()
    });
    gauge("load_leveling.paused", "1", |stats| only(f64::from(u8::from(stats.paused))));
    gauge("load_leveling.closed", "1", |stats| only(f64::from(u8::from(stats.closed))));
}

/// A value with its attributes, beside the name of the leveler.
type Series = (Vec<KeyValue>, f64);

/// A leveler, and what an instrument reads of it.
struct Observed {
    handle: Handle,
    read: fn(&Stats) -> Vec<Series>,
}

impl Observed {
    fn new(handle: &Handle, read: fn(&Stats) -> Vec<Series>) -> Self {
        Self { handle: handle.clone(), read }
    }

    fn tell(&self, observe: impl Fn(f64, &[KeyValue])) {
        for (mut attributes, value) in (self.read)(&self.handle.stats()) {
            attributes.push(KeyValue::new("leveler", self.handle.name().to_owned()));
            observe(value, &attributes);
        }
    }
}

fn only(value: f64) -> Vec<Series> {
    vec![(Vec::new(), value)]
}

fn by_priority(stats: &Stats, count: fn(&PriorityStats) -> u64) -> Vec<Series> {
    let series = |priority: &Priority| {
        let attributes = vec![KeyValue::new("priority", priority.as_str())];
        (attributes, count(stats.priority(*priority)) as f64)
    };
    Priority::ALL.iter().map(series).collect()
}

fn rejected(stats: &Stats) -> Vec<Series> {
    let mut found = Vec::new();
    for priority in Priority::ALL {
        let level = stats.priority(*priority);
        for (stage, counts) in [("door", level.refused), ("queue", level.removed)] {
            for reason in Reason::ALL.iter().filter(|reason| counts.get(**reason) > 0) {
                let attributes = vec![
                    KeyValue::new("priority", priority.as_str()),
                    KeyValue::new("reason", reason.as_str()),
                    KeyValue::new("stage", stage),
                ];
                found.push((attributes, counts.get(*reason) as f64));
            }
        }
    }
    found
}

fn finished(stats: &Stats) -> Vec<Series> {
    let outcomes = [
        ("success", stats.succeeded),
        ("overload", stats.overloaded),
        ("failure", stats.failed.saturating_sub(stats.overloaded)),
        ("cancelled", stats.cancelled),
        ("panic", stats.panicked),
    ];
    let series = |(outcome, count)| (vec![KeyValue::new("outcome", outcome)], count as f64);
    outcomes.into_iter().map(series).collect()
}
