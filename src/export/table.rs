use std::time::Duration;

use super::family::{Family, Look, Read, Series};
use crate::{
    class::Priority,
    error::Reason,
    stats::{Histogram, PriorityStats, ReasonCounts, Stats},
};

/// Every metric of a leveler.
pub(crate) const FAMILIES: [Family; 21] = [
    Family {
        name: "load_leveling_admitted_requests_total",
        help: "Requests admitted.",
        read: Read::Counter(|look| by_priority(look, |level| level.admitted)),
    },
    Family {
        name: "load_leveling_rejected_requests_total",
        help: "Requests turned away: refused at the door, or removed from the queue.",
        read: Read::Counter(rejected),
    },
    Family {
        name: "load_leveling_finished_requests_total",
        help: "Requests whose call ended, or whose caller gave up.",
        read: Read::Counter(finished),
    },
    Family {
        name: "load_leveling_queued_requests",
        help: "Requests that wait.",
        read: Read::Gauge(|look| {
            let queued = by_priority(look, |level| level.queued as u64);
            let gauge = |one: Series<u64>| Series { labels: one.labels, value: one.value as f64 };
            queued.into_iter().map(gauge).collect()
        }),
    },
    Family {
        name: "load_leveling_in_flight_requests",
        help: "Requests dispatched and not finished.",
        read: Read::Gauge(|look| Series::only(look.stats.in_flight as f64)),
    },
    Family {
        name: "load_leveling_slots_taken",
        help: "Slots in use: the costs of the requests in flight.",
        read: Read::Gauge(|look| Series::only(look.stats.slots_taken as f64)),
    },
    Family {
        name: "load_leveling_bypassing_requests",
        help: "Running requests that bypass the queue.",
        read: Read::Gauge(|look| Series::only(look.stats.bypassing as f64)),
    },
    Family {
        name: "load_leveling_limit_slots",
        help: "The limit: slots that may be in use at once.",
        read: Read::Gauge(|look| Series::only(look.stats.limit as f64)),
    },
    Family {
        name: "load_leveling_capacity_requests",
        help: "Requests that may wait beyond those that the limit lets run.",
        read: Read::Gauge(|look| Series::only(look.stats.capacity as f64)),
    },
    Family {
        name: "load_leveling_oldest_wait_seconds",
        help: "The time that the oldest waiting request has waited; 0 if none waits.",
        read: Read::Gauge(|look| Series::only(seconds(look.stats.oldest_wait.unwrap_or_default()))),
    },
    Family {
        name: "load_leveling_max_wait_seconds",
        help: "The longest wait allowed; absent without one.",
        read: Read::Gauge(|look| Series::maybe(look.settings.max_wait.map(seconds))),
    },
    Family {
        name: "load_leveling_drain_rate_requests_per_second",
        help: "Calls that end per second while there is work; absent until measured.",
        read: Read::Gauge(|look| Series::maybe(look.stats.drain_rate)),
    },
    Family {
        name: "load_leveling_limit_target_seconds",
        help: "The service time that the algorithm of the limit aims at; absent without one.",
        read: Read::Gauge(|look| {
            let view = look.stats.limit_view.as_ref();
            Series::maybe(view.and_then(|view| view.target).map(seconds))
        }),
    },
    Family {
        name: "load_leveling_limit_phase",
        help: "1 for the present phase of the algorithm of the limit.",
        read: Read::Gauge(|look| {
            let view = look.stats.limit_view.iter().filter(|view| !view.phase.is_empty());
            view.map(|view| Series::new([("phase", view.phase)], 1.0)).collect()
        }),
    },
    Family {
        name: "load_leveling_paused",
        help: "1 while dispatch is paused.",
        read: Read::Gauge(|look| Series::only(f64::from(u8::from(look.stats.paused)))),
    },
    Family {
        name: "load_leveling_closed",
        help: "1 once the leveler is closed.",
        read: Read::Gauge(|look| Series::only(f64::from(u8::from(look.stats.closed)))),
    },
    Family {
        name: "load_leveling_wait_seconds",
        help: "Time from admission to dispatch, or to removal.",
        read: Read::Histogram(|look| {
            vec![
                Series::new([("result", "dispatched")], &look.stats.wait),
                Series::new([("result", "removed")], &look.stats.removed_wait),
            ]
        }),
    },
    Family {
        name: "load_leveling_priority_finished_requests_total",
        help: "Requests whose call ended, or whose caller gave up, by priority.",
        read: Read::Counter(finished_by_priority),
    },
    Family {
        name: "load_leveling_priority_wait_seconds",
        help: "Time from admission to dispatch, or to removal, by priority.",
        read: Read::Histogram(wait_by_priority),
    },
    Family {
        name: "load_leveling_service_seconds",
        help: "Time from dispatch to finish.",
        read: Read::Histogram(|look| Series::only(&look.stats.service_time)),
    },
    Family {
        name: "load_leveling_info",
        help: "1, with the settings and the version of the crate.",
        read: Read::Gauge(|look| {
            let is_adaptive = look.is_adaptive();
            let labels = [
                ("order", look.settings.order.as_str()),
                ("overflow", look.settings.overflow.as_str()),
                ("limit", if is_adaptive { "adaptive" } else { "fixed" }),
                ("mode", "live"),
                ("version", env!("CARGO_PKG_VERSION")),
            ];
            vec![Series::new(labels, 1.0)]
        }),
    },
];

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// Returns a series for each priority. Series of 0 are left out, but for `normal`.
fn by_priority(look: &Look, count: fn(&PriorityStats) -> u64) -> Vec<Series<u64>> {
    let levels = Priority::EACH.into_iter();
    let all = levels.map(|priority| (priority, count(look.stats.priority(priority))));
    let shown = all.filter(|(priority, count)| *count > 0 || *priority == Priority::Normal);
    shown.map(|(priority, count)| Series::new([("priority", priority.as_str())], count)).collect()
}

