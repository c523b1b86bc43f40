//! Higher ones first, and what the others keep.

use super::*;
use Priority::*;

#[test]
fn higher_ones_go_first() {
    let mut rig = Rig::new(Rules { guaranteed_share: 0.0, ..Rules::default() });
    for one in [Background, Low, Normal, High, Critical] {
        rig.push_many(2, &priority(one));
    }
    assert_eq!(rig.drain(), [8, 9, 6, 7, 4, 5, 2, 3, 0, 1]);
}

/// Trap T38. What is 24 hours of a flood at 1000 a second is simply so many requests here.
#[test]
fn lower_ones_keep_their_share_under_a_flood_of_higher_ones() {
    let mut rig = Rig::new(Rules::default());
    rig.times = [Some(MS); 5];
    let mut served = [0; 5];
    for one in Priority::ALL {
        rig.push_many(2, &priority(one));
    }
    for _ in 0..100_000 {
        let entry = rig.next().expect("all levels have some waiting");
        served[entry.rank.priority.index()] += 1;
        rig.items.clear();
        rig.push(priority(entry.rank.priority));
    }
    for one in [High, Normal, Low, Background] {
        let share = f64::from(served[one.index()]) / 100_000.0;
        assert!((0.049..0.055).contains(&share), "{one:?}: {share}");
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
        let entry = rig.next().expect("both have one waiting");
        low += f64::from(u8::from(entry.rank.priority == Low));
        rig.items.clear();
        rig.push(priority(entry.rank.priority));
    }
    let share = low * 100.0 / (low * 100.0 + (100_000.0 - low));
    assert!((0.045..0.055).contains(&share), "{share}");
}

#[test]
fn whoever_comes_for_a_higher_one_or_a_shorter_flow_pushes_out_the_oldest_of_the_lowest() {
    let mut rig = Rig::new(Rules::default());
    rig.push_many(2, &priority(High));
    rig.push_many(2, &priority(Low));
    let mut victim = || rig.line.evict().map(|victim| (victim.entry.item.id, victim.reason));
    assert_eq!(victim(), Some((2, Reason::Evicted)));
    assert_eq!(victim(), Some((3, Reason::Evicted)));
    assert_eq!(victim(), Some((1, Reason::Full)), "among equals it is the newcomer that goes");
}

#[test]
fn a_level_in_which_all_have_gone_has_nobody_to_push_out() {
    let mut rig = Rig::new(Rules::default());
    rig.push_many(2, &priority(High));
    let gone = rig.push(priority(Low));
    rig.leaves(gone);
    let victim = rig.line.evict().map(|victim| (victim.entry.item.id, victim.reason));
    assert_eq!(victim, Some((1, Reason::Full)));
}
