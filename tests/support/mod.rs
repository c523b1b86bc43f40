//! What several test files use.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod captured;
#[cfg(feature = "http")]
pub mod fed_body;
pub mod flows;
pub mod gate;
pub mod hostile;
pub mod scoped;
#[cfg(feature = "grpc")]
pub mod sockets;
pub mod watchdog;
#[cfg(feature = "grpc")]
pub mod wires;

use tower::BoxError;
use tower_load_leveling::{
    Builder, Execution, LoadLevelLayer,
    error::{Reason, Rejected},
};
use tracing_subscriber::EnvFilter;

pub const EXECUTIONS: [Execution; 2] = [Execution::Spawn, Execution::Caller];

/// Prints events of a failing test, as `RUST_LOG` asks for.
pub fn trace_init() -> tracing::subscriber::DefaultGuard {
    let events =
        tracing_subscriber::fmt().with_test_writer().with_env_filter(EnvFilter::from_default_env());
    scoped::subscriber(events.finish())
}

/// Lets everything that can run on this thread run, without time passing.
pub async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

pub fn builder(capacity: usize, limit: usize) -> Builder {
    LoadLevelLayer::builder().capacity(capacity).concurrency(limit)
}

/// Why a call was rejected.
#[track_caller]
pub fn reason<T: std::fmt::Debug>(result: Result<T, BoxError>) -> Reason {
    rejection(result).reason()
}

#[track_caller]
pub fn rejection<T: std::fmt::Debug>(result: Result<T, BoxError>) -> Rejected {
    let error = result.expect_err("the call should be rejected");
    match error.downcast::<Rejected>() {
        Ok(rejected) => *rejected,
        Err(other) => panic!("the call should be rejected, but: {other}"),
    }
}

/// Looks, real time passing, until it is so.
#[track_caller]
pub fn eventually(what: &'static str, reached: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let looks = async {
            while !reached() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), looks).await;
        assert!(waited.is_ok(), "{what}, at {caller}");
    }
}
