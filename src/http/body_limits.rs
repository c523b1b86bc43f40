//! The limits of a body with a slot. Pure.

use std::{error::Error, fmt, time::Duration};

use tokio::time::Instant;
use tower::BoxError;

use crate::error::BuildError;

/// The settings `body_idle`, `body_rate` and `body_time`.
#[derive(Clone, Copy, Debug, Default)]
#[allow(unnameable_types, reason = "for this crate alone")]
pub struct BodyLimits {
    pub(super) idle: Option<Duration>,
    /// In bytes per second.
    pub(super) rate: Option<u64>,
    pub(super) time: Option<Duration>,
}

/// The time for which a body may fall behind the rate, without `body_idle`. As in Kestrel
/// (`MinResponseDataRate`). A longer time lets trickles keep slots for longer, and a shorter time
/// cuts readers that pause.
const GRACE: Duration = Duration::from_secs(5);

/// The progress of the reader of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    opened: Instant,
    /// The time since which data lies unread. `None` while the reader waits for data.
    unread_since: Option<Instant>,
    /// The time for which data lay unread before.
    unread: Duration,
    /// The bytes handed to the reader.
    taken: u64,
}

/// The limit that a body has exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Idle,
    Slow,
    Long,
}

impl BodyLimits {
    /// Returns the error of a limit of zero.
    pub(super) fn error(&self) -> Option<BuildError> {
        let is_zero = |time: Option<Duration>| time.is_some_and(|time| time.is_zero());
        let error = |name, zero| BuildError::new(name, zero, "more than zero");
        if is_zero(self.idle) {
            return Some(error("body_idle", "0ns"));
        }
        if self.rate == Some(0) {
            return Some(error("body_rate", "0"));
        }
        is_zero(self.time).then(|| error("body_time", "0ns"))
    }

    /// Returns the earliest time at which the body can exceed a limit. `None` if never.
    ///
    /// # Errors
    ///
    /// The exceeded limit.
    pub(super) fn check(&self, progress: &Progress, now: Instant) -> Result<Option<Instant>, Cut> {
        let pace = match (self.rate, self.idle) {
            (Some(rate), idle) => {
                let taken = Duration::try_from_secs_f64(progress.taken as f64 / rate as f64);
                let allowed = taken.unwrap_or(Duration::MAX).saturating_add(idle.unwrap_or(GRACE));
                let left = allowed.saturating_sub(progress.unread_until(now));
                Some((now.checked_add(left), Cut::Slow))
            }
            (None, Some(idle)) => {
                let since = progress.unread_since.unwrap_or(now);
                Some((since.checked_add(idle), Cut::Idle))
            }
            (None, None) => None,
        };
        let time = self.time.map(|time| (progress.opened.checked_add(time), Cut::Long));
        let mut next = None::<Instant>;
        for (late, cut) in pace.into_iter().chain(time) {
            // A time beyond the clock means no limit.
            let Some(late) = late else { continue };
            if late <= now {
                return Err(cut);
            }
            next = Some(next.map_or(late, |next| next.min(late)));
        }
        Ok(next)
    }
}

impl Progress {
    /// Returns the progress of a new body.
    pub(super) fn new(now: Instant) -> Self {
        Self { opened: now, unread_since: Some(now), unread: Duration::ZERO, taken: 0 }
    }

    /// Takes note of a reader asking for data.
    pub(super) fn on_asked(&mut self, now: Instant) {
        self.unread = self.unread_until(now);
        self.unread_since = None;
    }

    /// Takes note of ready data, or of `bytes` handed to the reader.
    pub(super) fn on_data(&mut self, bytes: u64, now: Instant) {
        self.taken = self.taken.saturating_add(bytes);
        self.unread_since.get_or_insert(now);
    }

    fn unread_until(&self, now: Instant) -> Duration {
        let since = self.unread_since.map(|since| now.saturating_duration_since(since));
        self.unread.saturating_add(since.unwrap_or_default())
    }
}

