//! The numbers by priority and by flow, and the look into the limit.

mod support;

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use support::{EXECUTIONS, builder, gate::Gate, settle};
use tokio::time::sleep;
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{
    Class, LoadLevelLayer, Priority,
    limit::{Algorithm, Bdp, LatencyTarget, Outcome, Sample, View},
    stats::{FlowId, FlowStats},
};

const MS: Duration = Duration::from_millis(1);

/// Requests are numbers: the priority by its index, times ten.
fn by_tens(request: &u32) -> Class {
    Class::new().priority(Priority::ALL[*request as usize / 10])
}

#[tokio::test(start_paused = true)]
async fn each_priority_has_its_own_waits_and_outcomes_and_they_add_up() {
    for execution in EXECUTIONS {
        let layer = builder(100, 1)
            .execution(execution)
            .max_wait(85 * MS)
            .guaranteed_share(0.0)
            .request_classifier(by_tens)
            .response_classifier(|result: Result<&u32, &BoxError>| match result {
                Ok(_) => Outcome::Success,
                Err(error) if error.to_string() == "overload" => Outcome::Overload,
                Err(_) => Outcome::Ignore,
            })
            .build()
            .expect("valid");
        // Of each ten: 0 succeeds, 1 fails, 2 is overloaded, 3 panics.
        let mut service = layer.layer(service_fn(|request: u32| async move {
            sleep(10 * MS).await;
            match request % 10 {
                0 => Ok::<_, BoxError>(request),
                1 => Err("failure".into()),
                2 => Err("overload".into()),
                _ => panic!("as asked for"),
            }
        }));
        // The first runs at once, and all others wait for it, and for those before them.
        let calls: Vec<_> = [0, 1, 2, 3, 10, 11, 22, 20, 20, 40, 40, 40]
            .map(|request| tokio::spawn(service.call(request)))
            .into();
        sleep(5 * MS).await;
        calls[11].abort();
        for call in calls {
            let _ = call.await;
        }
        settle().await;
        let stats = layer.handle().stats();
        let of = |priority| {
            let level = stats.priority(priority);
            let outcomes = [level.succeeded, level.failed, level.overloaded, level.panicked];
            (outcomes, level.cancelled, level.removed.total(), level.wait.count())
        };
        assert_eq!(of(Priority::Critical), ([1, 2, 1, 1], 0, 0, 4), "{execution:?}");
        assert_eq!(of(Priority::High), ([1, 1, 0, 0], 0, 0, 2));
        assert_eq!(of(Priority::Normal), ([2, 1, 1, 0], 0, 0, 3));
        assert_eq!(of(Priority::Low), ([0, 0, 0, 0], 0, 0, 0));
        assert_eq!(of(Priority::Background), ([0, 0, 0, 0], 1, 1 + 1, 0));

        // The waits are those of the priority alone.
        let longest = |priority, ms: u32| {
            let wait = stats.priority(priority).wait.quantile(1.0).expect("waited");
            assert!((ms * MS..(ms + ms / 16 + 2) * MS).contains(&wait), "{wait:?}, not {ms} ms");
        };
        longest(Priority::Critical, 30);
        longest(Priority::High, 50);
        longest(Priority::Normal, 80);
        let removed = &stats.priority(Priority::Background).removed_wait;
        assert_eq!(removed.count(), 3);
        assert!(removed.quantile(0.3) < Some(6 * MS), "given up early: {removed:?}");
        assert!(removed.quantile(1.0) >= Some(84 * MS), "{removed:?}");

        // All together are the totals.
        let all = || Priority::ALL.iter().map(|priority| stats.priority(*priority));
        assert_eq!(all().map(|level| level.succeeded).sum::<u64>(), stats.succeeded);
        assert_eq!(all().map(|level| level.failed).sum::<u64>(), stats.failed);
        assert_eq!(all().map(|level| level.overloaded).sum::<u64>(), stats.overloaded);
        assert_eq!(all().map(|level| level.cancelled).sum::<u64>(), stats.cancelled);
        assert_eq!(all().map(|level| level.panicked).sum::<u64>(), stats.panicked);
        assert_eq!(all().map(|level| level.wait.count()).sum::<u64>(), stats.wait.count());
        assert_eq!(all().map(|level| level.wait.sum()).sum::<Duration>(), stats.wait.sum());
        let removed = all().map(|level| level.removed_wait.count()).sum::<u64>();
        assert_eq!(removed, stats.removed_wait.count());
        assert_eq!(stats.since(&stats).priority(Priority::Normal).succeeded, 0);
        assert_eq!(stats.since(&stats).priority(Priority::Normal).wait.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_flows_that_ask_most_are_shown_with_what_was_turned_away() {
    let layer = builder(0, 1)
        .watch_flows(4)
        .request_classifier(|flow: &Option<u32>| match flow {
            Some(flow) => Class::new().flow(flow),
            None => Class::new(),
        })
        .build()
        .expect("valid");
    let service = layer.layer(service_fn(|_: Option<u32>| async { Ok::<_, BoxError>(()) }));
    let call = |flow| {
        let mut service = service.clone();
        async move { service.call(flow).await.is_ok() }
    };
    let started = layer.handle().stats();
    assert!(started.flows.is_empty());
    // Three flows in four ask 3 × 4000 times, and thousands ask once. Nobody else waits.
    for nth in 0..16_000_u32 {
        let flow = if nth % 4 == 3 { 1000 + nth } else { nth % 4 };
        assert!(call(Some(flow)).await);
        assert!(call(None).await);
    }
    let before = layer.handle().stats();
    let of = |flows: &[FlowStats], flow: u32| {
        *flows.iter().find(|stats| stats.id == FlowId::of(flow)).expect("on the list")
    };
    assert_eq!(before.flows.len(), 4);
    for flow in 0..3 {
        let stats = of(&before.flows, flow);
        assert!((3600..4400 + stats.error).contains(&stats.asked), "{stats:?} is not about 4000");
        assert_eq!(stats.rejected, 0);
    }
    assert!(before.flows.is_sorted_by(|one, next| one.asked >= next.asked));

    // From now on the slot is taken, and one flow asks most, and in vain.
    let never = |_: Option<u32>| std::future::pending::<Result<(), BoxError>>();
    let _running = tokio::spawn(layer.layer(service_fn(never)).call(None));
    for nth in 0..8_000_u32 {
        assert!(!call(Some(if nth % 8 == 0 { 1 } else { 2 })).await);
    }
    let since = layer.handle().stats().since(&before);
    let worst = since.flows[0];
    assert_eq!((worst.id, worst.error), (FlowId::of(2), 0));
    assert!((6300..7700).contains(&worst.asked), "{worst:?} is not about 7000");
    assert!((6300..=worst.asked).contains(&worst.rejected), "{worst:?}");
    let other = of(&since.flows, 1);
    assert!((700..1300).contains(&other.asked), "{other:?} is not about 1000");
}

#[tokio::test(start_paused = true)]
async fn a_removed_request_counts_as_turned_away_for_its_flow() {
    let layer = builder(2000, 1)
        .watch_flows(8)
        .max_wait(20 * MS)
        .request_classifier(|flow: &u32| Class::new().flow(flow))
        .build()
        .expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let _calls: Vec<_> = (0..2000).map(|nth| tokio::spawn(service.call(nth % 2))).collect();
    sleep(50 * MS).await;
    for stats in layer.handle().stats().flows {
        assert!((800..1200).contains(&stats.asked), "{stats:?}");
        assert!((800..=stats.asked).contains(&stats.rejected), "{stats:?}");
    }
}

#[tokio::test]
async fn no_flow_is_watched_unless_asked_for_and_none_of_a_leveler_that_is_switched_off() {
    for (flows, is_on) in [(0, true), (8, false)] {
        let layer = builder(8, 8)
            .watch_flows(flows)
            .enabled(is_on)
            .request_classifier(|flow: &u32| Class::new().flow(flow))
            .build()
            .expect("valid");
        let mut service = layer.layer(service_fn(|_: u32| async { Ok::<_, BoxError>(()) }));
        for nth in 0..100 {
            service.call(nth).await.expect("runs");
        }
        assert!(layer.handle().stats().flows.is_empty());
    }
    let error = builder(8, 8).watch_flows(65_537).build().expect_err("too many");
    assert!(error.to_string().contains("watch_flows"), "{error}");
}

#[test]
fn ids_of_flows_print_no_names_and_differ_between_processes() {
    let id = FlowId::of("tenant-7");
    assert_eq!(id, FlowId::of("tenant-7"));
    assert_ne!(id, FlowId::of("tenant-8"));
    let printed = id.to_string();
    assert!(printed.len() == 6 && printed.chars().all(|c| c.is_ascii_hexdigit()), "{printed}");
    assert_eq!(format!("{id:?}"), format!("FlowId({printed})"));
    assert_eq!(format!("{id:>8}"), format!("  {printed}"));
    if std::env::var_os("PRINT_FLOW_ID").is_some() {
        println!("id={printed}");
        return;
    }
    let other = std::process::Command::new(std::env::current_exe().expect("runs"))
        .args(["ids_of_flows", "--nocapture"])
        .env("PRINT_FLOW_ID", "1")
        .output()
        .expect("runs");
    let output = String::from_utf8_lossy(&other.stdout).into_owned();
    assert!(output.contains("id="), "{output}");
    assert!(!output.contains(&format!("id={printed}\n")), "the same, in another process");
}

#[tokio::test(start_paused = true)]
async fn the_limit_shows_its_phase_and_target_while_an_algorithm_finds_it() {
    let fixed = builder(8, 8).build().expect("valid");
    assert_eq!(fixed.handle().stats().limit_view, None);

    let target = LoadLevelLayer::builder().adaptive(LatencyTarget::new(30 * MS)).build();
    let view = target.expect("valid").handle().stats().limit_view;
    assert_eq!(view, Some(View::new().target(30 * MS)));

    let layer = LoadLevelLayer::builder().adaptive(Bdp::new()).build().expect("valid");
    let view = layer.handle().stats().limit_view.expect("adaptive");
    assert_eq!(view, View::new().phase("startup"), "nothing is known yet");

    // A limit set by hand hides the algorithm, until it gets the limit back.
    layer.handle().set_limit(3).expect("valid");
    assert_eq!(layer.handle().stats().limit_view, None);
    assert!(layer.handle().resume_adaptive());
    assert!(layer.handle().stats().limit_view.is_some());
}

#[tokio::test]
async fn an_algorithm_whose_view_panics_shows_nothing_and_goes_on() {
    static SAMPLES: AtomicU64 = AtomicU64::new(0);
    struct Own;
    impl Algorithm for Own {
        fn limit(&self) -> f64 {
            5.0
        }
        fn on_sample(&mut self, _: &Sample) {
            SAMPLES.fetch_add(1, Relaxed);
        }
        fn view(&self) -> View {
            panic!("in the view")
        }
    }
    let layer = LoadLevelLayer::builder().adaptive(Own).build().expect("valid");
    assert_eq!(layer.handle().stats().limit_view, None);
    let mut service = layer.layer(service_fn(|()| async { Ok::<_, BoxError>(()) }));
    service.call(()).await.expect("runs");
    assert_eq!((SAMPLES.load(Relaxed), layer.handle().is_adaptive()), (1, true));
}
