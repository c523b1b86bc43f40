//! The callers, and the inner that they call.

use std::{
    future::{Ready, poll_fn},
    task::Poll,
};

use tokio::runtime::{Builder, Runtime};
use tower::{BoxError, Service, ServiceExt};

pub(crate) const LIMIT: usize = 64;
pub(crate) const CAPACITY: usize = 1024;

/// So many more than slots that every call has to queue.
pub(crate) const CALLERS: usize = 512;

/// A thread and a clock that stands still.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

pub(crate) fn ready<Req>(_: Req) -> Ready<Result<(), BoxError>> {
    std::future::ready(Ok(()))
}

/// Comes back once: at the end of the queue, not by way of the timer as with tokio's `yield_now`,
/// which would be a thousand instructions for itself.
pub(crate) async fn come_back<Req>(_: Req) -> Result<(), BoxError> {
    let mut is_back = false;
    poll_fn(|cx| {
        if is_back {
            return Poll::Ready(Ok(()));
        }
        is_back = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

pub(crate) fn never<Req>(_: Req) -> std::future::Pending<Result<(), BoxError>> {
    std::future::pending()
}

/// One call after the other, in a task.
pub(crate) async fn one<S>(mut service: S, calls: usize)
where
    S: Service<(), Response = (), Error = BoxError, Future: Send> + Send + 'static,
{
    let caller = tokio::spawn(async move {
        for _ in 0..calls {
            service.ready().await.expect("ready").call(()).await.expect("served");
        }
    });
    caller.await.expect("no panic");
}

/// The calls shared out to [`CALLERS`], each a task that makes one after the other and says who it
/// is.
pub(crate) async fn many<S>(service: S, calls: usize)
where
    S: Service<usize, Response = (), Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let mut service = service.clone();
            tokio::spawn(async move {
                for _ in 0..calls / CALLERS {
                    service.ready().await.expect("ready").call(caller).await.expect("served");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
}
