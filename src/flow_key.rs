//! The secret by which a leveler maps flows.

use std::{
    fmt,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
};

use crate::class::NO_FLOW;

/// A secret function of the hashes of flows.
///
/// [`Class::flow`](crate::Class::flow) keeps a hash, the same in all processes. Callers can
/// therefore search for flows with the same cells of a table. A leveler maps the hash by this
/// secret function before any table sees it. For two flows chosen without the secret, the results
/// are independent and uniform (Dietzfelbinger's multiply-shift with two words): however chosen,
/// the flows share a cell as often as random numbers do. The second round hides the linearity of
/// the first from callers who can tell whether two of their flows share a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowKey([Round; 2]);

/// Of the 128-bit line `multiplier × flow + addend`, a round returns the upper half.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Round {
    multiplier: u128,
    addend: u128,
}

impl Round {
    #[inline]
    fn map(self, bits: u64) -> u64 {
        (self.multiplier.wrapping_mul(u128::from(bits)).wrapping_add(self.addend) >> 64) as u64
    }
}

impl FlowKey {
    /// Returns a new secret, from the operating system's random numbers.
    pub(crate) fn random() -> Self {
        let random = RandomState::new();
        Self::from_words(|nth| random.hash_one(nth))
    }

    /// Returns the secret for `secret`, the same in every process built with the same standard
    /// library.
    pub(crate) fn of(secret: impl Hash) -> Self {
        Self::from_words(|nth| {
            let mut hasher = DefaultHasher::new();
            secret.hash(&mut hasher);
            nth.hash(&mut hasher);
            hasher.finish()
        })
    }

    fn from_words(word: impl Fn(u64) -> u64) -> Self {
        let double = |nth| u128::from(word(nth)) << 64 | u128::from(word(nth + 1));
        let round = |nth| Round { multiplier: double(nth), addend: double(nth + 2) };
        Self([round(0), round(4)])
    }

    /// Returns the flow for the tables of a leveler. [`NO_FLOW`] stays, and no other flow becomes
    /// [`NO_FLOW`].
    #[inline]
    pub(crate) fn map(&self, flow: u64) -> u64 {
        if flow == NO_FLOW {
            return NO_FLOW;
        }
        let [first, second] = self.0;
        second.map(first.map(flow)).max(NO_FLOW + 1)
    }
}

/// Prints no secret.
impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_that_collide_without_the_secret_do_not_collide_with_it() {
        // Both cells of a sketch with 512 cells in a row.
        let cells = |flow: u64| (flow % 512, (flow >> 32) % 512);
        let victim = 7;
        let colliding = (8..).filter(|flow| cells(*flow) == cells(victim)).take(20);
        let key = FlowKey::random();
        let still = colliding.filter(|flow| cells(key.map(*flow)) == cells(key.map(victim)));
        assert!(still.count() <= 1, "by chance, each with a probability of 1 in 262 144");
    }

    #[test]
    fn the_results_are_spread_and_no_flow_stays_none() {
        let key = FlowKey::of("secret");
        let mut cells = [0; 64];
        (1..=64_000_u64).for_each(|flow| cells[key.map(flow) as usize % 64] += 1);
        assert!(cells.iter().all(|count| (600..1400).contains(count)), "{cells:?}");
        assert_eq!(key.map(NO_FLOW), NO_FLOW);
        assert_eq!(key, FlowKey::of("secret"));
        assert_ne!(key, FlowKey::of("another"));
        assert_ne!(FlowKey::random(), FlowKey::random());
        assert_eq!(format!("{key:?}"), "FlowKey");
    }
}
