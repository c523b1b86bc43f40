//! Atomics that threads coordinate by.

pub(crate) use super::primitives::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
