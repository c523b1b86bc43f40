//! The line by behaviour, and against a sorted vector.

mod reference;

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Entry, LaneId, Line, Next, Rules, Times,
    testing::{Item, Random},
};
use crate::{
    class::{Class, Priority},
    error::Reason,
    options::Order,
};

const A: LaneId = 1;
const B: LaneId = 2;

const MS: Duration = Duration::from_millis(1);
const UNKNOWN: Times = [None; Priority::ALL.len()];

/// A line with a clock, and requests by number.
struct Rig {
    line: Line<Item>,
    now: Instant,
    times: Times,
    items: Vec<Item>,
}

impl Rig {
    fn new(rules: Rules) -> Self {
        Self { line: Line::new(rules), now: Instant::now(), times: UNKNOWN, items: Vec::new() }
    }

    fn order(order: Order) -> Self {
        Self::new(Rules { order, ..Rules::default() })
    }

    /// Adds one for inner `A`; returns its number.
    fn push(&mut self, class: Class) -> u32 {
        self.push_for(A, class)
    }

    fn push_for(&mut self, lane: LaneId, class: Class) -> u32 {
        let id = self.items.len() as u32;
        let item = Item::new(id);
        self.items.push(item.clone());
        self.line.push(lane, class.rank, self.now, item);
        id
    }

    fn push_for_each(&mut self, lanes: &[LaneId]) {
        for lane in lanes {
            self.push_for(*lane, Class::new());
        }
    }

    fn push_many(&mut self, count: usize, class: &Class) -> Vec<u32> {
        (0..count).map(|_| self.push(class.clone())).collect()
    }

    fn leaves(&mut self, id: u32) {
        self.items[id as usize].gone.set(true);
    }

    fn next(&mut self) -> Option<Entry<Item>> {
        match self.line.pop(self.now, &self.times)? {
            Next::Dispatch(entry, _) => Some(entry),
            Next::Remove(entry, reason) => panic!("{} was removed: {reason}", entry.item.id),
        }
    }

    fn pop(&mut self) -> Option<u32> {
        self.next().map(|entry| entry.item.id)
    }

    fn pop_many(&mut self, count: usize) -> Vec<u32> {
        (0..count).map_while(|_| self.pop()).collect()
    }

    fn drain(&mut self) -> Vec<u32> {
        self.pop_many(usize::MAX)
    }

    /// Takes the next, and sets it aside since its inner is not ready.
    fn stall(&mut self) {
        match self.line.pop(self.now, &self.times) {
            Some(Next::Dispatch(entry, charge)) => {
                self.line.refund(&charge);
                self.line.stall(entry);
            }
            other => panic!("one should be waiting, but: {other:?}"),
        }
    }

    fn put_back(&mut self) {
        match self.line.pop(self.now, &self.times) {
            Some(Next::Dispatch(entry, charge)) => {
                self.line.refund(&charge);
                self.line.put_back(entry);
            }
            other => panic!("one should be waiting, but: {other:?}"),
        }
    }
}

fn flow(name: &str) -> Class {
    Class::new().flow(name)
}

fn priority(priority: Priority) -> Class {
    Class::new().priority(priority)
}

mod inner_services {
    use super::*;

    #[test]
    fn leaves_in_order_of_arrival_and_skips_the_gone() {
        let mut rig = Rig::order(Order::Fifo);
        rig.push_many(4, &Class::new());
        rig.leaves(1);
        assert_eq!(rig.drain(), [0, 2, 3]);
    }

    #[test]
    fn an_unready_inner_is_passed_over_and_keeps_its_order() {
        let mut rig = Rig::order(Order::Fifo);
        rig.push_for_each(&[A, B, A, B, A]);
        rig.stall();
        assert_eq!(rig.pop_many(2), [1, 3], "2 is for the unready inner");
        assert_eq!(rig.pop(), None);
        rig.line.wake(A);
        assert_eq!(rig.drain(), [0, 2, 4]);
    }

    #[test]
    fn a_woken_inner_goes_before_younger_requests_of_others() {
        let mut rig = Rig::order(Order::Fifo);
        rig.push_for_each(&[A, B, B]);
        rig.stall();
        rig.line.wake(A);
        assert_eq!(rig.drain(), [0, 1, 2]);
    }

    #[test]
    fn an_unready_inner_is_passed_over_by_the_newest_first_as_well() {
        let mut rig = Rig::order(Order::Lifo);
        rig.push_for_each(&[A, B, A, B, A]);
        rig.stall();
        assert_eq!(rig.pop_many(2), [3, 1]);
        rig.line.wake(A);
        rig.push_for(B, Class::new());
        assert_eq!(rig.drain(), [5, 4, 2, 0]);
    }

    #[test]
    fn a_lane_in_which_all_have_gone_holds_up_nobody() {
        let mut rig = Rig::order(Order::Fifo);
        rig.push_many(2, &Class::new());
        rig.stall();
        rig.leaves(0);
        assert_eq!(rig.drain(), [1], "the inner is to be asked anew");
    }

