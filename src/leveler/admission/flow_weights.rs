//! The flows of the waiting requests, with the weight of each.

use std::{fmt, iter, sync::OnceLock};

use crate::sync::figure::{AtomicU64, Ordering::Relaxed};

/// The weight of each flow, counted without a lock.
///
/// While requests of a flow wait, the flow has a word in the bucket of its hash. If the bucket has
/// no free word, the *rest* of the bucket counts the requests of the flow, together with those of
/// other such flows. So a weight is exact while the bucket has no rest, and within bounds
/// otherwise. One flow in 2²⁴ takes a flow of the same bucket for itself. If two threads add the
/// first requests of a flow at once, and a word becomes free in between, the flow may have two
/// words: the weight stays exact, and the share counts twice until one of the words is free.
///
/// Each change is a step on a single word. A request is counted out of the word that the request
/// was counted into.
pub(super) struct FlowWeights {
    buckets: OnceLock<Box<[Bucket]>>,
    /// The number of buckets less 1.
    mask: u32,
}

/// The words of [`WORDS`] - 1 flows, and the rest. See [`Word`].
#[derive(Default)]
#[repr(align(32))]
struct Bucket([AtomicU64; WORDS]);

const WORDS: usize = 4;
const REST: usize = WORDS - 1;

/// The most buckets: 64 KiB, once a flow waits. Of 1000 flows some five are in a rest, and of 1000
/// flows in half of the buckets some 20.
const MAX_BUCKETS: usize = 2048;
const MIN_BUCKETS: usize = 64;

/// Names the word of a queued request with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowPlace(u32);

impl FlowPlace {
    /// Of a request without a flow.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// The upper 24 bits of a flow's hash, 10 bits of the share, and 30 bits of the weight. All places
/// of the leveler together number less than 2³⁰. 0 is a free word. The rest has a weight alone.
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    const WEIGHT: u32 = 30;
    const TAG: u32 = 40;

    #[inline]
    fn new(hash: u64, share: u16, weight: u64) -> Self {
        Self(hash >> Self::TAG << Self::TAG | u64::from(share) << Self::WEIGHT | weight)
    }

    #[inline]
    fn is_of(self, hash: u64) -> bool {
        (self.0 ^ hash) >> Self::TAG == 0
    }

    #[inline]
    fn weight(self) -> u64 {
        self.0 % (1 << Self::WEIGHT)
    }

    #[inline]
    fn share(self) -> u64 {
        self.0 >> Self::WEIGHT & 0x3ff
    }

    /// Puts another word into the place of this one. Returns false if this one is no longer there.
    #[inline]
    fn replace(self, place: &AtomicU64, new: Self) -> bool {
        place.compare_exchange(self.0, new.0, Relaxed, Relaxed).is_ok()
    }
}

/// The bounds of a weight. Equal, unless the bucket has a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) least: u64,
    pub(super) most: u64,
}

/// A request counted in. The change is that of the sum of all shares, to be added with wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) place: FlowPlace,
    pub(super) shares: u64,
}

impl FlowWeights {
    /// Returns a table for about so many flows.
    pub(super) fn new(flows: usize) -> Self {
        let buckets = flows.min(MAX_BUCKETS).next_power_of_two().max(MIN_BUCKETS);
        Self { buckets: OnceLock::new(), mask: buckets as u32 - 1 }
    }

    /// Adds to the weight of the flow with this hash, and sets the share of the flow, if the flow
    /// has the first word of the bucket, or the whole bucket is free. Otherwise use
    /// [`add`](Self::add), which does the same, and takes longer.
    #[inline]
    pub(super) fn add_first(&self, hash: u64, weight: u32, share: u16) -> Option<Added> {
        let index = hash as u32 & self.mask;
        let Bucket([first, second, third, _]) = self.buckets.get()?.get(index as usize)?;
        let (word, new) = (Word(first.load(Relaxed)), Word::new(hash, share, weight.into()));
        let place = FlowPlace(index * WORDS as u32);
        if word.0 == 0 {
            let is_free = second.load(Relaxed) | third.load(Relaxed) == 0;
            let shares = share.into();
            return (is_free && word.replace(first, new)).then_some(Added { place, shares });
        }
        let shares = u64::from(share).wrapping_sub(word.share());
        let is_ours = word.is_of(hash) && word.replace(first, Word(new.0 + word.weight()));
        is_ours.then_some(Added { place, shares })
    }

    /// Adds to the weight of the flow with this hash, and sets the share of the flow. Flows in a
    /// rest have no share.
    pub(super) fn add(&self, hash: u64, weight: u32, share: u16) -> Added {
        let new = || iter::repeat_with(Bucket::default).take(self.mask as usize + 1).collect();
        self.buckets.get_or_init(new);
        loop {
            if let Some(added) = self.try_add(hash, weight.into(), share) {
                return added;
            }
        }
    }

    /// Adds in one step. `None` if another thread got in between.
    fn try_add(&self, hash: u64, weight: u64, share: u16) -> Option<Added> {
        let index = hash as u32 & self.mask;
        let Bucket(words) = self.buckets.get()?.get(index as usize)?;
        let added = |nth: usize, shares| {
            Some(Added { place: FlowPlace(index * WORDS as u32 + nth as u32), shares })
        };
        for is_wanted in
            [|word: Word, hash| word.0 != 0 && word.is_of(hash), |word: Word, _| word.0 == 0]
        {
            for (nth, place) in words[..REST].iter().enumerate() {
                let word = Word(place.load(Relaxed));
                if is_wanted(word, hash) {
                    let new = Word::new(hash, share, word.weight() + weight);
                    let change = u64::from(share).wrapping_sub(word.share());
                    return if word.replace(place, new) { added(nth, change) } else { None };
                }
            }
        }
        words[REST].fetch_add(weight, Relaxed);
        added(REST, 0)
    }