impl Cut {
    pub(super) fn error(self) -> BoxError {
        match self {
            Self::Idle => BodyIdle(()).into(),
            Self::Slow => BodyTooSlow(()).into(),
            Self::Long => BodyTooLong(()).into(),
        }
    }
}

macro_rules! body_error {
    ($(#[$doc:meta])* $name:ident, $text:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name(());

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($text)
            }
        }

        impl Error for $name {}
    };
}

body_error!(
    /// The error of a response body dropped because nobody read the body for as long as
    /// [`Builder::body_idle`](crate::Builder::body_idle) allows.
    BodyIdle,
    "response body was left unread for too long"
);

body_error!(
    /// The error of a response body dropped because the reader was slower than
    /// [`Builder::body_rate`](crate::Builder::body_rate) allows.
    BodyTooSlow,
    "response body was read too slowly"
);

body_error!(
    /// The error of a response body dropped because the body took longer than
    /// [`Builder::body_time`](crate::Builder::body_time) allows.
    BodyTooLong,
    "response body took too long"
);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const KIB: u64 = 1 << 10;

    fn rate(rate: u64) -> BodyLimits {
        BodyLimits { idle: Some(2 * SECOND), rate: Some(rate), time: None }
    }

    /// Reads `bytes` a second in pieces of as much as `pieces` seconds give. Returns the time of
    /// the cut, in seconds.
    fn read(limits: BodyLimits, buffered: u64, bytes: u64, pieces: u32) -> Option<u64> {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        progress.on_asked(start);
        progress.on_data(buffered, start);
        for second in 1..=3600 {
            let now = start + SECOND * second;
            if limits.check(&progress, now).is_err() {
                return Some(second.into());
            }
            if second % pieces == 0 {
                progress.on_asked(now);
                progress.on_data(bytes * u64::from(pieces), now);
            }
        }
        None
    }

    #[test]
    fn an_honest_reader_passes_though_buffers_show_its_progress_in_bursts_only() {
        // The kernel asks for more data once a third of the buffer of a socket is free.
        for pieces in [1, 4, 13, 26] {
            assert_eq!(read(rate(64 * KIB), 2560 * KIB, 64 * KIB, pieces), None);
            assert_eq!(read(rate(64 * KIB), 2560 * KIB, 256 * KIB, pieces), None);
        }
    }

    #[test]
    fn a_trickle_is_cut_after_the_grace_and_the_time_for_what_it_took() {
        assert_eq!(read(rate(64 * KIB), 0, 0, 1), Some(2), "nothing is read");
        assert_eq!(read(rate(64 * KIB), 64 * KIB, 0, 1), Some(3));
        assert_eq!(read(rate(64 * KIB), 64 * KIB, 16 * KIB, 1), Some(4));
        assert_eq!(read(rate(64 * KIB), 2560 * KIB, 16 * KIB, 13), Some(52));
    }

    #[test]
    fn without_a_rate_silence_alone_counts() {
        let limits = BodyLimits { rate: None, ..rate(1) };
        assert_eq!(read(limits, 64 * KIB, 1, 1), None);
        assert_eq!(read(limits, 64 * KIB, 1, 3), Some(2));
    }

    #[test]
    fn the_time_without_data_does_not_count_for_the_rate_but_for_the_time() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        progress.on_asked(start);
        let later = start + 3600 * SECOND;
        assert_eq!(rate(KIB).check(&progress, later), Ok(Some(later + 2 * SECOND)));
        let limits = BodyLimits { time: Some(3600 * SECOND), ..rate(KIB) };
        assert_eq!(limits.check(&progress, later), Err(Cut::Long));
        assert_eq!(limits.check(&progress, later - SECOND), Ok(Some(later)));
    }

    #[test]
    fn limits_beyond_the_clock_are_none() {
        let start = Instant::now();
        let forever = Some(Duration::MAX);
        let limits = BodyLimits { idle: forever, rate: None, time: forever };
        assert_eq!(limits.check(&Progress::new(start), start), Ok(None));
        let limits = BodyLimits { rate: Some(1), ..limits };
        assert_eq!(limits.check(&Progress::new(start), start), Ok(None));
    }
}
