//! The choice of the request to evict.

use super::{
    flow_limit::FlowLimit, guaranteed_share::LEVELS, item::QueueItem, level_summary::Gone,
    next::Victim, priority_level::PriorityLevel,
};
use crate::{class::NO_FLOW, error::Reason};

/// Takes the oldest request of the longest flow in the lowest level, or of an even longer held flow
/// in a higher level: requests beyond a flow's limit have no priority. If no request should give
/// way any more (two newcomers counted on the same victim), takes the newest.
pub(super) fn evict<T: QueueItem>(
    levels: &mut [PriorityLevel<T>; LEVELS],
    gone: &Gone,
    limit: &FlowLimit,
) -> Option<Victim<T>> {
    loop {
        let held = if limit.is_on() { longest_held(levels, gone, limit) } else { None };
        if let Some(level) = held {
            if let Some(entry) = levels[level].pop_oldest(gone[level]) {
                return Some(Victim { entry, reason: Reason::Evicted, over_share: true });
            }
        }
        let mut waiting = levels.iter_mut().zip(gone).rev().filter(|(level, _)| level.len() > 0);
        let (lowest, gone) = waiting.next()?;
        let for_higher = waiting.next().is_some();
        let over_share = !for_higher && lowest.is_uneven();
        let gives_way = for_higher || lowest.has_several();
        let victim = if gives_way { lowest.pop_oldest(*gone) } else { lowest.pop_newest(*gone) };
        // Without a victim, the level held only tombstones, all dropped now.
        if let Some(entry) = victim {
            let reason = if gives_way { Reason::Evicted } else { Reason::Full };
            let over_share = over_share && entry.rank.flow != NO_FLOW;
            return Some(Victim { entry, reason, over_share });
        }
    }
}

/// Returns the level with the longest held flow, if the level is above the lowest, and the flow is
/// longer than the longest flow of the lowest level.
fn longest_held<T: QueueItem>(
    levels: &mut [PriorityLevel<T>; LEVELS],
    gone: &Gone,
    limit: &FlowLimit,
) -> Option<usize> {
    let waiting = levels.iter_mut().zip(gone).enumerate().rev();
    let mut flows = waiting
        .filter_map(|(index, (level, gone))| Some((index, level.longest_flow(*gone, limit)?)));
    let (_, mut longest) = flows.next()?;
    let mut found = None;
    for (index, flow) in flows {
        if flow.is_held && flow.is_longer_than(&longest) {
            (longest, found) = (flow, Some(index));
        }
    }
    found
}