    /// Takes off a weight counted into this place. Returns the change of the sum of all shares.
    #[inline]
    pub(super) fn subtract(&self, FlowPlace(place): FlowPlace, weight: u32) -> u64 {
        let bucket = self.buckets.get().and_then(|all| all.get(place as usize / WORDS));
        let Some(Bucket(words)) = bucket else { return 0 };
        let place = &words[place as usize % WORDS];
        let word = Word(place.fetch_sub(weight.into(), Relaxed) - u64::from(weight));
        // Whoever leaves no weight frees the word, unless the flow has come back.
        let is_free = word.weight() == 0 && word.replace(place, Word(0));
        if is_free { word.share().wrapping_neg() } else { 0 }
    }

    /// Returns the weight of the flow with this hash.
    #[inline]
    pub(super) fn get(&self, hash: u64) -> Bounds {
        let bucket = self.buckets.get().and_then(|all| all.get((hash as u32 & self.mask) as usize));
        let Some(Bucket(words)) = bucket else { return Bounds { least: 0, most: 0 } };
        let of_flows = words[..REST].iter().map(|place| Word(place.load(Relaxed)));
        let least = of_flows.filter(|word| word.is_of(hash)).map(Word::weight).sum();
        Bounds { least, most: least + words[REST].load(Relaxed) }
    }
}

impl fmt::Debug for FlowWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowWeights").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::mix;

    fn exactly(weight: u64) -> Bounds {
        Bounds { least: weight, most: weight }
    }

    /// A hash with this tag. All are in the same bucket.
    fn hash(tag: u64) -> u64 {
        tag << Word::TAG | 7
    }

    #[test]
    fn the_weights_of_a_thousand_flows_are_nearly_all_exact_and_the_rest_within_bounds() {
        let weights = FlowWeights::new(5000);
        let all = || (0..1000).map(|flow| (mix(flow), flow as u32 % 7 + 1));
        let (mut shares, mut places) = (0_u64, Vec::new());
        for share in [1, 1000, 3] {
            for (hash, weight) in all() {
                let quick = weights.add_first(hash, weight, share);
                let added = quick.unwrap_or_else(|| weights.add(hash, weight, share));
                shares = shares.wrapping_add(added.shares);
                places.push((added.place, weight));
            }
        }
        let is_exact =
            |(hash, weight): &(u64, u32)| weights.get(*hash) == exactly(u64::from(*weight) * 3);
        let exact = all().filter(is_exact).count();
        assert!(exact >= 970, "{exact}");
        for (hash, weight) in all() {
            let Bounds { least, most } = weights.get(hash);
            assert!(least <= u64::from(weight) * 3 && u64::from(weight) * 3 <= most);
        }
        assert!((990 * 3..=1000 * 3).contains(&shares), "{shares}");
        let strangers = (1000..3000).map(|flow| weights.get(mix(flow)).least);
        assert_eq!(strangers.max(), Some(0), "nobody is taken for another flow");
        for (place, weight) in places {
            shares = shares.wrapping_add(weights.subtract(place, weight));
        }
        assert!((0..3000).all(|flow| weights.get(mix(flow)) == exactly(0)));
        assert_eq!(shares, 0);
    }

    #[test]
    fn a_flow_in_the_rest_is_counted_out_of_it_whatever_word_the_flow_gets_later() {
        let weights = FlowWeights::new(1);
        let [first, second, third] = [0, 1, 2].map(|tag| weights.add(hash(tag), 10, 2).place);
        let rest = weights.add(hash(5), 3, 9);
        assert_eq!(rest.shares, 0, "the rest has no shares");
        assert_eq!(weights.get(hash(5)), Bounds { least: 0, most: 3 });
        assert_eq!(weights.get(hash(1)), Bounds { least: 10, most: 13 });
        assert_eq!(weights.subtract(first, 10) as i64, -2);
        let later = weights.add(hash(5), 1, 9);
        assert_eq!(later.shares, 9);
        assert_eq!(weights.get(hash(5)), Bounds { least: 1, most: 4 });
        assert_eq!(weights.subtract(rest.place, 3), 0);
        assert_eq!(weights.get(hash(5)), exactly(1));
        assert_eq!(weights.subtract(later.place, 1) as i64, -9);
        [second, third].into_iter().for_each(|place| _ = weights.subtract(place, 10));
        assert!((0..=5).all(|tag| weights.get(hash(tag)) == exactly(0)));
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let (weights, shares) = (FlowWeights::new(64), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (weights, shares) = (&weights, &shares);
                let add = |hash, weight, share| {
                    let quick = weights.add_first(hash, weight, share);
                    let added = quick.unwrap_or_else(|| weights.add(hash, weight, share));
                    shares.fetch_add(added.shares, Relaxed);
                    added.place
                };
                let subtract =
                    |place, weight| _ = shares.fetch_add(weights.subtract(place, weight), Relaxed);
                scope.spawn(move || {
                    for nth in 0..20_000 {
                        // Eight flows, of which three at most have a word.
                        let hash = |nth: u64| hash(mix(nth + thread) % 8);
                        let two = add(hash(nth), 2, nth as u16 % 1000 + 1);
                        let one = add(hash(nth + 1), 1, 7);
                        subtract(two, 2);
                        subtract(one, 1);
                    }
                });
            }
        });
        assert!((0..8).all(|tag| weights.get(hash(tag)) == exactly(0)));
        assert_eq!(shares.into_inner(), 0);
    }
}