    #[test]
    fn an_inner_that_is_unready_for_one_flow_is_not_asked_for_the_others() {
        let mut rig = Rig::order(Order::Fifo);
        for name in ["a", "b", "c"] {
            rig.push(flow(name));
        }
        rig.push_for(B, flow("d"));
        rig.stall();
        assert_eq!(rig.drain(), [3]);
        rig.line.wake(A);
        let mut left = rig.drain();
        left.sort_unstable();
        assert_eq!(left, [0, 1, 2]);
    }

    #[test]
    fn an_entry_put_back_is_next_again() {
        for order in [Order::Fifo, Order::Lifo] {
            let mut rig = Rig::order(order);
            rig.push_many(3, &Class::new());
            rig.put_back();
            let first = if order == Order::Fifo { 0 } else { 2 };
            rig.push(Class::new());
            assert_eq!(rig.pop(), Some(first), "{order:?}");
        }
    }

    #[test]
    fn shells_of_the_gone_are_dropped_when_they_outnumber_the_rest() {
        let mut rig = Rig::order(Order::Fifo);
        rig.push_many(5000, &Class::new());
        (10..5000).for_each(|id| rig.leaves(id));
        rig.line.purge(10);
        assert_eq!(rig.line.len(), 10);
    }
}

mod order {
    use super::*;

    #[test]
    fn adaptive_lifo_turns_to_the_newest_when_the_queue_stands_and_back_when_it_does_not() {
        let lifo_after = Some(MS * 50);
        let mut rig =
            Rig::new(Rules { order: Order::AdaptiveLifo, lifo_after, ..Rules::default() });
        rig.push_many(3, &Class::new());
        rig.now += MS * 60;
        rig.push_many(3, &Class::new());
        assert_eq!(rig.pop_many(3), [0, 5, 4], "one old one proves nothing, the second does");
        assert_eq!(rig.pop_many(2), [3, 2]);
        rig.now += MS * 10;
        rig.leaves(1);
        rig.push_many(3, &Class::new());
        assert_eq!(rig.drain(), [6, 7, 8]);
    }

    #[test]
    fn the_flow_that_stands_turns_and_the_others_do_not() {
        let lifo_after = Some(MS * 50);
        let mut rig =
            Rig::new(Rules { order: Order::AdaptiveLifo, lifo_after, ..Rules::default() });
        rig.push_many(4, &flow("long"));
        rig.now += MS * 60;
        rig.push_many(2, &flow("short"));
        assert_eq!(rig.drain(), [0, 4, 3, 5, 2, 1]);
    }

    #[test]
    fn controlled_delay_removes_what_has_stood_too_long() {
        let mut rig = Rig::new(Rules { delay: Some(Some(MS * 5)), ..Rules::default() });
        rig.push_many(40, &Class::new());
        let mut removed = Vec::new();
        for _ in 0..15 {
            rig.now += MS * 10;
            while let Some(Next::Remove(entry, reason)) = rig.line.pop(rig.now, &UNKNOWN) {
                assert_eq!(reason, Reason::Delay);
                removed.push(entry.item.id);
            }
        }
        assert!(removed.is_sorted() && removed.len() > 20, "the oldest: {removed:?}");
    }
}

mod priorities {
    use super::*;
    use Priority::*;

    #[test]
    fn higher_ones_go_first() {
        let mut rig = Rig::new(Rules { share: 0.0, ..Rules::default() });
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
        let mut victim = || rig.line.pop_for_another().map(|(entry, why)| (entry.item.id, why));
        assert_eq!(victim(), Some((2, Reason::Evicted)));
        assert_eq!(victim(), Some((3, Reason::Evicted)));
        assert_eq!(victim(), Some((1, Reason::Full)), "among equals it is the newcomer that goes");
    }
}

mod flows {
    use super::*;

    #[test]
    fn a_short_flow_does_not_wait_for_a_long_one() {
        let mut rig = Rig::order(Order::Fifo);
        rig.push_many(4, &flow("long"));
        rig.push(flow("b"));
        rig.push(flow("c"));
        rig.push(Class::new());
        assert_eq!(rig.drain(), [0, 4, 5, 6, 1, 2, 3]);
    }

    #[test]
    fn shares_are_of_time_and_put_right_when_the_calls_have_finished() {
        let mut rig = Rig::order(Order::Fifo);
        let (slow, fast) = (flow("slow"), flow("fast"));
        rig.push(slow.clone());
        rig.push(fast.clone());
        let (mut slow_time, mut fast_time) = (0, 0);
        for _ in 0..10_000 {
            let Some(Next::Dispatch(entry, charge)) = rig.line.pop(rig.now, &UNKNOWN) else {
                panic!("both have one waiting")
            };
            let bill = charge.bill.expect("there are two flows");
            rig.items.clear();
            if entry.rank == slow.rank {
                rig.line.settle(bill, MS * 100);
                slow_time += 100;
                rig.push(slow.clone());
            } else {
                rig.line.settle(bill, MS * 5);
                fast_time += 5;
                rig.push(fast.clone());
            }
        }
        let ratio = f64::from(slow_time) / f64::from(fast_time);
        assert!((0.99..1.01).contains(&ratio), "{slow_time} ms and {fast_time} ms");
    }

