//! What the default, `ByResult`, makes of errors: through the layer, where other layers make them.

mod support;

use std::time::Duration;

use support::gate::Gate;
use tokio_test::task;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_load_leveling::{LoadLevelLayer, error::Rejected};

const MS: Duration = Duration::from_millis(1);

/// Calls once; returns the error, and whether it was taken for overload.
async fn judged<S>(inner: S) -> (BoxError, bool)
where
    S: Service<u32, Response = u32, Error = BoxError> + Send + 'static,
    S::Future: Send,
{
    let layer = LoadLevelLayer::new(1, 1);
    let error = layer.layer(inner).oneshot(0).await.expect_err("it fails");
    let stats = layer.handle().stats();
    assert_eq!(stats.failed, 1);
    (error, stats.overloaded == 1)
}

#[tokio::test(start_paused = true)]
async fn a_timeout_further_in_is_overload() {
    let _t = support::trace_init();
    let slow = Gate::new();
    let inner = ServiceBuilder::new().timeout(100 * MS).service(slow.service());
    let (error, overloaded) = judged(inner).await;
    assert!(overloaded && error.is::<tower::timeout::error::Elapsed>(), "{error:?}");
    let inner = service_fn(|_: u32| async {
        let never = std::future::pending::<u32>();
        Ok(tokio::time::timeout(100 * MS, never).await?)
    });
    let (error, overloaded) = judged(inner).await;
    assert!(overloaded && error.is::<tokio::time::error::Elapsed>(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_shed_further_in_is_overload() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let mut inner = ServiceBuilder::new().load_shed().concurrency_limit(1).service(gate.service());
    let _running = task::spawn(inner.ready().await.expect("ready").call(1));
    let (error, overloaded) = judged(inner).await;
    assert!(overloaded && error.is::<tower::load_shed::error::Overloaded>(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_leveler_further_in_rejects_is_overload_unless_it_shuts_down() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let further_in = LoadLevelLayer::new(0, 1);
    let mut inner = further_in.layer(gate.service());
    let running = task::spawn(inner.call(1));
    let (error, overloaded) = judged(inner.clone()).await;
    assert!(overloaded && error.is::<Rejected>(), "{error:?}");
    drop(running);
    further_in.handle().close();
    let (error, overloaded) = judged(inner).await;
    assert!(!overloaded && error.is::<Rejected>(), "{error:?}");
}

#[tokio::test]
async fn other_errors_say_nothing_of_load() {
    let _t = support::trace_init();
    let inner = service_fn(|_: u32| async { Err(BoxError::from("not found")) });
    let (_, overloaded) = judged(inner).await;
    assert!(!overloaded);
}
