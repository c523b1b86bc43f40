use std::{fmt, hash::Hash, sync::OnceLock};

use crate::{
    class::{Class, NO_FLOW},
    flow_key::FlowKey,
};

/// The numbers of one of the busiest flows, in [`Stats::flows`](crate::Stats::flows).
///
/// The numbers are estimates: one call in eight is looked at, and counts for eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowStats {
    /// The flow.
    pub id: FlowId,
    /// Requests that arrived, admitted or refused. Too many by at most `error`.
    pub asked: u64,
    /// Requests refused on arrival or removed from the queue, since the flow is on the list.
    pub rejected: u64,
    /// The most by which `asked` may be too high, chance apart: the count inherited from the flow
    /// that this flow displaced from the list.
    pub error: u64,
}

impl FlowStats {
    pub(crate) fn new(id: FlowId, asked: u64, rejected: u64, error: u64) -> Self {
        // Both numbers are sampled separately, so by chance more may seem rejected than asked.
        Self { id, asked, rejected: rejected.min(asked), error }
    }

    /// Returns the requests of each flow since an earlier snapshot, the busiest flow first.
    pub(super) fn since(now: &[Self], earlier: &[Self]) -> Vec<Self> {
        let since = |now: &Self| {
            let same = |before: &&Self| before.id == now.id && before.error == now.error;
            match earlier.iter().find(same) {
                Some(before) => {
                    let asked = now.asked.saturating_sub(before.asked);
                    let rejected = now.rejected.saturating_sub(before.rejected);
                    Self::new(now.id, asked, rejected, 0)
                }
                // The flow joined the list since then. The requests before count as the error.
                None => Self::new(now.id, now.asked.saturating_sub(now.error), now.rejected, 0),
            }
        };
        let mut flows: Vec<_> = now.iter().map(since).collect();
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.asked));
        flows
    }
}

/// A flow without its name: a number, the same in all levelers of a process and different in every
/// process.
///
/// [`Class::flow`](crate::Class::flow) keeps a hash, the same in all processes. Anybody with a list
/// of tenants could find names from the hash. An id is the hash mapped by a secret of the process.
/// `Display` prints six hex digits. Two flows may print the same digits by chance: among 64 flows
/// once in 8000 processes.
///
/// ```
/// use tower_load_leveling::stats::FlowId;
///
/// assert_eq!(FlowId::of("tenant-7"), FlowId::of("tenant-7"));
/// assert_eq!(FlowId::of("tenant-7").to_string().len(), 6);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(u64);

impl FlowId {
    /// Returns the id of the flow, given as to [`Class::flow`](crate::Class::flow), so that a
    /// program can show its own names of the flows.
    #[must_use]
    pub fn of(flow: impl Hash) -> Self {
        Self::salted(Class::new().flow(flow).rank.flow)
    }

    /// Returns the id for the hash in a class.
    pub(crate) fn salted(flow: u64) -> Self {
        static SALT: OnceLock<FlowKey> = OnceLock::new();
        debug_assert_ne!(flow, NO_FLOW, "requests without a flow have no id");
        Self(SALT.get_or_init(FlowKey::random).map(flow))
    }
}

/// Prints six hex digits.
impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format_args!("{:06x}", self.0 >> 40).to_string();
        f.pad(&digits)
    }
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlowId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(id: u64, asked: u64, rejected: u64, error: u64) -> FlowStats {
        FlowStats::new(FlowId(id), asked, rejected, error)
    }

    #[test]
    fn the_difference_is_what_each_flow_asked_since() {
        let earlier = [flow(1, 800, 80, 0), flow(2, 160, 0, 8), flow(3, 160, 0, 0)];
        let now = [
            flow(1, 880, 80, 0),
            flow(2, 400, 16, 8),
            // Was off the list in between, and is new, like the last.
            flow(3, 300, 8, 250),
            flow(4, 240, 24, 160),
        ];
        let since = FlowStats::since(&now, &earlier);
        assert_eq!(
            since,
            [flow(2, 240, 16, 0), flow(1, 80, 0, 0), flow(4, 80, 24, 0), flow(3, 50, 8, 0)]
        );
    }
}
