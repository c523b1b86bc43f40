//! The readiness check, from the verdict of the leveler.

use std::time::Duration;

use axum::{Router, http::StatusCode, routing::get};
use tokio::{sync::watch, time::sleep};
use tower_load_leveling::{Handle, stats::State};

/// Longer than the 5 s of silence before the verdict "stalled".
const PERIOD: Duration = Duration::from_secs(10);

/// A router with `/ready`: tells a load balancer whether to send requests to this replica.
///
/// A task judges each period. If the handler judged the time since the last probe, two probes in a
/// row would get a verdict on some milliseconds.
pub(crate) fn readiness(handle: Handle) -> Router {
    let (sender, verdicts) = watch::channel(handle.stats().verdict());
    let judged = handle.clone();
    tokio::spawn(async move {
        let mut before = judged.stats();
        // The router holds the receiver.
        while !sender.is_closed() {
            sleep(PERIOD).await;
            let now = judged.stats();
            sender.send_replace(now.since(&before).verdict());
            before = now;
        }
    });
    let ready = move || {
        let now = handle.stats();
        // A close counts at once.
        let verdict = if now.closed { now.verdict() } else { verdicts.borrow().clone() };
        // An overloaded replica stays: the load would go to the other replicas.
        let is_ready = !matches!(verdict.state, State::Draining | State::Closed | State::Stalled);
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        async move { (status, format!("{verdict}\n")) }
    };
    Router::new().route("/ready", get(ready))
}
