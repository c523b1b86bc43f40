/// Between what a limit stays, and where it starts.
///
/// Kept as they were said, so that it does not matter in which order. Where they contradict each other the
/// minimum goes before the maximum, and both before the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) initial: f64,
}

impl Bounds {
    /// Returns the limit to start with.
    pub(super) fn start(&self) -> f64 {
        self.clamp(self.initial)
    }

    /// Returns what is allowed that is nearest to `limit`.
    pub(super) fn clamp(&self, limit: f64) -> f64 {
        // `f64::clamp` panics on contradictions.
        limit.min(self.max).max(self.min)
    }
}

/// A whole bound: zero is taken for one, since no limit is below it.
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
