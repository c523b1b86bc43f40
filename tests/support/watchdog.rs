//! A watchdog: a test that hangs fails.

use std::{sync::mpsc, thread, time::Duration};

/// Runs a test on a thread of its own, with a runtime, and fails if it does not end.
#[track_caller]
pub fn ends<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    ends_with("it", test);
}

/// As [`ends`], and says `what` hangs.
#[track_caller]
pub fn ends_with<F: Future<Output = ()>>(what: &str, test: impl FnOnce() -> F + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(test());
        let _ = sender.send(());
    });
    match receiver.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        _ => assert!(thread.join().is_ok(), "{what} fails"),
    }
}
