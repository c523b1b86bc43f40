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
