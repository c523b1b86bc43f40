use tokio::time::Instant;

use super::{
    cutoff::Cutoff,
    demand::remembered_after,
    shedder::{Shedder, WINDOW},
};

/// The time over which arrivals are compared with dispatches. The drain task owns it.
#[derive(Debug)]
pub(crate) struct Window {
    cutoff: Cutoff,
    began: Instant,
    /// Requests dispatched from the queue since `began`.
    served: u64,
    /// Set if requests have been waiting for a slot all the time since `began`.
    stood: bool,
    /// The weight of all windows in the counts of demand.
    remembered: f64,
}

impl Window {
    pub(crate) fn new(now: Instant) -> Self {
        Self { cutoff: Cutoff::new(), began: now, served: 0, stood: false, remembered: 0.0 }
    }

    pub(crate) fn on_dispatched(&mut self, count: u32) {
        self.served += u64::from(count);
    }

    /// Takes note of the number of requests waiting for a slot and, at the end of a window, moves
    /// the cutoff.
    /// Returns, at the end of a window, whether requests are shed now.
    #[inline]
    pub(crate) fn look(
        &mut self,
        shedder: &Shedder,
        waiting: impl FnOnce() -> usize,
        now: Instant,
    ) -> Option<bool> {
        if shedder.has_priorities() { self.look_closely(shedder, waiting(), now) } else { None }
    }

    fn look_closely(&mut self, shedder: &Shedder, waiting: usize, now: Instant) -> Option<bool> {
        self.stood &= waiting > 0;
        let length = now.saturating_duration_since(self.began);
        if length < WINDOW {
            return None;
        }
        if !self.cutoff.is_open() && shedder.is_open() {
            // A newcomer has found the overload over.
            self.cutoff = Cutoff::new();
        }
        // More than one, if the drain task did not run for a long time.
        let windows = length.as_secs_f64() / WINDOW.as_secs_f64();
        let arrived = shedder.arrivals.take();
        let cut = self.cutoff.on_window(&arrived, self.served, self.stood, windows);
        self.remembered = remembered_after(self.remembered);
        shedder.arrivals.on_window(cut, self.remembered);
        shedder.set_cutoff(self.cutoff.level(), now);
        (self.began, self.served, self.stood) = (now, 0, waiting > 0);
        Some(!self.cutoff.is_open())
    }
}
