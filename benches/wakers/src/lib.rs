//! A waker that calls a hook in each of its four functions.
//!
//! The tests try the library with such wakers.

use std::{fmt, mem, sync::Arc, task::Waker};

use cooked_waker::{IntoWaker, Wake, WakeRef};

/// The functions of a waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a waker has these four functions")]
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

/// Returns a waker that calls `hook`, which may panic.
pub fn waker(hook: impl Fn(Function) + Send + Sync + 'static) -> Waker {
    Box::new(Hooked { hook: Arc::new(hook), is_woken: false }).into_waker()
}

/// The content of a waker. Each waker has a box of its own.
struct Hooked {
    hook: Arc<dyn Fn(Function) + Send + Sync>,
    /// Set if the waker was woken by value.
    is_woken: bool,
}

impl Clone for Hooked {
    fn clone(&self) -> Self {
        (self.hook)(Function::Clone);
        Self { hook: Arc::clone(&self.hook), is_woken: false }
    }
}

impl WakeRef for Hooked {
    fn wake_by_ref(&self) {
        (self.hook)(Function::WakeByRef);
    }
}

impl Wake for Hooked {
    fn wake(mut self) {
        // First, since the hook may panic.
        self.is_woken = true;
        (self.hook)(Function::Wake);
    }
}

impl Drop for Hooked {
    fn drop(&mut self) {
        if !mem::replace(&mut self.is_woken, true) {
            (self.hook)(Function::Drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Mutex,
    };

    use super::*;

    #[test]
    fn each_function_calls_the_hook_once_even_if_the_hook_panics() {
        for panics in [false, true] {
            let called = Arc::new(Mutex::new(Vec::new()));
            let waker = waker({
                let called = Arc::clone(&called);
                move |function| {
                    called.lock().expect("whole").push(function);
                    assert!(!panics, "on purpose");
                }
            });
            let run = |act: &mut dyn FnMut()| {
                assert_eq!(catch_unwind(AssertUnwindSafe(act)).is_err(), panics);
                mem::take(&mut *called.lock().expect("whole"))
            };
            let mut other = None;
            assert_eq!(run(&mut || other = Some(waker.clone())), [Function::Clone]);
            assert_eq!(run(&mut || waker.wake_by_ref()), [Function::WakeByRef]);
            if let Some(other) = other {
                let mut other = Some(other);
                assert_eq!(run(&mut || other.take().expect("there").wake()), [Function::Wake]);
            }
            let mut waker = Some(waker);
            assert_eq!(run(&mut || drop(waker.take())), [Function::Drop]);
        }
    }
}
