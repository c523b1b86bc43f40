use super::*;
use crate::{class::Class, queue::LongestFlow};

/// Returns summaries with `normal` at the default priority, and the rest empty.
fn only(normal: LevelSummary) -> [LevelSummary; LEVELS] {
    let mut summaries = [LevelSummary::default(); LEVELS];
    summaries[Priority::Normal.index()] = normal;
    summaries
}

/// Publishes summaries with `normal` at the default priority, and the rest empty.
fn publish(occupancy: &Occupancy, normal: LevelSummary) {
    occupancy.publish(only(normal), &occupancy.departed());
}

/// A queue of the default priority with an exactly known longest flow.
fn flows(active: usize, longest: u64) -> LevelSummary {
    let shares = active as u64;
    let of_one = LongestFlow { weight: longest, ..LongestFlow::default() };
    LevelSummary { shares, longest: of_one, surely_longest: longest, ..LevelSummary::default() }
}

#[test]
fn a_higher_priority_and_a_shorter_flow_are_let_in_when_others_can_give_way() {
    let occupancy = Occupancy::new(1000);
    let gives_way = |class: Class| occupancy.yields_to(class.rank, Overflow::Reject, false) >= 1;
    let low = Class::new().priority(Priority::Low).rank;
    assert!(!gives_way(Class::new()));
    occupancy.on_queued(low);
    assert!(gives_way(Class::new()));
    assert!(!gives_way(Class::new().priority(Priority::Background)));
    occupancy.on_gone(low, FlowPlace::NONE);
    assert!(!gives_way(Class::new()));

    let long = Class::new().flow("long");
    (0..5).for_each(|_| _ = occupancy.on_queued(long.rank));
    publish(&occupancy, flows(1, 5));
    assert!(!gives_way(long));
    assert!(gives_way(Class::new().flow("short")));
    assert!(gives_way(Class::new()), "requests without a flow are one flow");
    (0..4).for_each(|_| _ = occupancy.on_queued(Class::new().rank));
    publish(&occupancy, flows(2, 5));
    assert!(!gives_way(Class::new()));
}

#[test]
fn a_flow_gives_way_only_while_it_is_surely_longer() {
    let occupancy = Occupancy::new(1000);
    let (long, other) = (Class::new().flow("long").rank, Class::new().flow("other").rank);
    let queue = |rank| occupancy.on_queued(rank).1;
    // All requests of a flow have one place.
    let of_long = (0..100).map(|_| queue(long)).fold(FlowPlace::NONE, |_, place| place);
    let of_other = (0..30).map(|_| queue(other)).fold(FlowPlace::NONE, |_, place| place);
    publish(&occupancy, flows(2, 100));
    let allowance = |class: Class| occupancy.yields_to(class.rank, Overflow::Reject, false);
    let short = || Class::new().flow("short");
    assert_eq!(allowance(short()), 99, "the last of them would be as many as are left");
    assert_eq!(allowance(Class::new().flow("other")), 69);
    (0..30).for_each(|_| occupancy.on_gone(other, of_other));
    assert_eq!(allowance(short()), 69, "they may have been of the longest");
    (0..70).for_each(|_| occupancy.on_dispatched(long, of_long));
    assert_eq!(allowance(short()), 0);
    publish(&occupancy, flows(1, 30));
    assert_eq!(allowance(short()), 29);
    (0..29).for_each(|_| occupancy.on_gone(long, of_long));
    assert_eq!(allowance(Class::new()), 0, "one against one");
    (0..400).for_each(|_| _ = occupancy.on_queued(Class::new().rank));
    assert_eq!(allowance(Class::new()), 0, "the newcomers themselves make nobody longer");
}

#[test]
fn what_goes_before_a_newcomer_is_what_its_share_leaves() {
    let occupancy = Occupancy::new(1000);
    let long = Class::new().flow("long").rank;
    (0..100).for_each(|_| _ = occupancy.on_queued(long));
    occupancy.on_queued(Class::new().priority(Priority::High).rank);
    publish(&occupancy, flows(2, 100));
    let ahead_of = |rank| occupancy.ahead_of(rank).requests;
    assert_eq!(ahead_of(long), 101);
    assert_eq!(ahead_of(Class::new().flow("short").rank), 3);
    assert_eq!(ahead_of(Class::new().priority(Priority::High).rank), 1);
}
