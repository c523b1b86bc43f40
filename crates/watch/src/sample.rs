//! One second of a leveler, as kept for five minutes.

use std::time::Duration;

use tower_load_leveling::{Priority, Stats, error::Reason};

use crate::times::{Micros, Times};

/// A second of a leveler: the counts of the second, and the state at the end.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The number of the sample; the same for all levelers of a dashboard.
    pub(crate) id: u64,
    /// The end of the second, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) period: Micros,
    pub(crate) asked: u32,
    pub(crate) succeeded: u32,
    /// Calls that ended with an error or a panic.
    pub(crate) failed: u32,
    pub(crate) cancelled: u32,
    /// Requests refused or removed, in the order of [`Reason::ALL`].
    pub(crate) rejected: [u32; Reason::ALL.len()],
    pub(crate) queued: u32,
    pub(crate) in_flight: u32,
    pub(crate) slots_taken: u32,
    pub(crate) limit: u32,
    pub(crate) capacity: u32,
    pub(crate) oldest_wait: Option<Micros>,
    pub(crate) max_wait: Option<Micros>,
    pub(crate) paused: bool,
    pub(crate) closed: bool,
    pub(crate) wait: Times,
    pub(crate) removed_wait: Times,
    pub(crate) service_time: Times,
    /// The counts of each priority, in the order of [`Priority::ALL`].
    pub(crate) priorities: [OfPriority; Priority::ALL.len()],
}

/// The counts of one priority in a second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OfPriority {
    pub(crate) asked: u32,
    pub(crate) turned_away: u32,
    pub(crate) queued: u32,
}

impl Sample {
    /// Keeps the part of `stats` that a page shows. `stats` are of the second alone.
    pub(crate) fn of(stats: &Stats, max_wait: Option<Duration>, id: u64, at: u64) -> Self {
        let rejected = Reason::ALL
            .iter()
            .map(|reason| small(stats.refused.get(*reason) + stats.removed.get(*reason)));
        let priorities = Priority::ALL.iter().map(|priority| {
            let of = stats.priority(*priority);
            let turned_away = of.refused.total() + of.removed.total();
            OfPriority {
                asked: small(of.arrived()),
                turned_away: small(turned_away),
                queued: small(of.queued as u64),
            }
        });
        Self {
            id,
            at,
            period: stats.period.into(),
            asked: small(stats.arrived()),
            succeeded: small(stats.succeeded),
            failed: small(stats.failed + stats.panicked),
            cancelled: small(stats.cancelled),
            rejected: filled(rejected),
            queued: small(stats.queued as u64),
            in_flight: small(stats.in_flight as u64),
            slots_taken: small(stats.slots_taken as u64),
            limit: small(stats.limit as u64),
            capacity: small(stats.capacity as u64),
            oldest_wait: stats.oldest_wait.map(Micros::from),
            max_wait: max_wait.map(Micros::from),
            paused: stats.paused,
            closed: stats.closed,
            wait: Times::of(&stats.wait),
            removed_wait: Times::of(&stats.removed_wait),
            service_time: Times::of(&stats.service_time),
            priorities: filled(priorities),
        }
    }
}

/// Shortens a count to four bytes, to keep five minutes small. A second has fewer than 2³² calls.
fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Fills an array in the order of the values.
fn filled<T: Default + Copy, const N: usize>(values: impl Iterator<Item = T>) -> [T; N] {
    let mut array = [T::default(); N];
    array.iter_mut().zip(values).for_each(|(place, value)| *place = value);
    array
}
