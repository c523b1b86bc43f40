//! The exchange, with the caller, the drain task, a remover and the worker at once.
//!
//! - Every caller that stays is answered, once (law 1). No caller waits for ever.
//! - Every request comes to exactly one end: called, removed, or given back to a caller that gives
//!   up. If the caller has gone, the drain task does not take up the request (law 5).
//! - If the caller has gone, the worker is told. If the caller gives up, the work has then ended,
//!   or is in the hand of the worker (law 6).
//! - In the end nothing of request, answer or wakers is left.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Poll, Waker},
};

use shuttle::{future::block_on, thread};

use super::{super::unanswered::Unanswered, Exchange, Left, Stage};
use crate::sync::{
    explore::{finds, holds},
    fault::Fault,
};

/// A request, work, or an answer: counts how many are left.
struct Token {
    _count: Arc<()>,
}

/// The answer to the caller.
enum Answer {
    Done(#[allow(dead_code, reason = "held")] Token),
    Removed(#[allow(dead_code, reason = "held")] Token),
    Lost,
}

struct World {
    exchange: Exchange<Token, Token, Answer>,
    token: Arc<()>,
    calls: AtomicUsize,
    removals: AtomicUsize,
    /// Given back to the caller, or to a drain task that could not put the request back.
    cancellations: AtomicUsize,
    has_given_up: AtomicBool,
}

impl World {
    fn new() -> Arc<Self> {
        let token = Arc::new(());
        Arc::new(Self {
            exchange: Exchange::new(Token { _count: Arc::clone(&token) }),
            token,
            calls: AtomicUsize::new(0),
            removals: AtomicUsize::new(0),
            cancellations: AtomicUsize::new(0),
            has_given_up: AtomicBool::new(false),
        })
    }

    fn token(&self) -> Token {
        Token { _count: Arc::clone(&self.token) }
    }

    /// The drain task: takes the request up, finds the inner unready, and tries again. Returns
    /// whether the request was called.
    fn drain(&self) -> bool {
        for is_ready in [false, true] {
            let has_given_up = self.has_given_up.load(SeqCst);
            let Some(request) = self.exchange.take(Stage::InHand) else { return false };
            assert!(!has_given_up, "the drain task takes up a request that is gone");
            let unanswered = Unanswered::new(&self.exchange, || Answer::Lost);
            if is_ready {
                drop(request);
                self.calls.fetch_add(1, SeqCst);
                unanswered.end();
                return self.exchange.put_work(self.token(), None).is_ok();
            }
            if let Err(request) = self.exchange.put_back(request) {
                drop(request);
                self.cancellations.fetch_add(1, SeqCst);
            }
            unanswered.end();
        }
        false
    }

    /// The task of the call: ends when the caller has gone, or else by itself at the second poll.
    fn work(&self, ends: bool) {
        let mut polls = 0;
        block_on(poll_fn(|cx| {
            let Some(work) = self.exchange.take_work() else { return Poll::Ready(()) };
            polls += 1;
            if ends && polls > 1 {
                drop(work);
                let _ = self.exchange.answer(Answer::Done(self.token()));
                return Poll::Ready(());
            }
            if ends {
                cx.waker().wake_by_ref();
            }
            let worker = (polls == 1).then(|| cx.waker().clone());
            match self.exchange.put_work(work, worker) {
                Ok(()) => Poll::Pending,
                Err(_work) => Poll::Ready(()),
            }
        }));
    }

    fn remove(&self) {
        let Some(request) = self.exchange.take(Stage::Gone) else { return };
        self.removals.fetch_add(1, SeqCst);
        let _ = self.exchange.answer(Answer::Removed(self.token()));
        drop(request);
    }

    /// The caller: waits for the answer, or gives up after some polls. Returns the answer.
    fn wait(&self, patience: Option<usize>) -> Option<Answer> {
        let mut polls = 0;
        let mut answer = pin!(poll_fn(|cx| self.exchange.poll_answer(cx)));
        let answer = block_on(poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if patience == Some(polls) => Poll::Ready(None),
            Poll::Pending => {
                polls += 1;
                if patience.is_some() {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }));
        if answer.is_none() {
            let left = self.exchange.abandon(true);
            self.has_given_up.store(true, SeqCst);
            match left {
                Left::Request(_request) => {
                    self.cancellations.fetch_add(1, SeqCst);
                }
                Left::Work(work, worker) => {
                    drop(work);
                    worker.into_iter().for_each(Waker::wake);
                }
                Left::Nothing => {}
            }
        }
        answer
    }
}

/// `ends`: the work ends by itself. `patience`: the polls after which the caller gives up.
fn play(ends: bool, patience: Option<usize>) {
    let world = World::new();
    let caller = thread::spawn({
        let world = Arc::clone(&world);
        move || world.wait(patience)
    });
    let remover = thread::spawn({
        let world = Arc::clone(&world);
        move || world.remove()
    });
    let drain = thread::spawn({
        let world = Arc::clone(&world);
        move || {
            if world.drain() {
                let worker = Arc::clone(&world);
                thread::spawn(move || worker.work(ends)).join().expect("no law is broken");
            }
        }
    });
    drain.join().expect("no law is broken");
    remover.join().expect("no law is broken");
    let answer = caller.join().expect("no law is broken");
    let count = |of: &AtomicUsize| of.load(SeqCst);
    let (calls, removals) = (count(&world.calls), count(&world.removals));
    let cancellations = count(&world.cancellations);
    assert!(!world.exchange.is_at(Stage::Waiting), "the request waits on");
    assert_eq!(calls + removals + cancellations, 1, "{calls} {removals} {cancellations}");
    match &answer {
        Some(Answer::Done(_)) => assert_eq!(calls, 1),
        Some(Answer::Removed(_)) => assert_eq!(removals, 1),
        Some(Answer::Lost) => panic!("the answer was lost"),
        None => assert!(patience.is_some()),
    }
    drop(answer);
    assert_eq!(Arc::strong_count(&world.token), 1, "something is kept");
}

fn a_caller_that_stays() {
    play(true, None);
}

fn a_caller_that_gives_up_at_once() {
    play(false, Some(0));
}

fn a_caller_that_gives_up_later() {
    play(true, Some(1));
}

#[test]
fn a_caller_that_stays_is_answered_once() {
    holds(a_caller_that_stays);
}

#[test]
fn a_caller_that_gives_up_leaves_nothing_behind() {
    holds(a_caller_that_gives_up_at_once);
    holds(a_caller_that_gives_up_later);
}

#[test]
fn an_answer_that_comes_while_the_waker_is_cloned_is_found() {
    finds(Fault::AnswerSeenOnce, a_caller_that_stays);
}

#[test]
fn a_request_put_back_for_nobody_is_found() {
    finds(Fault::PutBackForNobody, a_caller_that_gives_up_at_once);
}

#[test]
fn a_worker_that_is_not_told_is_found() {
    finds(Fault::WorkerNotTold, a_caller_that_gives_up_at_once);
}

/// The exchange of two direct calls, one after the other, and their task.
struct Pair {
    exchange: Exchange<Infallible, Token, Answer>,
    token: Arc<()>,
    runs: AtomicUsize,
}

impl Pair {
    fn token(&self) -> Token {
        Token { _count: Arc::clone(&self.token) }
    }

    /// Ends each call at its first poll, and looks once more.
    fn work(&self) {
        block_on(poll_fn(|cx| {
            let Some(work) = self.exchange.take_work() else { return Poll::Ready(()) };
            self.runs.fetch_add(1, SeqCst);
            drop(work);
            let _ = self.exchange.answer(Answer::Done(self.token()));
            if !self.exchange.become_idle() {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
    }

    fn answer(&self) -> Answer {
        block_on(poll_fn(|cx| self.exchange.poll_answer(cx)))
    }

    /// Waits for the first answer, and gives the task a second call. Returns whether the task took
    /// the call. With `gives_up`, leaves without an answer to the last call.
    fn call_twice(&self, gives_up: bool) -> bool {
        drop(self.answer());
        let is_given = self.exchange.give(self.token()).is_ok();
        match (is_given, gives_up) {
            (true, false) => drop(self.answer()),
            (true, true) => drop(self.exchange.abandon(true)),
            (false, _) => {}
        }
        is_given
    }
}

fn play_pair(gives_up: bool) {
    let token = Arc::new(());
    let exchange = Exchange::running(Token { _count: Arc::clone(&token) });
    let pair = Arc::new(Pair { exchange, token, runs: AtomicUsize::new(0) });
    let task = thread::spawn({
        let pair = Arc::clone(&pair);
        move || pair.work()
    });
    let is_given = pair.call_twice(gives_up);
    task.join().expect("no law is broken");
    let runs = pair.runs.load(SeqCst);
    let expected = 1 + usize::from(is_given);
    assert!(runs == expected || gives_up && runs == 1, "{runs}, {is_given}");
    assert_eq!(Arc::strong_count(&pair.token), 1, "something is kept");
    assert!(pair.exchange.give(pair.token()).is_err(), "the task has ended");
}

fn a_call_for_an_idle_task() {
    play_pair(false);
}

fn a_call_for_an_idle_task_that_is_given_up() {
    play_pair(true);
}

#[test]
fn a_call_given_to_an_idle_task_is_answered() {
    holds(a_call_for_an_idle_task);
    holds(a_call_for_an_idle_task_that_is_given_up);
}

#[test]
fn a_task_that_ends_untold_is_found() {
    finds(Fault::EndedUntold, a_call_for_an_idle_task);
}
