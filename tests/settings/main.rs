//! Settings as a value: from code and files into a builder, and out of a running leveler.

#[cfg(feature = "serde")]
mod files;
#[path = "../support/mod.rs"]
mod support;
mod words;

use std::time::Duration;

use support::{builder, gate::Gate};
use tower::{Layer, Service};
use tower_load_leveling::{
    Abandon, Execution, LoadLevelLayer, Order, Overflow, Priority,
    error::{BuildError, ParseError, Reason},
    limit::{Aimd, Algorithm, Bdp, Fixed, Gradient, LatencyTarget, Outcome, Sample, Vegas},
    settings::{Adaptive, AlgorithmName, Concurrency, DelayTarget, Rate, Settings},
};

const MS: Duration = Duration::from_millis(1);

/// Every setting at another value than its default.
fn all_set() -> Settings {
    let mut settings = Settings::default();
    settings.name = "orders \"🦀\"".to_owned();
    settings.capacity = 7;
    settings.concurrency = Some(3.into());
    settings.max_wait = Some(Duration::from_nanos(1_500_000_001));
    settings.overflow = Overflow::EvictOldest;
    settings.order = Order::AdaptiveLifo;
    settings.lifo_after = Some(5 * MS);
    settings.controlled_delay = Some(DelayTarget::Wait(6 * MS));
    settings.guaranteed_share = 0.125;
    settings.exact_flows = 9;
    settings.watch_flows = 11;
    settings.bypass_limit = 2;
    settings.flow_limit = Some(5);
    settings.rate = Some(Rate::new(100, Duration::from_secs(90)));
    settings.rate_burst = 4;
    settings.abandon = Abandon::Finish;
    settings
}

fn built(settings: &Settings) -> Result<LoadLevelLayer, BuildError> {
    LoadLevelLayer::builder().settings(settings.clone()).build()
}

fn adaptive(algorithm: AlgorithmName, set: impl FnOnce(&mut Adaptive)) -> Settings {
    let mut adaptive = Adaptive::new(algorithm);
    set(&mut adaptive);
    let mut settings = Settings::default();
    settings.concurrency = Some(adaptive.into());
    settings
}

/// An algorithm that this crate does not know.
struct Own;

impl Algorithm for Own {
    fn limit(&self) -> f64 {
        5.0
    }
    fn on_sample(&mut self, _: &Sample) {}
}

#[test]
fn settings_that_were_given_to_a_builder_come_out_of_the_handle() {
    for settings in [all_set(), {
        let mut caller = all_set();
        caller.abandon = Abandon::Cancel;
        caller.execution = Execution::Caller;
        caller.controlled_delay = Some(DelayTarget::Auto);
        caller
    }] {
        let handle = built(&settings).expect("valid").handle();
        assert_eq!(handle.settings(), settings);
        assert_eq!(handle.max_wait(), settings.max_wait);
    }
}

#[test]
fn settings_are_those_of_the_methods_of_the_builder() {
    let by_methods = LoadLevelLayer::builder()
        .name("orders \"🦀\"")
        .capacity(7)
        .concurrency(3)
        .max_wait(Duration::from_nanos(1_500_000_001))
        .overflow(Overflow::EvictOldest)
        .order(Order::AdaptiveLifo)
        .lifo_after(5 * MS)
        .controlled_delay(6 * MS)
        .guaranteed_share(0.125)
        .exact_flows(9)
        .watch_flows(11)
        .bypass_limit(2)
        .flow_limit(5)
        .rate(100, Duration::from_secs(90))
        .rate_burst(4)
        .abandon(Abandon::Finish);
    assert_eq!(by_methods.build().expect("valid").handle().settings(), all_set());
    let mut default = Settings::default();
    default.concurrency = Some(1.into());
    let by_default = LoadLevelLayer::builder().concurrency(1).build().expect("valid");
    assert_eq!(by_default.handle().settings(), default);
}

#[test]
fn the_last_setting_counts_whether_by_value_or_by_method() {
    let earlier = LoadLevelLayer::builder().name("lost").capacity(1).settings(all_set());
    let later = earlier.capacity(8).adaptive(Own).build().expect("valid").handle().settings();
    assert_eq!((later.capacity, &*later.name), (8, "orders \"🦀\""));
    assert_eq!(later.concurrency, Some(AlgorithmName::Custom.into()));
}

#[test]
fn settings_without_a_limit_are_refused() {
    let error = built(&Settings::default()).expect_err("no limit");
    assert_eq!((error.setting(), error.value()), ("concurrency", "not set"));
}

