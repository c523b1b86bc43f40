//! The runtimes for calls and for the drain task.

use std::hash::{Hash, Hasher};

use tokio::{
    runtime::Handle,
    task::{self, JoinHandle},
    time::{Instant, Sleep, sleep_until},
};

use super::panics::contain;
use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// The runtime given to the builder, if any and alive; else the runtime of the calling thread.
#[derive(Debug)]
pub(crate) struct Runtime {
    given: Option<Handle>,
    /// Set once the given runtime was found dead.
    has_ended: AtomicBool,
}

/// A runtime that can host the drain task.
pub(crate) trait Host: Clone {
    fn id(&self) -> RuntimeId;
}

impl Host for Handle {
    #[inline]
    fn id(&self) -> RuntimeId {
        RuntimeId::of(self)
    }
}

/// The number of a runtime, different from all other running runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RuntimeId(pub(super) u64);

impl RuntimeId {
    /// No runtime: tokio counts from 1.
    pub(crate) const NONE: Self = Self(0);

    /// Returns the number of a runtime.
    #[inline]
    pub(crate) fn of(runtime: &Handle) -> Self {
        let mut number = Number(0);
        Handle::id(runtime).hash(&mut number);
        Self(number.0)
    }
}

/// Reads the number out of tokio's opaque id. Only by hashing does the id give a number for an
/// atomic.
struct Number(u64);

impl Hasher for Number {
    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |number, byte| number << 8 | u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Runtime {
    pub(super) fn new(given: Option<Handle>) -> Self {
        Self { given, has_ended: AtomicBool::new(false) }
    }

    /// Returns the possible runtimes for the drain task, the best first.
    pub(crate) fn candidates(&self) -> [Option<Handle>; 2] {
        [self.given.clone(), Handle::try_current().ok()]
    }

    /// Makes a timer on the runtime of the calling thread, or else on the given one. `None` without
    /// a runtime.
    pub(crate) fn sleep_until(&self, at: Instant) -> Option<Sleep> {
        if Handle::try_current().is_ok() {
            return Some(sleep_until(at));
        }
        let _entered = self.given()?.enter();
        Some(sleep_until(at))
    }

    /// Takes note of the death of the given runtime.
    pub(crate) fn set_ended(&self) {
        self.has_ended.store(true, SeqCst);
    }

    #[inline]
    fn given(&self) -> Option<&Handle> {
        self.given.as_ref().filter(|_| !self.has_ended.load(SeqCst))
    }

    /// Returns whether the drain task has to stay on the runtime given to the builder.
    pub(crate) fn is_given(&self) -> bool {
        self.given().is_some()
    }

    /// Returns the runtime of the calling thread, to make and run a queued call. `None` means the
    /// runtime of the drain task, because a runtime was given, or the thread has none.
    #[inline]
    pub(crate) fn of_caller(&self) -> Option<Handle> {
        if self.given().is_some() { None } else { Handle::try_current().ok() }
    }

    /// Returns the number of the runtime of [`of_caller`](Self::of_caller).
    pub(crate) fn home_of_caller(&self) -> RuntimeId {
        self.of_caller().map_or(RuntimeId::NONE, |runtime| RuntimeId::of(&runtime))
    }

    /// Returns the number of the runtime for a direct call made right now.
    #[inline]
    pub(crate) fn home(&self) -> RuntimeId {
        self.given().map_or_else(|| self.home_of_caller(), RuntimeId::of)
    }

    /// Returns whether a call from a thread with the runtime `caller` has no runtime: neither the
    /// thread's nor a given one.
    #[inline]
    pub(crate) fn is_missing(&self, caller: &Option<Handle>) -> bool {
        caller.is_none() && self.given().is_none()
    }

    /// Returns whether a runtime exists for a call made right now. The cheapest check comes first:
    /// getting a handle changes a reference count shared by all threads of the runtime.
    pub(crate) fn can_spawn(&self) -> bool {
        self.given().is_some() || task::try_id().is_some() || Handle::try_current().is_ok()
    }

    /// Runs a call made right now as a task, on the given runtime or on the caller's. Requires
    /// [`can_spawn`](Self::can_spawn) to have returned true.
    pub(crate) fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        // A task dropped outside of its runtime has an id and no runtime, and the drop may make a
        // call. Then spawning panics, and the drop of the call answers.
        let _: Option<JoinHandle<()>> = contain(|| match self.given() {
            Some(runtime) => runtime.spawn(call),
            None => tokio::spawn(call),
        });
    }

    /// Returns whether a call made right now belongs to the task of the caller. If not, `call` must
    /// not poll the future: the call belongs to the given runtime, or the future may count on a
    /// task.
    #[inline]
    pub(crate) fn is_callers_task(&self) -> bool {
        self.given().is_none() && task::try_id().is_some()
    }
}
