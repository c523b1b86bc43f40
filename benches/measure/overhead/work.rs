//! What the inner service does.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use tower::{BoxError, Service, service_fn};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    /// Nothing.
    Ready,
    /// Comes back once.
    Yield,
    /// Some 5 µs.
    Cpu,
}

/// An inner service. One that is watched counts its calls, per thread: a call that has been counted
/// when `call` returns has not been queued.
pub(crate) fn inner<F, Fut>(
    watched: bool,
    work: F,
) -> impl Service<(), Response = (), Error = BoxError, Future = Fut> + Clone
where
    F: Fn() -> Fut + Clone,
    Fut: Future<Output = Result<(), BoxError>>,
{
    service_fn(move |()| {
        if watched {
            CALLED.set(CALLED.get() + 1);
        }
        work()
    })
}

thread_local! {
    static CALLED: Cell<usize> = const { Cell::new(0) };
}

/// How many calls a watched inner has had on this thread.
pub(crate) fn called() -> usize {
    CALLED.get()
}

pub(crate) fn ready() -> std::future::Ready<Result<(), BoxError>> {
    std::future::ready(Ok(()))
}

pub(crate) async fn come_back() -> Result<(), BoxError> {
    tokio::task::yield_now().await;
    Ok(())
}

/// About 5 µs of work that is the same every time.
pub(crate) async fn spin() -> Result<(), BoxError> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(5) {
        std::hint::spin_loop();
    }
    Ok(())
}