#[test]
fn every_algorithm_of_the_crate_comes_back_with_its_parameters() {
    let new = LoadLevelLayer::builder;
    let target = || LatencyTarget::new(30 * MS);
    let levelers = [
        new().adaptive(Bdp::new()),
        new().adaptive_concurrency(),
        new().adaptive(Bdp::new().min(2).max(300).initial(7)),
        new().adaptive(target()),
        new().adaptive(target().min(0.25).max(30).initial(3)),
        new().adaptive(Aimd::new()),
        new().adaptive(Aimd::new().min(2).max(300).initial(7).timeout(70 * MS)),
        new().adaptive(Gradient::new()),
        new().adaptive(Gradient::new().min(2).max(300).initial(7)),
        new().adaptive(Vegas::new()),
        new().adaptive(Vegas::new().min(2).max(300).initial(7).seed(8)),
        new().adaptive(Fixed::new(7)),
        // Contradictions, which algorithms settle: the minimum prevails.
        new().adaptive(Bdp::new().min(20).max(10)),
        new().adaptive(Aimd::new().min(0).max(0).initial(0)),
        new().adaptive(target().min(f64::NAN)),
        new().adaptive(Vegas::new().max(usize::MAX)),
    ];
    for leveler in levelers {
        let handle = leveler.build().expect("valid").handle();
        let settings = handle.settings();
        let again = built(&settings).expect("what comes out goes in").handle();
        assert_eq!(again.settings(), settings);
        assert_eq!(again.limit(), handle.limit(), "{settings:?}");
        assert_eq!(again.is_adaptive(), handle.is_adaptive());
        assert_eq!(again.apply(&settings).expect("valid"), [""; 0]);
    }
}

#[test]
fn parameters_that_are_left_open_are_those_of_the_algorithm() {
    let limit = |settings| built(&settings).expect("valid").handle().limit();
    assert_eq!(limit(adaptive(AlgorithmName::Aimd, |_| ())), 20);
    assert_eq!(limit(adaptive(AlgorithmName::Aimd, |aimd| aimd.initial = Some(30))), 30);
    assert_eq!(limit(adaptive(AlgorithmName::Aimd, |aimd| aimd.max = Some(25))), 20);
    let half = adaptive(AlgorithmName::LatencyTarget, |target| {
        target.target = Some(30 * MS);
        target.min = Some(0.5);
    });
    assert_eq!(limit(half), 2);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    use AlgorithmName::{Aimd, Bdp, Gradient, LatencyTarget, Vegas};

    let error = |settings: Settings| built(&settings).expect_err("makes no sense");
    let assert_names = |settings: Settings, setting: &str, value: &str| {
        let error = error(settings);
        assert_eq!((error.setting(), error.value()), (setting, value), "{error}");
    };
    for min in [0.0, 0.5, -1.0, 1.5, f64::NAN, f64::INFINITY] {
        let bdp = adaptive(Bdp, |bdp| bdp.min = Some(min));
        assert_names(bdp, "concurrency.min", &min.to_string());
    }
    assert_names(adaptive(Bdp, |bdp| bdp.max = Some(0)), "concurrency.max", "0");
    assert_names(adaptive(Bdp, |bdp| bdp.initial = Some(0)), "concurrency.initial", "0");
    assert_names(adaptive(Aimd, |aimd| aimd.max = Some(5)), "concurrency.min", "20");
    assert_names(adaptive(Gradient, |g| g.min = Some(201.0)), "concurrency.min", "201");
    assert_names(adaptive(LatencyTarget, |_| ()), "concurrency.target", "not set");
    let zero = adaptive(LatencyTarget, |t| t.target = Some(Duration::ZERO));
    assert_names(zero, "concurrency.target", "0ns");
    for algorithm in [Bdp, Aimd, Gradient, Vegas] {
        let wrong = adaptive(algorithm, |other| other.target = Some(MS));
        assert_names(wrong, "concurrency.target", "set");
    }
    assert_names(adaptive(Bdp, |bdp| bdp.timeout = Some(MS)), "concurrency.timeout", "set");
    assert_names(adaptive(Aimd, |aimd| aimd.seed = Some(1)), "concurrency.seed", "set");
    let text = error(adaptive(Aimd, |aimd| aimd.seed = Some(1))).to_string();
    assert!(text.contains("`aimd`") && text.contains("`vegas`"), "{text}");

    let mut rate = all_set();
    rate.rate = Some(Rate::new(0, MS));
    assert_names(rate, "rate", "0 per 1ms");
}

#[test]
fn a_custom_algorithm_reads_as_custom_and_is_refused_on_load() {
    let layer = LoadLevelLayer::builder().adaptive(Own).build().expect("valid");
    let settings = layer.handle().settings();
    assert_eq!(settings.concurrency, Some(AlgorithmName::Custom.into()));
    let error = built(&settings).expect_err("custom");
    assert_eq!((error.setting(), error.value()), ("concurrency", "custom"));
    assert!(error.to_string().contains("`Builder::adaptive`"), "{error}");
    let with_own = LoadLevelLayer::builder().settings(settings.clone()).adaptive(Own);
    assert_eq!(with_own.build().expect("valid").handle().settings(), settings);
    assert_eq!(layer.handle().apply(&settings).expect("no change"), [""; 0]);
    let fixed = LoadLevelLayer::new(1, 1).handle();
    assert_eq!(fixed.apply(&settings).expect_err("custom").setting(), "concurrency");
}

