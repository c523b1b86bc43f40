//! What is found, and how much was done.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::plan::Plan;

/// The calls made by all rounds that have ended.
pub(crate) static CALLS: AtomicU64 = AtomicU64::new(0);
pub(crate) static ROUNDS: AtomicU64 = AtomicU64::new(0);
static FAULTS: AtomicU64 = AtomicU64::new(0);

/// Reports a fault: what law is broken, and the round.
pub(crate) fn fault(plan: &Plan, what: &str) {
    // The first says most of it.
    if FAULTS.fetch_add(1, SeqCst) >= 10 {
        return;
    }
    eprintln!("FAULT {what}\n  --seed {} --round {}: {plan:?}", plan.seed, plan.round);
}

pub(crate) fn faults() -> u64 {
    FAULTS.load(SeqCst)
}

/// The memory of this process, in KiB; `None` where the system does not tell.
pub(crate) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
