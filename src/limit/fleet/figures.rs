/// The measurements of a fleet.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// Ended calls, as a share of the servers' capacity.
    pub(super) goodput: f64,
    /// The mean time from dispatch to end, as a multiple of the mean service time.
    pub(super) latency: f64,
    /// The mean limit of each replica.
    pub(super) limits: Vec<f64>,
}

impl Figures {
    pub(super) fn sum_of_limits(&self) -> f64 {
        self.limits.iter().sum()
    }

    /// Returns Jain's index of fairness: 1 if all replicas have the same, 1 / n if one of n has
    /// all.
    pub(super) fn fairness(&self) -> f64 {
        let squares: f64 = self.limits.iter().map(|limit| limit * limit).sum();
        self.sum_of_limits().powi(2) / (self.limits.len() as f64 * squares)
    }
}
