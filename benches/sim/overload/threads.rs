//! Runs do not depend on each other, so each core makes one.

use std::{
    num::NonZero,
    sync::{Mutex, PoisonError, atomic::AtomicUsize, atomic::Ordering::Relaxed},
    thread,
};

/// Does this with each, and returns the results in the same order.
pub fn map<J: Sync, T: Send>(jobs: &[J], work: impl Fn(&J) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(jobs.len()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, NonZero::get) {
            scope.spawn(|| {
                while let Some((place, job)) = take(jobs, &next) {
                    let result = work(job);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((place, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, J>(jobs: &'a [J], next: &AtomicUsize) -> Option<(usize, &'a J)> {
    let place = next.fetch_add(1, Relaxed);
    jobs.get(place).map(|job| (place, job))
}
