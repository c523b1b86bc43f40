/// The bounds of a limit, and its start.
///
/// Keeps the values as set, so the order of setting does not matter. In a contradiction the minimum
/// prevails over the maximum, and both prevail over the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) initial: f64,
}

impl Bounds {
    /// Returns the limit to start with.
    pub(super) fn start(&self) -> f64 {
        self.clamp(self.initial)
    }

    /// Returns the allowed limit nearest to `limit`.
    pub(super) fn clamp(&self, limit: f64) -> f64 {
        // `f64::clamp` panics on contradictions.
        limit.min(self.max).max(self.min)
    }
}

/// Returns a whole bound, at least 1: algorithms with whole bounds keep the limit at 1 or above.
pub(super) fn whole(bound: usize) -> f64 {
    bound.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_settled_in_favour_of_the_minimum() {
        for (min, initial, max, start) in [
            (1.0, 20.0, 200.0, 20.0),
            (5.0, 1.0, 9.0, 5.0),
            (5.0, 99.0, 9.0, 9.0),
            (9.0, 1.0, 5.0, 9.0),
        ] {
            let bounds = Bounds { min, max, initial };
            assert_eq!(bounds.start(), start, "{bounds:?}");
        }
    }
}
