//! Higher priorities first, and the guaranteed share of the rest.

use super::*;
use Priority::*;

#[test]
fn higher_priorities_go_first() {
    let mut rig = Rig::new(Rules { guaranteed_share: 0.0, ..Rules::default() });
    for level in [Background, Low, Normal, High, Critical] {
        rig.push_many(2, &priority(level));
    }
    assert_eq!(rig.drain(), [8, 9, 6, 7, 4, 5, 2, 3, 0, 1]);
}

/// Trap T38. A flood has no duration here, only a number of requests: 100 000 stand for 24 hours at
/// 1000 a second.
#[test]
fn lower_ones_keep_their_share_under_a_flood_of_higher_ones() {
    let mut rig = Rig::new(Rules::default());
    rig.times = [Some(MS); 5];
    let mut served = [0; 5];
    for level in Priority::EACH {
        rig.push_many(2, &priority(level));
    }
    for _ in 0..100_000 {
        let entry = rig.next().expect("all levels have some waiting");
        served[entry.rank.priority.index()] += 1;
        rig.items.clear();
        rig.push(priority(entry.rank.priority));
    }
    for level in [High, Normal, Low, Background] {
        let share = f64::from(served[level.index()]) / 100_000.0;
        assert!((0.049..0.055).contains(&share), "{level:?}: {share}");
    }
}

#[test]
fn the_share_is_one_of_time_and_not_of_requests() {
    let mut rig = Rig::new(Rules::default());
    rig.times[High.index()] = Some(MS);
    rig.times[Low.index()] = Some(MS * 100);
    rig.push(priority(High));
    rig.push(priority(Low));
    let mut low = 0.0;
    for _ in 0..100_000 {
        let entry = rig.next().expect("both priorities wait");
        low += f64::from(u8::from(entry.rank.priority == Low));
        rig.items.clear();
        rig.push(priority(entry.rank.priority));
    }
    let share = low * 100.0 / (low * 100.0 + (100_000.0 - low));
    assert!((0.045..0.055).contains(&share), "{share}");
}

#[test]
fn a_request_of_a_higher_priority_evicts_the_oldest_of_the_lowest() {
    let mut rig = Rig::new(Rules::default());
    rig.push_many(2, &priority(High));
    rig.push_many(2, &priority(Low));
    let mut victim =
        || rig.queue.evict(&Gone::default()).map(|victim| (victim.entry.item.id, victim.reason));
    assert_eq!(victim(), Some((2, Reason::Evicted)));
    assert_eq!(victim(), Some((3, Reason::Evicted)));
    assert_eq!(victim(), Some((1, Reason::Full)), "among equals the newcomer goes");
}

#[test]
fn a_level_of_tombstones_has_no_victim() {
    let mut rig = Rig::new(Rules::default());
    rig.push_many(2, &priority(High));
    let gone = rig.push(priority(Low));
    rig.leaves(gone);
    let victim =
        rig.queue.evict(&Gone::default()).map(|victim| (victim.entry.item.id, victim.reason));
    assert_eq!(victim, Some((1, Reason::Full)));
}