/// Returns a series for each priority, reason and stage. Series of 0 are left out, but for a full
/// queue at normal priority: without any series, a rate of rejections would be unknown instead of
/// 0.
fn rejected(look: &Look) -> Vec<Series<u64>> {
    let mut found = Vec::new();
    for priority in Priority::EACH {
        let level = look.stats.priority(priority);
        let stages: [(&str, ReasonCounts); 2] = [("door", level.refused), ("queue", level.removed)];
        for (stage, counts) in stages {
            for reason in Reason::EACH {
                let is_kept = (priority, reason, stage) == (Priority::Normal, Reason::Full, "door");
                let count = counts.get(reason);
                if count > 0 || is_kept {
                    let (priority, reason) = (priority.as_str(), reason.as_str());
                    let labels = [("priority", priority), ("reason", reason), ("stage", stage)];
                    found.push(Series::new(labels, count));
                }
            }
        }
    }
    found
}

fn finished(look: &Look) -> Vec<Series<u64>> {
    let Stats { succeeded, failed, overloaded, cancelled, panicked, .. } = look.stats;
    let counts = outcomes([succeeded, failed, overloaded, cancelled, panicked]);
    counts.map(|(outcome, count)| Series::new([("outcome", outcome)], count)).into()
}

/// Returns a series for each priority and outcome. Series of 0 are left out.
fn finished_by_priority(look: &Look) -> Vec<Series<u64>> {
    let of = |priority: Priority| {
        let level = look.stats.priority(priority);
        let PriorityStats { succeeded, failed, overloaded, cancelled, panicked, .. } = *level;
        let counts = outcomes([succeeded, failed, overloaded, cancelled, panicked]);
        counts.into_iter().filter(|(_, count)| *count > 0).map(move |(outcome, count)| {
            Series::new([("priority", priority.as_str()), ("outcome", outcome)], count)
        })
    };
    Priority::EACH.into_iter().flat_map(of).collect()
}

/// Returns the counts by the word of the outcome.
fn outcomes(
    [succeeded, failed, overloaded, cancelled, panicked]: [u64; 5],
) -> [(&'static str, u64); 5] {
    [
        ("success", succeeded),
        ("overload", overloaded),
        ("failure", failed.saturating_sub(overloaded)),
        ("cancelled", cancelled),
        ("panic", panicked),
    ]
}

/// Returns a series for each priority and result. Series without a recorded time are left out.
fn wait_by_priority(look: &Look) -> Vec<Series<&Histogram>> {
    let of = |priority: Priority| {
        let level = look.stats.priority(priority);
        let results = [("dispatched", &level.wait), ("removed", &level.removed_wait)];
        let some = results.into_iter().filter(|(_, times)| times.count() > 0);
        some.map(move |(result, times)| {
            Series::new([("priority", priority.as_str()), ("result", result)], times)
        })
    };
    Priority::EACH.into_iter().flat_map(of).collect()
}
