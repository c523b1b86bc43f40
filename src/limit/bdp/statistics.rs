/// Count, mean and variance of some times, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    pub(super) count: f64,
    sum: f64,
    squares: f64,
}

impl Spread {
    pub(super) fn add(&mut self, time: f64) {
        self.count += 1.0;
        self.sum += time;
        self.squares += time * time;
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    /// Returns the squared coefficient of variation.
    pub(super) fn variation(&self) -> f64 {
        let mean = self.mean();
        (self.squares / self.count / (mean * mean) - 1.0).max(0.0)
    }
}

/// The number of calls, and of calls that took longer than a baseline.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Longer {
    count: f64,
    longer: f64,
}

impl Longer {
    pub(super) fn add(&mut self, longer: bool) {
        self.count += 1.0;
        self.longer += f64::from(u8::from(longer));
    }

    /// Returns whether nearly all calls took longer: of at least `count` calls more than
    /// `share`, and more than a half by three standard errors.
    ///
    /// A sign test: a few calls of any length do not pass, where a mean would follow.
    pub(super) fn are_most(&self, count: f64, share: f64) -> bool {
        let chance = 0.5 + 3.0 * 0.5 / self.count.sqrt();
        self.count >= count && self.longer > chance.max(share) * self.count
    }
}

/// A weighted mean. If `count` is capped from outside, later values slowly replace earlier ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    pub(super) value: f64,
    pub(super) count: f64,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64, count: f64) {
        self.count += count;
        self.value += (value - self.value) * count / self.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(longer: usize, count: usize) -> Longer {
        let mut calls = Longer::default();
        (0..count).for_each(|call| calls.add(call < longer));
        calls
    }

    #[test]
    fn most_calls_are_longer_only_beyond_chance() {
        assert!(of(15, 16).are_most(16.0, 0.7) && !of(13, 16).are_most(16.0, 0.7));
        assert!(!of(15, 15).are_most(16.0, 0.7), "too few to say");
        // From many calls the share counts.
        assert!(of(720, 1000).are_most(16.0, 0.7) && !of(690, 1000).are_most(16.0, 0.7));
    }
}
