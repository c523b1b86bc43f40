//! The numbers that an operator looks at, and what they say in a word.

mod support;

use std::time::Duration;

use support::{builder, gate::Gate, reason, settle};
use tokio::time::sleep;
use tower::{Layer, Service};
use tower_load_leveling::{
    Class, Handle, LoadLevelLayer, Overflow, Priority, Stats,
    error::Reason,
    stats::{State, Verdict},
};

const MS: Duration = Duration::from_millis(1);

#[track_caller]
fn assert_about(found: Option<Duration>, expected: Duration) {
    let found = found.expect("recorded");
    let error = found.abs_diff(expected);
    assert!(error <= expected.mul_f64(0.07) + 2 * MS, "{found:?} is not about {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn the_wait_of_those_who_wait_in_vain_is_shown_beside_that_of_the_survivors() {
    let layer = builder(100, 1).max_wait(50 * MS).build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let _running = tokio::spawn(service.call(0));
    let waiting: Vec<_> = (1..=20).map(|id| tokio::spawn(service.call(id))).collect();
    for call in waiting {
        assert_eq!(reason(call.await.expect("no panic")), Reason::MaxWait);
    }
    let stats = layer.handle().stats();
    assert_eq!((stats.removed_wait.count(), stats.removed.max_wait), (20, 20));
    assert_about(stats.removed_wait.quantile(0.5), 50 * MS);
    assert_eq!(stats.wait.quantile(0.99), Some(Duration::ZERO), "of the survivors");
    let sum = stats.removed_wait.sum();
    assert!(sum.abs_diff(1000 * MS) < 80 * MS, "{sum:?}");
}

#[tokio::test(start_paused = true)]
async fn the_wait_of_those_who_give_up_is_shown_too() {
    let layer = builder(100, 1).build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let running = service.call(0);
    let waiting: Vec<_> = (1..=3).map(|id| service.call(id)).collect();
    sleep(30 * MS).await;
    drop((waiting, running));
    settle().await;
    let stats = layer.handle().stats();
    assert_eq!((stats.cancelled, stats.removed_wait.count()), (4, 3), "a running call is not");
    assert_about(stats.removed_wait.quantile(1.0), 30 * MS);
}

#[tokio::test(start_paused = true)]
async fn of_very_many_who_give_up_the_waits_are_still_counted_right_within_a_percent() {
    let layer = builder(1, 1).build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let _running = tokio::spawn(service.call(0));
    for id in 1..=20_000 {
        drop(service.call(id));
        if id % 1000 == 0 {
            settle().await;
        }
    }
    let count = layer.handle().stats().removed_wait.count();
    assert!((19_800..=20_200).contains(&count), "{count}");
}

#[tokio::test(start_paused = true)]
async fn the_difference_of_two_snapshots_is_what_happened_between_them() {
    let gate = Gate::open();
    let layer = LoadLevelLayer::builder()
        .capacity(1)
        .concurrency(1)
        .classify_request(|id: &u32| {
            Class::new().priority(if *id < 10 { Priority::Normal } else { Priority::High })
        })
        .build()
        .expect("valid");
    let handle = layer.handle();
    let mut service = layer.layer(gate.service());
    service.call(0).await.expect("answered");
    service.call(1).await.expect("answered");
    let before = handle.stats();
    sleep(2000 * MS).await;
    service.call(10).await.expect("answered");
    handle.pause();
    let _waiting = [service.call(11), service.call(12)];
    assert_eq!(reason(service.call(13).await), Reason::Full);
    let now = handle.stats();
    let since = now.since(&before);
    assert_eq!(since.period, 2000 * MS);
    assert_eq!((since.admitted, since.arrived(), since.succeeded), (3, 4, 1));
    assert_eq!((now.admitted, now.arrived(), now.succeeded), (5, 6, 3));
    assert_eq!((since.refused.full, since.queued, since.limit), (1, 2, 1), "gauges are as now");
    assert_eq!((since.wait.count(), since.service_time.count()), (1, 1));
    assert_eq!(since.priority(Priority::Normal).admitted, 0);
    assert_eq!(since.priority(Priority::High).admitted, 3);
    assert_eq!(since.priority(Priority::High).refused.full, 1);
    assert!(since.paused && !since.closed && !before.paused);
    let nothing = before.since(&now);
    assert_eq!((nothing.admitted, nothing.wait.count(), nothing.period), (0, 0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_wait_is_that_of_the_oldest_who_still_waits() {
    let gate = Gate::new();
    let layer = LoadLevelLayer::builder()
        .capacity(1000)
        .concurrency(1)
        .classify_request(|id: &u32| Class::new().flow(id % 10))
        .build()
        .expect("valid");
    let handle = layer.handle();
    let mut service = layer.layer(gate.service());
    let _running = tokio::spawn(service.call(0));
    let mut waiting = Vec::new();
    for id in 1..=100 {
        waiting.push(service.call(id));
        sleep(MS).await;
    }
    assert_eq!(handle.stats().oldest_wait, Some(100 * MS));
    waiting.drain(..50);
    assert_eq!(handle.stats().oldest_wait, Some(50 * MS), "before the drain task has run");
    drop(waiting.remove(0));
    settle().await;
    assert_eq!(handle.stats().oldest_wait, Some(49 * MS), "after it has run");
    handle.set_limit(30).expect("valid");
    settle().await;
    assert_eq!(gate.running(), 30, "as many of each flow");
    let left = handle.stats().oldest_wait.expect("20 wait");
    assert!((15 * MS..=30 * MS).contains(&left), "{left:?}");
    drop(waiting);
    assert_eq!(handle.stats().oldest_wait, None);
}

#[tokio::test(start_paused = true)]
async fn of_a_long_queue_the_oldest_wait_is_one_turn_late_at_most() {
    let layer = LoadLevelLayer::builder()
        .capacity(10_000)
        .concurrency(1)
        .classify_request(|id: &u32| Class::new().flow(id % 100))
        .build()
        .expect("valid");
    let handle = layer.handle();
    let mut service = layer.layer(Gate::new().service());
    let _running = tokio::spawn(service.call(0));
    let mut early: Vec<_> = (1..=2000).map(|id| service.call(id)).collect();
    sleep(30 * MS).await;
    let late: Vec<_> = (1..=2000).map(|id| service.call(id)).collect();
    sleep(10 * MS).await;
    drop(early.split_off(1));
    assert_eq!(handle.stats().oldest_wait, Some(40 * MS), "the oldest still waits");
    drop(early);
    assert_eq!(handle.stats().oldest_wait, Some(40 * MS), "as of the last turn");
    settle().await;
    assert_eq!(handle.stats().oldest_wait, Some(10 * MS), "the look has let it have a turn");
    drop(late);
    assert_eq!(handle.stats().oldest_wait, None);
}

/// Lets `seconds` pass, with a call every 10 ms, and judges them.
async fn judged(
    handle: &Handle,
    seconds: u64,
    mut every_10_ms: impl FnMut(u32),
) -> (Verdict, Stats) {
    let before = handle.stats();
    for id in 0..seconds as u32 * 100 {
        every_10_ms(id);
        sleep(10 * MS).await;
    }
    let since = handle.stats().since(&before);
    (since.verdict(), since)
}

fn says(verdict: &Verdict, state: State, sentence: &str) {
    assert_eq!(verdict.state, state, "{verdict}");
    assert_eq!(verdict.to_string(), sentence);
    assert_eq!(state.to_string().parse(), Ok(state));
}

#[tokio::test(start_paused = true)]
async fn a_leveler_that_nobody_asks_is_idle_and_one_with_slots_to_spare_is_calm() {
    let layer = builder(10, 4).build().expect("valid");
    let (handle, mut service) = (layer.handle(), layer.layer(Gate::open().service()));
    says(&judged(&handle, 10, |_| ()).await.0, State::Idle, "Idle. No requests arrive.");
    says(&handle.stats().verdict(), State::Idle, "Idle. No requests arrive.");
    let (calm, _) = judged(&handle, 10, |id| drop(tokio::spawn(service.call(id)))).await;
    let sentence =
        "Calm. 100 requests arrive a second, and it does 100. None wait; slots taken: 0 of 4.";
    says(&calm, State::Calm, sentence);
    assert_eq!((calm.asked, calm.done, calm.turned_away), (1000, 1000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_leveler_in_which_some_have_to_wait_is_leveling() {
    let layer = builder(10, 1).build().expect("valid");
    let (handle, gate) = (layer.handle(), Gate::new());
    let mut service = layer.layer(gate.service());
    let (leveling, _) = judged(&handle, 1, |id| {
        drop(tokio::spawn(service.call(id)));
        if id >= 3 {
            gate.finish(id - 3);
        }
    })
    .await;
    assert_eq!(leveling.state, State::Leveling, "{leveling}");
    assert!(
        leveling.to_string().starts_with("Leveling. 100 requests arrive a second, and it does ")
    );
    gate.finish_all();
    settle().await;
    let (after, _) = judged(&handle, 10, |_| ()).await;
    assert_eq!(after.state, State::Idle, "{after}");
}

#[tokio::test(start_paused = true)]
async fn the_verdicts_on_the_parts_of_a_period_join_to_the_verdict_on_the_whole() {
    let layer = builder(5, 1).build().expect("valid");
    let (handle, mut service) = (layer.handle(), layer.layer(tower::service_fn(slow)));
    let before = handle.stats();
    let mut joined: Option<Verdict> = None;
    for second in 0..8 {
        if second == 5 {
            handle.close();
        }
        // A flood, what is left of it, and nothing more from a closed leveler.
        let flood = |id| drop(tokio::spawn(service.call(id)));
        let (part, _) = match second {
            0..3 => judged(&handle, 1, flood).await,
            _ => judged(&handle, 1, |_| ()).await,
        };
        let whole = joined.as_ref().map_or(part.clone(), |earlier| earlier.join(&part));
        assert_eq!(whole, handle.stats().since(&before).verdict(), "after {second}");
        joined = Some(whole);
    }
}

/// A service that takes 50 ms.
async fn slow(_: u32) -> Result<(), std::convert::Infallible> {
    sleep(50 * MS).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_leveler_that_turns_away_more_than_one_percent_is_overloaded_and_says_why() {
    let layer = builder(5, 1).build().expect("valid");
    let (handle, mut service) = (layer.handle(), layer.layer(tower::service_fn(slow)));
    let (verdict, stats) = judged(&handle, 10, |id| drop(tokio::spawn(service.call(id)))).await;
    assert_eq!(verdict.state, State::Overloaded, "{verdict}");
    assert_eq!(verdict.main_reason, Some(Reason::Full));
    assert!((0.75..0.85).contains(&verdict.turned_away_share()), "{verdict:?}");
    assert!((19.0..21.0).contains(&verdict.done_per_second()), "{verdict:?}");
    let text = verdict.to_string();
    assert!(text.starts_with("Overloaded. 100 requests arrive a second, 5."), "{text}");
    assert!(text.ends_with("% are turned away, most because the queue is full."), "{text}");
    let line = stats.to_string();
    for part in [" wait_p99=", " oldest_wait=", " drain_rate=", " main_reason=full"] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_leveler_whose_queue_was_cleared_is_neither_overloaded_nor_closed() {
    let layer = builder(1000, 4).build().expect("valid");
    let (handle, gate) = (layer.handle(), Gate::new());
    let mut service = layer.layer(gate.service());
    let before = handle.stats();
    let (_, _) = judged(&handle, 1, |id| drop(tokio::spawn(service.call(id)))).await;
    assert_eq!(handle.abort_queued(), 96);
    gate.finish_all();
    let (_, _) = judged(&handle, 9, |_| ()).await;
    let sentence = "Calm. 10 requests arrive a second, 25.0 times what it does (0). None wait; \
                    slots taken: 0 of 4. 96 % are turned away, most because the queue was cleared.";
    says(&handle.stats().since(&before).verdict(), State::Calm, sentence);
}

#[test]
fn calls_without_a_runtime_are_no_overload() {
    let layer = builder(10, 4).build().expect("valid");
    let mut service = layer.layer(Gate::open().service());
    for id in 0..10 {
        let refused = futures::executor::block_on(service.call(id));
        assert_eq!(support::reason(refused), Reason::NoRuntime);
    }
    let verdict = layer.handle().stats().verdict();
    assert_eq!((verdict.state, verdict.turned_away), (State::Calm, 10), "{verdict}");
    let text = verdict.to_string();
    assert!(text.ends_with("100 % are turned away, most because no Tokio runtime is running."));
}

#[tokio::test(start_paused = true)]
async fn a_leveler_whose_inner_never_answers_is_stalled_after_five_seconds() {
    let layer = builder(10, 1).build().expect("valid");
    let handle = layer.handle();
    let mut service = layer.layer(Gate::new().service());
    let _calls = [service.call(0), service.call(1)].map(tokio::spawn);
    let (first, _) = judged(&handle, 4, |_| ()).await;
    assert_eq!(first.state, State::Leveling, "it is too early to say: {first}");
    let (stalled, _) = judged(&handle, 6, |_| ()).await;
    let sentence = "Stalled. Nothing has finished for 6.0s, and all slots are taken (1); waiting: \
                    1, the oldest for 10.0s.";
    says(&stalled, State::Stalled, sentence);
}

#[tokio::test(start_paused = true)]
async fn a_stall_shows_where_nothing_can_wait() {
    let layer = builder(0, 2).build().expect("valid");
    let (handle, mut service) = (layer.handle(), layer.layer(Gate::new().service()));
    let _calls = [0, 1].map(|id| tokio::spawn(service.call(id)));
    let (silent, _) = judged(&handle, 10, |_| ()).await;
    assert_eq!(silent.state, State::Calm, "two long calls, and nobody else: {silent}");
    let (first, _) = judged(&handle, 4, |id| drop(tokio::spawn(service.call(id)))).await;
    assert_eq!(first.state, State::Overloaded, "it is too early to say: {first}");
    let (stalled, _) = judged(&handle, 6, |id| drop(tokio::spawn(service.call(id)))).await;
    let sentence = "Stalled. Nothing has finished for 6.0s, and all slots are taken (2); waiting: \
                    0. 100 % are turned away, most because the queue is full.";
    says(&stalled, State::Stalled, sentence);
}

#[tokio::test(start_paused = true)]
async fn a_stall_shows_where_services_wait_for_a_place() {
    let layer = builder(0, 1).overflow(Overflow::Wait).build().expect("valid");
    let (handle, mut service) = (layer.handle(), layer.layer(Gate::new().service()));
    tower::ServiceExt::ready(&mut service).await.expect("a place");
    let _running = tokio::spawn(service.call(0));
    let mut next = service.clone();
    let _next = tokio::spawn(async move { tower::ServiceExt::ready(&mut next).await.is_ok() });
    let (stalled, _) = judged(&handle, 6, |_| ()).await;
    let sentence = "Stalled. Nothing has finished for 6.0s, and all slots are taken (1); waiting: \
                    0; services waiting for a place: 1.";
    says(&stalled, State::Stalled, sentence);
}

#[tokio::test(start_paused = true)]
async fn services_that_wait_for_a_place_wait_though_no_request_does() {
    let layer = builder(0, 1).overflow(Overflow::Wait).build().expect("valid");
    let (handle, mut service) = (layer.handle(), layer.layer(Gate::open().service()));
    // A service that is ready and does not call keeps the place.
    tower::ServiceExt::ready(&mut service).await.expect("a place");
    let mut next = service.clone();
    let next = tokio::spawn(async move { tower::ServiceExt::ready(&mut next).await.is_ok() });
    let sentence = "Leveling. 0 requests arrive a second, and it does 0. Waiting: 0; slots taken: \
                    0 of 1; services waiting for a place: 1.";
    says(&judged(&handle, 6, |_| ()).await.0, State::Leveling, sentence);
    let before = handle.stats();
    service.call(0).await.expect("served");
    assert!(next.await.expect("no panic"), "a place");
    let after = handle.stats().since(&before).verdict();
    assert_eq!(after.state, State::Leveling, "one had to wait: {after}");
    let (rest, _) = judged(&handle, 10, |_| ()).await;
    says(&rest, State::Idle, "Idle. No requests arrive.");
}

#[tokio::test(start_paused = true)]
async fn a_leveler_that_is_paused_draining_or_closed_says_so_whatever_else_there_is() {
    let layer = builder(10, 1).build().expect("valid");
    let (handle, gate) = (layer.handle(), Gate::new());
    let mut service = layer.layer(gate.service());
    let _running = tokio::spawn(service.call(0));
    settle().await;
    handle.pause();
    let _waiting = tokio::spawn(service.call(1));
    says(
        &judged(&handle, 10, |_| ()).await.0,
        State::Paused,
        "Paused. Nothing is dispatched; waiting: 1.",
    );
    assert!(handle.stats().to_string().ends_with(" paused"));
    handle.close();
    says(
        &judged(&handle, 10, |_| ()).await.0,
        State::Draining,
        "Draining. Requests are refused; waiting: 1, slots taken: 1.",
    );
    gate.finish_all();
    settle().await;
    gate.finish_all();
    settle().await;
    says(&judged(&handle, 1, |_| ()).await.0, State::Closed, "Closed. Requests are refused.");
    assert!(handle.stats().to_string().ends_with(" closed"));
}

#[tokio::test]
async fn the_parts_of_a_snapshot_add_up_while_requests_come_and_go() {
    let priority = |id: &u32| Class::new().priority(Priority::ALL[*id as usize % 5]);
    let layer = builder(1000, 1).request_classifier(priority).build().expect("valid");
    let (handle, runtime) = (layer.handle(), tokio::runtime::Handle::current());
    let mut service = layer.layer(Gate::new().service());
    let looks = std::thread::spawn(move || {
        for _ in 0..2000 {
            let stats = handle.stats();
            let parts = Priority::ALL.iter().map(|priority| stats.priority(*priority));
            let (queued, admitted) = parts.fold((0, 0), |(queued, admitted), part| {
                (queued + part.queued, admitted + part.admitted)
            });
            assert_eq!((stats.queued, stats.admitted), (queued, admitted));
        }
    });
    let _entered = runtime.enter();
    let mut waiting = std::collections::VecDeque::new();
    for id in 0.. {
        waiting.push_back(service.call(id));
        if waiting.len() > 40 {
            waiting.pop_front();
        }
        if looks.is_finished() {
            break;
        }
    }
    looks.join().expect("they add up");
}

#[tokio::test]
async fn a_handle_prints_the_name_and_the_line_of_the_stats() {
    let handle = builder(7, 3).name("orders").build().expect("valid").handle();
    let text = format!("{handle:?}");
    let stats = handle.stats();
    assert_eq!(text, format!("Handle {{ name: \"orders\", stats: {stats} }}"));
}

#[tokio::test(start_paused = true)]
async fn requests_given_up_while_they_wait_are_no_throughput() {
    let layer = builder(100, 1).build().expect("valid");
    let mut service = layer.layer(tower::service_fn(|_: u32| async {
        sleep(100 * MS).await;
        Ok::<_, tower::BoxError>(())
    }));
    let _calls: Vec<_> = (0..60).map(|_| tokio::spawn(service.call(0))).collect();
    for _ in 0..250 {
        (0..20).for_each(|_| drop(service.call(0)));
        sleep(20 * MS).await;
    }
    let rate = layer.handle().stats().drain_rate.expect("measured");
    assert!((8.0..12.0).contains(&rate), "{rate} a second, of an inner that does 10");
}
