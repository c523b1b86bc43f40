//! When to look for tombstones.

/// The number of tombstones below which a purge, linear in the entries, is not worth the time.
pub(super) const PURGE_ABOVE: usize = 1024;

/// The number of entries to look at for each gone request, and thus the greatest error of a weight
/// with tombstones: a 32nd. More costs time.
const LOOKS_PER_GONE: u64 = 32;

/// The number of entries to look at however few requests have gone.
const LOOKS: usize = 256;

/// Returns whether to look at `len` entries for the tombstones of `gone` slots at most.
pub(super) fn is_worth_looking(len: usize, gone: u64) -> bool {
    gone > 0 && (len <= LOOKS || len as u64 <= gone.saturating_mul(LOOKS_PER_GONE))
}