#[test]
fn a_fresh_layer_has_no_algorithm_and_says_so() {
    let layer = LoadLevelLayer::builder().adaptive(Own).build().expect("valid");
    assert_eq!(layer.fresh().handle().settings().concurrency, Some(5.into()));
    layer.handle().set_limit(9).expect("valid");
    let fresh = layer.fresh().handle();
    assert_eq!(fresh.apply(&fresh.settings()).expect("valid"), [""; 0]);
}

#[tokio::test]
async fn settings_follow_what_a_handle_changes() {
    let layer = LoadLevelLayer::builder().settings(all_set()).build().expect("valid");
    let handle = layer.handle();
    handle.set_capacity(70);
    handle.set_limit(30).expect("valid");
    handle.set_max_wait(None);
    handle.set_bypass_limit(20);
    handle.set_flow_limit(6).expect("valid");
    handle.set_rate(Some((10, MS))).expect("valid");
    let mut expected = all_set();
    expected.capacity = 70;
    expected.concurrency = Some(30.into());
    expected.max_wait = None;
    expected.bypass_limit = 20;
    expected.flow_limit = Some(6);
    expected.rate = Some(Rate::new(10, MS));
    assert_eq!(handle.settings(), expected);
    handle.set_rate(None).expect("valid");
    handle.set_max_wait(Some(Duration::ZERO));
    assert_eq!((handle.settings().rate, handle.max_wait()), (None, Some(Duration::ZERO)));
}

#[tokio::test]
async fn a_limit_set_by_hand_over_an_algorithm_reads_as_this_limit_until_it_is_given_back() {
    let layer = LoadLevelLayer::builder().adaptive(Aimd::new().min(1)).build().expect("valid");
    let handle = layer.handle();
    let from_file = handle.settings();
    assert!(matches!(from_file.concurrency, Some(Concurrency::Adaptive(_))));
    handle.set_limit(7).expect("valid");
    assert_eq!(handle.settings().concurrency, Some(7.into()));
    assert_eq!(handle.apply(&from_file).expect("valid"), [""; 0]);
    assert!(handle.is_adaptive());
    assert_eq!((handle.limit(), handle.settings()), (7, from_file));
}

#[tokio::test]
async fn new_settings_apply_to_what_waits_and_the_rest_is_named() {
    let gate = Gate::new();
    let layer = builder(8, 1).build().expect("valid");
    let handle = layer.handle();
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (0..6).map(|id| tokio::spawn(service.call(id))).collect();
    support::settle().await;
    assert_eq!(gate.running(), 1);

    let mut settings = all_set();
    settings.rate = None;
    let rest = handle.apply(&settings).expect("valid");
    support::settle().await;
    assert_eq!(gate.running(), 3, "the new limit");
    assert_eq!(handle.settings().rate_burst, 4);
    assert_eq!(
        rest,
        [
            "name",
            "overflow",
            "order",
            "lifo_after",
            "controlled_delay",
            "guaranteed_share",
            "exact_flows",
            "watch_flows",
            "abandon",
        ]
    );
    let mut rest = handle.settings();
    rest.execution = Execution::Caller;
    rest.concurrency = Some(AlgorithmName::Bdp.into());
    assert_eq!(handle.apply(&rest).expect("valid"), ["concurrency", "execution"]);
    assert_eq!((handle.limit(), handle.is_adaptive()), (3, false), "as it was");
}

#[tokio::test]
async fn settings_that_make_no_sense_change_nothing_of_a_running_leveler() {
    let handle = built(&all_set()).expect("valid").handle();
    let mut settings = all_set();
    settings.capacity = 99;
    settings.concurrency = Some(0.into());
    let error = handle.apply(&settings).expect_err("no limit");
    assert_eq!((error.setting(), error.value()), ("concurrency", "0"));
    assert_eq!(handle.settings(), all_set());
}

#[test]
fn a_changed_rate_outlives_the_runtime_of_the_drain_task() {
    let runtime = || {
        let mut new = tokio::runtime::Builder::new_current_thread();
        new.enable_time().start_paused(true).build().expect("a runtime")
    };
    let gate = Gate::open();
    let layer = LoadLevelLayer::new(10, 10);
    let mut service = layer.layer(gate.service());
    let first = runtime();
    first.block_on(async {
        layer.handle().pause();
        drop(service.call(0));
        support::settle().await;
        layer.handle().set_rate(Some((1, Duration::from_secs(10)))).expect("valid");
        support::settle().await;
        layer.handle().resume();
    });
    drop(first);
    runtime().block_on(async {
        let calls: Vec<_> = (1..=3).map(|id| tokio::spawn(service.call(id))).collect();
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(layer.handle().stats().succeeded, 2, "one at once, and one after 10 s");
        drop(calls);
    });
}
