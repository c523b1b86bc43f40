//! A waker that calls a hook in each of its four functions.
//!
//! The tests try the library with such wakers.

use std::{
    fmt,
    sync::Arc,
    task::{RawWaker, RawWakerVTable, Waker},
};

/// The functions of a waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// [`Waker::clone`], before the clone is made.
    Clone,
    /// [`Waker::wake`]. The waker is not dropped then.
    Wake,
    /// [`Waker::wake_by_ref`].
    WakeByRef,
    /// The drop of a waker that was not woken by value.
    Drop,
}

impl Function {
    /// Each of the functions.
    pub const EACH: [Self; 4] = [Self::Clone, Self::Wake, Self::WakeByRef, Self::Drop];
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

type Hook = Arc<dyn Fn(Function) + Send + Sync>;

/// Returns a waker that calls `hook`, which may panic.
pub fn waker(hook: impl Fn(Function) + Send + Sync + 'static) -> Waker {
    let hook: Hook = Arc::new(hook);
    // SAFETY: the functions of the table keep the contract of a waker, whatever the hook does. Each
    // waker owns a box of its own, and `Hook` is `Send` and `Sync`.
    unsafe { Waker::from_raw(raw(hook)) }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// Returns a raw waker that owns the hook, in a box.
fn raw(hook: Hook) -> RawWaker {
    RawWaker::new(Box::into_raw(Box::new(hook)).cast_const().cast(), &TABLE)
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: `data` is the box of `raw`, which lives as long as its waker.
    let hook = unsafe { &*data.cast::<Hook>() };
    hook(Function::Clone);
    raw(Arc::clone(hook))
}

unsafe fn wake(data: *const ()) {
    // SAFETY: as for `drop_waker`.
    let hook = unsafe { Box::from_raw(data.cast_mut().cast::<Hook>()) };
    hook(Function::Wake);
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: as for `clone`.
    let hook = unsafe { &*data.cast::<Hook>() };
    hook(Function::WakeByRef);
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: `data` is the box of `raw`, and this is the end of its waker.
    let hook = unsafe { Box::from_raw(data.cast_mut().cast::<Hook>()) };
    hook(Function::Drop);
}
