//! The flows at their limit.

use std::{fmt, iter, sync::OnceLock};

use crate::{
    rng::mix,
    sync::figure::{AtomicU32, Ordering::Relaxed},
};

/// A set of flows, read without a lock. Only one thread at a time writes.
///
/// With a limit of 1, each running flow is at its limit, so the flows may be many. A small sketch
/// would take nearly every other flow for one of them. The set keeps a tag of each flow, and takes
/// one flow in 2³⁰ for another. If the bucket of a flow has no free place, the flow is left out.
pub(super) struct FullFlows(OnceLock<Box<[Bucket]>>);

type Bucket = [AtomicU32; PLACES];

/// The number of buckets: 32 KiB, once a flow is at its limit. Of 2000 flows some ten are left out.
const BUCKETS: usize = 2048;
const PLACES: usize = 4;

/// The tag of a free place.
const FREE: u32 = 0;

impl FullFlows {
    pub(super) fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(super) fn contains(&self, flow: u64) -> bool {
        let Some(buckets) = self.0.get() else { return false };
        let (bucket, tag) = place(buckets, flow);
        bucket.is_some_and(|bucket| bucket.iter().any(|place| place.load(Relaxed) == tag))
    }

    pub(super) fn insert(&self, flow: u64) {
        self.replace(flow, |_| FREE, |tag| tag);
    }

    pub(super) fn remove(&self, flow: u64) {
        self.replace(flow, |tag| tag, |_| FREE);
    }

    /// Replaces the first tag `before` in the bucket of a flow by the tag `after`, for the tag of
    /// the flow.
    fn replace(&self, flow: u64, before: impl Fn(u32) -> u32, after: impl Fn(u32) -> u32) {
        let new = || iter::repeat_with(Bucket::default).take(BUCKETS).collect();
        let (bucket, tag) = place(self.0.get_or_init(new), flow);
        let mut places = bucket.into_iter().flatten();
        if let Some(place) = places.find(|place| place.load(Relaxed) == before(tag)) {
            place.store(after(tag), Relaxed);
        }
    }
}

/// Returns the bucket of a flow, and the tag.
fn place(buckets: &[Bucket], flow: u64) -> (Option<&Bucket>, u32) {
    let hash = mix(flow);
    (buckets.get(hash as usize % BUCKETS), ((hash >> 32) as u32).max(FREE + 1))
}

impl fmt::Debug for FullFlows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FullFlows").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_full_flows_nearly_all_are_known_and_no_other_is_taken_for_one() {
        let flows = FullFlows::new();
        assert!(!flows.contains(7));
        (0..2000).for_each(|flow| flows.insert(mix(flow)));
        let known = |range: std::ops::Range<u64>| range.filter(|flow| flows.contains(mix(*flow)));
        assert!(known(0..2000).count() >= 1980);
        assert_eq!(known(2000..102_000).count(), 0);
        (0..1000).for_each(|flow| flows.remove(mix(flow)));
        assert_eq!(known(0..1000).count(), 0);
        assert!(known(1000..2000).count() >= 990);
        (0..2000).for_each(|flow| flows.remove(mix(flow)));
        assert_eq!(known(0..2000).count(), 0, "one that was left out takes nobody else away");
        (0..2000).for_each(|flow| flows.insert(mix(flow + 5000)));
        assert!(known(5000..7000).count() >= 1980, "the places are free again");
    }
}
