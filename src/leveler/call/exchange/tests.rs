use futures::task::noop_waker_ref;

use super::*;
use crate::sync::atomic::Ordering::SeqCst;

fn poll(exchange: &Exchange<&'static str, &'static str, u32>) -> Poll<u32> {
    exchange.poll_answer(&mut Context::from_waker(noop_waker_ref()))
}

type Calls = Exchange<&'static str, &'static str, u32>;

#[test]
fn a_request_is_taken_once_and_answered() {
    let exchange = Calls::new("request");
    assert!(poll(&exchange).is_pending());
    assert_eq!(exchange.take(Stage::InHand), Some("request"));
    assert_eq!(exchange.take(Stage::Gone), None);
    assert!(exchange.is_at(Stage::InHand), "who takes nothing changes nothing");
    assert_eq!(exchange.put_back("request"), Ok(()));
    assert_eq!(exchange.take(Stage::InHand), Some("request"));
    assert!(exchange.answer(7).is_ok());
    assert_eq!(poll(&exchange), Poll::Ready(7));
    assert!(poll(&exchange).is_pending(), "that was all");
}

#[test]
fn a_caller_that_gives_up_gets_the_request_or_has_it_ended() {
    let waiting = Calls::new("request");
    assert!(matches!(waiting.abandon(true), Left::Request("request")));
    assert!(waiting.is_at(Stage::Gone));
    let in_hand = Calls::new("request");
    in_hand.take(Stage::InHand);
    assert!(matches!(in_hand.abandon(true), Left::Nothing));
    assert_eq!(in_hand.put_back("request"), Err("request"));
    assert_eq!(in_hand.answer(7).err(), Some(7));
}

#[test]
fn a_caller_that_gives_up_gets_the_work_or_has_it_ended() {
    let idle = Calls::running("work");
    let (worker, wakes) = counting_waker();
    let noted = worker.clone();
    assert_eq!(idle.take_work(), Some("work"));
    assert_eq!(idle.put_work("work", Some(worker)), Ok(()));
    let left = idle.abandon(true);
    assert!(matches!(left, Left::Work("work", Some(worker)) if worker.will_wake(&noted)));
    assert_eq!((idle.take_work(), wakes()), (None, 0), "the task finds nothing, and ends");
    let polled = Calls::running("work");
    polled.take_work();
    assert!(matches!(polled.abandon(true), Left::Nothing));
    assert_eq!(polled.put_work("work", None), Err("work"));
}

#[test]
fn a_caller_that_leaves_the_call_to_finish_takes_nothing_away() {
    let exchange = Calls::new("request");
    assert!(matches!(exchange.abandon(false), Left::Nothing));
    assert_eq!(exchange.take(Stage::InHand), Some("request"));
    assert_eq!(exchange.put_back("request"), Ok(()));
    assert!(exchange.is_abandoned());
    assert_eq!(exchange.take(Stage::InHand), Some("request"));
    assert_eq!(exchange.put_work("work", None), Ok(()));
    assert_eq!(exchange.take_work(), Some("work"));
    assert_eq!(exchange.answer(7).err(), Some(7));
}

#[test]
fn an_unread_answer_is_dropped_at_once() {
    let answer = std::sync::Arc::new(7);
    let exchange = Exchange::<_, (), _>::new("request");
    exchange.take(Stage::InHand);
    assert!(exchange.answer(answer.clone()).is_ok());
    exchange.abandon(true);
    assert_eq!(std::sync::Arc::strong_count(&answer), 1);
}

#[test]
fn the_worker_is_not_kept_beyond_its_answer() {
    let exchange = Calls::running("work");
    let (worker, wakes) = counting_waker();
    exchange.take_work();
    assert_eq!(exchange.put_work("work", Some(worker)), Ok(()));
    exchange.take_work();
    assert!(exchange.answer(7).is_ok());
    exchange.abandon(true);
    assert_eq!(wakes(), 0, "it has ended");
}

#[test]
fn the_worker_is_not_kept_beyond_an_answer_for_nobody() {
    let exchange = Calls::running("work");
    let worker = std::sync::Arc::new(NoWake);
    exchange.take_work();
    exchange.abandon(false);
    assert_eq!(exchange.put_work("work", Some(Waker::from(worker.clone()))), Ok(()));
    exchange.take_work();
    assert_eq!(exchange.answer(7).err(), Some(7));
    assert_eq!(std::sync::Arc::strong_count(&worker), 1);
}

struct NoWake;

impl std::task::Wake for NoWake {
    fn wake(self: std::sync::Arc<Self>) {}
}

#[test]
fn the_caller_is_woken_by_its_answer() {
    let exchange = Calls::new("request");
    let (caller, wakes) = counting_waker();
    assert!(exchange.poll_answer(&mut Context::from_waker(&caller)).is_pending());
    assert!(exchange.answer(7).is_ok());
    assert_eq!(wakes(), 1);
}

/// Returns a waker, and a count of the wake-ups.
fn counting_waker() -> (Waker, impl Fn() -> usize) {
    use std::sync::{Arc, atomic::AtomicUsize};
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let count = Arc::new(Count(AtomicUsize::new(0)));
    (Waker::from(Arc::clone(&count)), move || count.0.load(SeqCst))
}
