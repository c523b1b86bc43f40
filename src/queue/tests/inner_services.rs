//! Requests of unready inner services.

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
    rig.park();
    assert_eq!(rig.pop_many(2), [1, 3], "2 is for the unready inner");
    assert_eq!(rig.pop(), None);
    rig.queue.wake(A);
    assert_eq!(rig.drain(), [0, 2, 4]);
}

#[test]
fn a_woken_inner_goes_before_younger_requests_of_others() {
    let mut rig = Rig::order(Order::Fifo);
    rig.push_for_each(&[A, B, B]);
    rig.park();
    rig.queue.wake(A);
    assert_eq!(rig.drain(), [0, 1, 2]);
}

#[test]
fn an_unready_inner_is_passed_over_by_the_newest_first_as_well() {
    let mut rig = Rig::order(Order::Lifo);
    rig.push_for_each(&[A, B, A, B, A]);
    rig.park();
    assert_eq!(rig.pop_many(2), [3, 1]);
    rig.queue.wake(A);
    rig.push_for(B, Class::new());
    assert_eq!(rig.drain(), [5, 4, 2, 0]);
}

#[test]
fn parked_requests_that_have_all_gone_hold_up_nobody() {
    let mut rig = Rig::order(Order::Fifo);
    rig.push_many(2, &Class::new());
    rig.park();
    rig.leaves(0);
    assert_eq!(rig.drain(), [1], "the inner is polled again");
}

#[test]
fn an_inner_that_is_unready_for_one_flow_is_not_asked_for_the_others() {
    let mut rig = Rig::order(Order::Fifo);
    for name in ["a", "b", "c"] {
        rig.push(flow(name));
    }
    rig.push_for(B, flow("d"));
    rig.park();
    assert_eq!(rig.drain(), [3]);
    rig.queue.wake(A);
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
fn tombstones_are_dropped_when_they_outnumber_the_rest() {
    let mut rig = Rig::order(Order::Fifo);
    rig.push_many(5000, &Class::new());
    (10..5000).for_each(|id| rig.leaves(id));
    rig.queue.purge(10);
    assert_eq!(rig.queue.len(), 10);
}

#[test]
fn inner_services_without_live_requests_are_forgotten() {
    let mut rig = Rig::order(Order::Fifo);
    for inner in 0..5000 {
        let id = rig.push_for(inner, Class::new());
        rig.park();
        rig.leaves(id);
        rig.queue.purge(0);
    }
    assert!(rig.queue.blocked.len() <= 1025, "{}", rig.queue.blocked.len());
}
