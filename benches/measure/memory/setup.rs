//! What is looked at.

use std::future::{Pending, Ready};

use tokio::runtime::{Builder, Runtime};
use tower::{
    BoxError, Service, ServiceBuilder, buffer::Buffer, limit::ConcurrencyLimit, service_fn,
};
use tower_load_leveling::{Execution, LoadLevelLayer};

pub(crate) const LIMIT: usize = 64;

/// More than ever wait.
pub(crate) const CAPACITY: usize = 1_000_000;

/// A new one for each figure, so that no task of another is ended within it. It has had a task
/// before, for which it has grown its buffers.
pub(crate) fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async { tokio::spawn(async {}).await }).expect("no panic");
    runtime
}

pub(crate) fn leveler(limit: usize, execution: Execution) -> LoadLevelLayer {
    let builder = LoadLevelLayer::builder().capacity(CAPACITY).concurrency(limit);
    builder.execution(execution).build().expect("valid")
}

/// `Buffer` in front of `ConcurrencyLimit`.
pub(crate) type Limited<S, Req> = Buffer<Req, <ConcurrencyLimit<S> as Service<Req>>::Future>;

/// Starts a task, so there has to be a runtime.
pub(crate) fn buffer<S, Req>(inner: S, capacity: usize, limit: usize) -> Limited<S, Req>
where
    S: Service<Req, Error = BoxError, Future: Send> + Send + 'static,
    Req: Send + 'static,
{
    ServiceBuilder::new().buffer(capacity).concurrency_limit(limit).service(inner)
}

type Answer = Result<(), BoxError>;

/// An inner that answers at once.
pub(crate) fn ready<Req>()
-> impl Service<Req, Response = (), Error = BoxError, Future = Ready<Answer>> + Clone {
    service_fn(|_| std::future::ready(Ok(())))
}

/// An inner that never answers.
pub(crate) fn never<Req>()
-> impl Service<Req, Response = (), Error = BoxError, Future = Pending<Answer>> + Clone {
    service_fn(|_| std::future::pending())
}
