//! Tasks on runtimes, and the passing of time. From tokio, or, with `cfg(shuttle)`, from the
//! scheduler of `shuttle`, which has no clock.

#[cfg(shuttle)]
pub(crate) use self::models::*;
#[cfg(not(shuttle))]
pub(crate) use self::runtimes::*;

#[cfg(not(shuttle))]
mod runtimes {
    use tokio::{
        runtime::Handle,
        sync::Notify,
        time::{Instant, timeout_at},
    };

    /// Spawns a task. A runtime after shutdown drops the task at once.
    pub(crate) fn spawn(runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        drop(runtime.spawn(task));
    }

    /// Waits for the bell, or until the instant `until`. Returns the current time.
    pub(crate) async fn rest(until: Instant, bell: &Notify) -> Instant {
        // Either way: go on.
        let _ = timeout_at(until, bell.notified()).await;
        Instant::now()
    }
}

#[cfg(shuttle)]
mod models {
    use std::{
        cell::{Cell, RefCell},
        future::poll_fn,
        task::{Poll, Waker},
    };

    use shuttle::future::JoinHandle;
    #[cfg(test)]
    use shuttle::future::block_on;
    use tokio::{
        runtime::{Handle, Id},
        sync::Notify,
        time::Instant,
    };

    thread_local! {
        /// The stopped runtime. The scheduler plays all threads of a model on one thread.
        static STOPPED: Cell<Option<Id>> = const { Cell::new(None) };
        /// The wakers of tasks to run once the stopped runtime is driven again.
        static WOKEN: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
        static SPAWNED: RefCell<Vec<JoinHandle<()>>> = const { RefCell::new(Vec::new()) };
    }

    /// Spawns a task. The task is not polled while its runtime is stopped.
    pub(crate) fn spawn(runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        let (id, mut task) = (runtime.id(), Box::pin(task));
        let spawned = shuttle::future::spawn(poll_fn(move |cx| {
            if STOPPED.get() == Some(id) {
                WOKEN.with_borrow_mut(|woken| woken.push(cx.waker().clone()));
                return Poll::Pending;
            }
            task.as_mut().poll(cx)
        }));
        SPAWNED.with_borrow_mut(|all| all.push(spawned));
    }

    /// Lets other tasks run. To the caller, all the time until `until` has passed.
    pub(crate) async fn rest(until: Instant, _: &Notify) -> Instant {
        shuttle::future::yield_now().await;
        until
    }

    /// Ceases to drive a runtime.
    #[cfg(test)]
    pub(crate) fn stop(runtime: &Handle) {
        STOPPED.set(Some(runtime.id()));
    }

    /// Begins a model.
    #[cfg(test)]
    pub(crate) fn begin() {
        STOPPED.set(None);
        drop((WOKEN.take(), SPAWNED.take()));
    }

    /// Waits until all tasks have ended.
    #[cfg(test)]
    pub(crate) fn join_all() {
        while let Some(task) = SPAWNED.with_borrow_mut(Vec::pop) {
            block_on(task).expect("a task of the library");
        }
    }

    /// Drives all runtimes.
    #[cfg(test)]
    pub(crate) fn drive_all() {
        STOPPED.set(None);
        WOKEN.take().into_iter().for_each(Waker::wake);
    }
}