    #[test]
    fn a_flow_that_comes_back_has_saved_up_nothing() {
        let mut rig = Rig::order(Order::Fifo);
        rig.push_many(100, &flow("a"));
        rig.pop_many(50);
        rig.push_many(10, &flow("b"));
        let next = rig.pop_many(20);
        let of_b = next.iter().filter(|id| **id >= 100).count();
        assert_eq!(of_b, 10, "they take turns: {next:?}");
        assert!(!next[..11].iter().all(|id| *id >= 100));
    }

    #[test]
    fn a_flow_with_one_at_a_time_does_not_overtake_the_others() {
        let mut rig = Rig::order(Order::Fifo);
        rig.push_many(100, &flow("patient"));
        let mut eager = rig.push(flow("eager"));
        let mut turns = 0;
        for _ in 0..60 {
            if rig.pop() == Some(eager) {
                turns += 1;
                // As soon as one is served there is the next: the queue of this flow is empty each time.
                eager = rig.push(flow("eager"));
            }
        }
        assert_eq!(turns, 30);
    }

    #[test]
    fn the_longest_flow_gives_way_with_its_oldest() {
        let mut rig = Rig::order(Order::Fifo);
        rig.push(flow("short"));
        rig.push_many(3, &flow("long"));
        let mut victim = || rig.line.pop_for_another().map(|(entry, why)| (entry.item.id, why));
        assert_eq!(victim(), Some((1, Reason::Evicted)));
        assert_eq!(victim(), Some((2, Reason::Evicted)));
    }

    #[test]
    fn idle_flows_cost_nothing() {
        let mut rig = Rig::order(Order::Fifo);
        for nth in 0..50_000_u32 {
            rig.push(Class::new().flow(nth));
            rig.pop();
            rig.items.clear();
            rig.line.purge(0);
        }
        let level = &rig.line.levels[Priority::Normal.index()];
        assert!(level.flows() <= 65, "{}", level.flows());
    }

    /// What somebody who invents flows can do: fill the crowd.
    #[test]
    fn invented_flows_are_bounded_and_take_no_more_than_half() {
        let mut rig = Rig::order(Order::Fifo);
        let honest = |nth: u64| Class::new().flow(("honest", nth % 20));
        for nth in 0..100 {
            rig.push(honest(nth));
            rig.pop();
        }
        let mut invented = Random::new(7);
        for _ in 0..2000 {
            rig.push(Class::new().flow(invented.next()));
        }
        let mut served = 0;
        for nth in 0..10_000 {
            // A round of arrivals: one honest, nine invented. One is served, the longest gives way to the rest.
            let id = rig.push(honest(nth));
            for _ in 0..9 {
                rig.push(Class::new().flow(invented.next()));
            }
            let next = rig.pop_many(2);
            served += u32::from(next.contains(&id));
            while rig.line.len() > 2000 {
                let (victim, _) = rig.line.pop_for_another().expect("many wait");
                assert_ne!(victim.item.id, id, "an honest one gives way to none of those");
            }
        }
        assert!(served > 9_900, "{served} of 10 000 honest ones went at once");
        let level = &rig.line.levels[Priority::Normal.index()];
        assert!(level.flows() <= 20 + 64 + 128, "{}", level.flows());
    }

    #[test]
    fn beyond_the_bound_flows_share_queues_and_are_served_all_the_same() {
        let mut rig = Rig::new(Rules { exact_flows: 4, ..Rules::default() });
        for nth in 0..1000_u32 {
            rig.push_many(3, &Class::new().flow(nth));
        }
        let level = &rig.line.levels[Priority::Normal.index()];
        assert!(level.flows() <= 4 + 128, "{}", level.flows());
        let mut all = rig.drain();
        all.sort_unstable();
        assert_eq!(all, (0..3000).collect::<Vec<_>>());
    }
}

mod costs {
    use super::*;

    #[test]
    fn a_heavy_request_is_charged_for_all_its_slots() {
        let mut rig = Rig::order(Order::Fifo);
        rig.push_many(8, &flow("light"));
        rig.push_many(2, &flow("heavy").cost(4));
        assert_eq!(rig.drain(), [0, 8, 1, 2, 3, 9, 4, 5, 6, 7]);
    }

    /// Trap T25.
    #[test]
    fn a_heavy_head_that_does_not_fit_is_not_overtaken_in_its_flow_and_does_not_hold_up_a_higher_priority()
     {
        for order in [Order::Fifo, Order::Lifo] {
            let mut rig = Rig::order(order);
            let heavy = rig.push(Class::new().cost(8));
            rig.put_back();
            rig.push_many(3, &Class::new());
            let urgent = rig.push(priority(Priority::Critical));
            assert_eq!(rig.pop_many(2), [urgent, heavy], "{order:?}");
        }
    }
}
