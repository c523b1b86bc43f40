use super::{algorithm::Algorithm, sample::Sample};

/// A constant limit.
///
/// The right choice when you know the number: connections of a pool, writers of a database, permits
/// of a licence, or a value found by a load test.
#[derive(Clone, Copy, Debug)]
pub struct Fixed(usize);

impl Fixed {
    /// Returns a limit of `limit` calls at once.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(limit)
    }

    pub(crate) fn get(self) -> usize {
        self.0
    }
}

impl Algorithm for Fixed {
    fn limit(&self) -> f64 {
        self.0 as f64
    }

    fn on_sample(&mut self, _sample: &Sample) {}
}
