//! Laws 1, 6 and 18 with several runtimes, some of which live and are not driven.
#![allow(clippy::async_yields_async, reason = "a call outlives the runtime that drove it")]

mod calls;
mod drain_task;
#[path = "../support/mod.rs"]
mod support;

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use support::{EXECUTIONS, builder, gate::Gate, reason, settle};
use tokio::{
    runtime,
    time::{Instant, sleep, timeout},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::{
    Abandon, Execution, LoadLevelLayer, Overflow,
    error::Reason,
    limit::{Algorithm, Load, Sample},
};

/// A runtime on this thread, driven while it is entered by `block_on` only. Its clock goes on when
/// nothing else can.
fn runtime() -> runtime::Runtime {
    runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

const WAIT: Duration = Duration::from_secs(10);

/// Drives a runtime until the future is ready, which must be soon.
#[track_caller]
fn soon<T>(runtime: &runtime::Runtime, future: impl Future<Output = T>) -> T {
    let answer = runtime.block_on(async { timeout(WAIT, future).await });
    answer.expect("should be answered soon")
}
