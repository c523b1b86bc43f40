//! Programs name the types of the crate, and box, store and share the service: what compiles here
//! is what a program has to write.

use std::{collections::BTreeSet, convert::Infallible, fs, sync::Arc, time::Duration};

use tokio::sync::Mutex;
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    util::{BoxCloneService, BoxCloneSyncService, BoxService},
};
use tower_load_leveling::{
    ByResult, Class, ClassifyRequest, ClassifyResponse, LoadLevel, LoadLevelLayer, Priority,
    Unclassified,
    classify::{BoxClassifyRequest, BoxClassifyResponse},
    error::{BuildError, Reason, Rejected},
    future::ResponseFuture,
    limit::Outcome,
    respond::CompleteOnResponse,
};

/// An inner that a program can name.
#[derive(Clone)]
struct Backend;

impl Service<u32> for Backend {
    type Response = u32;
    type Error = Infallible;
    type Future = std::future::Ready<Result<u32, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        std::future::ready(Ok(request + 1))
    }
}

/// The root of the crate has these names, beside modules. More of them hide the ones to begin with.
const ROOT: [&str; 16] = [
    "Abandon",
    "Builder",
    "ByResult",
    "Class",
    "ClassifyRequest",
    "ClassifyResponse",
    "DrainReport",
    "Execution",
    "Handle",
    "LoadLevel",
    "LoadLevelLayer",
    "Order",
    "Overflow",
    "Priority",
    "Stats",
    "Unclassified",
];

#[test]
fn the_root_exports_sixteen_names_or_fewer() {
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs"))
        .expect("the crate's root");
    let (_, list) = source.split_once("pub use self::{").expect("the list of names");
    let (list, rest) = list.split_once("};").expect("its end");
    assert!(!rest.contains("pub use"), "all names are in one list");
    let words = list.split(|c: char| !c.is_alphanumeric() && c != '_');
    let names: BTreeSet<_> = words.filter(|word| word.starts_with(char::is_uppercase)).collect();
    assert_eq!(names, BTreeSet::from(ROOT));
    assert!(names.len() <= 16);
}

#[tokio::test]
async fn a_struct_names_the_service_by_its_inner_alone() {
    struct App {
        orders: LoadLevel<Backend>,
    }
    let mut app = App { orders: LoadLevelLayer::new(8, 2).layer(Backend) };
    assert_eq!(app.orders.ready().await.expect("ready").call(1).await.expect("a response"), 2);
    let _: LoadLevel<Backend, Unclassified, ByResult, CompleteOnResponse> = app.orders;
}

#[tokio::test]
async fn a_struct_names_the_layer_the_service_and_the_future_with_a_function_as_classifier() {
    struct App {
        layer: LoadLevelLayer<fn(&u32) -> Class>,
        service: LoadLevel<Backend, fn(&u32) -> Class>,
        call: ResponseFuture<std::future::Ready<Result<u32, Infallible>>>,
    }
    fn classify(request: &u32) -> Class {
        Class::new().flow(request % 7)
    }
    let layer =
        LoadLevelLayer::builder().concurrency(2).classify_request(classify as fn(&u32) -> _);
    let layer = layer.build().expect("valid");
    let mut service = layer.layer(Backend);
    let call = service.call(1);
    let app = App { layer, service, call };
    assert_eq!(app.call.await.expect("a response"), 2);
    assert_eq!(app.layer.handle().stats().succeeded, 1);
    assert_eq!(app.service.oneshot(2).await.expect("a response"), 3);
}

#[tokio::test]
async fn boxed_classifiers_have_one_type_in_both_branches() {
    type Layer = LoadLevelLayer<BoxClassifyRequest<u32>, BoxClassifyResponse<u32, Infallible>>;
    fn leveler(is_fair: bool) -> Result<Layer, BuildError> {
        let builder = LoadLevelLayer::builder().concurrency(2);
        let builder = if is_fair {
            let flow = |request: &u32| Class::new().flow(request % 7);
            let priority = |_: &u32| Class::new().priority(Priority::Low);
            builder.request_classifier((flow, priority).boxed())
        } else {
            builder.request_classifier(Unclassified::new().boxed())
        };
        let builder = if is_fair {
            let judge = |_: Result<&u32, &Infallible>| Outcome::Overload;
            builder.response_classifier(judge.boxed())
        } else {
            builder.response_classifier(ByResult::new().boxed())
        };
        builder.build()
    }
    for (is_fair, failed) in [(true, 1), (false, 0)] {
        let layer = leveler(is_fair).expect("valid");
        let copy = layer.clone();
        copy.layer(Backend).oneshot(1).await.expect("a response");
        let stats = layer.handle().stats();
        assert_eq!((stats.failed, stats.succeeded), (failed, 1 - failed), "fair: {is_fair}");
        let level = stats.priority(if is_fair { Priority::Low } else { Priority::Normal });
        assert_eq!(level.admitted, 1, "fair: {is_fair}");
    }
}

#[tokio::test]
async fn the_first_of_a_tuple_takes_precedence_and_the_rest_fill_in() {
    let high = |_: &u32| Class::new().priority(Priority::High);
    let low = |_: &u32| Class::new().priority(Priority::Low);
    let none = |_: &u32| Class::new();
    async fn admitted<Q>(classifier: Q, priority: Priority) -> u64
    where
        Q: ClassifyRequest<u32> + Send + Sync + 'static,
    {
        let layer = LoadLevelLayer::builder().concurrency(4).request_classifier(classifier);
        let layer = layer.build().expect("valid");
        layer.layer(Backend).oneshot(1).await.expect("a response");
        layer.handle().stats().priority(priority).admitted
    }
    assert_eq!(admitted((high, low), Priority::High).await, 1);
    assert_eq!(admitted((low, high), Priority::Low).await, 1);
    assert_eq!(admitted((none, high, low), Priority::High).await, 1);
    assert_eq!(admitted((none, none, none, low), Priority::Low).await, 1);
    assert_eq!(admitted(((none, none), (low, high)), Priority::Low).await, 1);
}

#[tokio::test]
async fn the_service_goes_into_a_box_an_arc_and_a_dyn() {
    let layer = LoadLevelLayer::new(8, 2);
    let service = || layer.layer(Backend);

    let boxed: BoxService<u32, u32, BoxError> = service().boxed();
    let cloned: BoxCloneService<u32, u32, BoxError> = service().boxed_clone();
    let synced: BoxCloneSyncService<u32, u32, BoxError> = BoxCloneSyncService::new(service());
    assert_eq!(boxed.oneshot(1).await.expect("a response"), 2);
    assert_eq!(cloned.clone().oneshot(2).await.expect("a response"), 3);
    assert_eq!(synced.clone().oneshot(3).await.expect("a response"), 4);

    type Call = ResponseFuture<std::future::Ready<Result<u32, Infallible>>>;
    type Dyn = dyn Service<u32, Response = u32, Error = BoxError, Future = Call> + Send;
    let mut object: Box<Dyn> = Box::new(service());
    assert_eq!(object.call(4).await.expect("a response"), 5);
    let shared: Arc<Mutex<Dyn>> = Arc::new(Mutex::new(service()));
    let call = shared.lock().await.call(5);
    assert_eq!(call.await.expect("a response"), 6);

    // A clone of the service shares its leveler, so a program need not share one value.
    let shared: Arc<LoadLevel<Backend>> = Arc::new(service());
    let task = tokio::spawn(async move { LoadLevel::clone(&shared).oneshot(6).await });
    assert_eq!(task.await.expect("no panic").expect("a response"), 7);
    assert_eq!(layer.handle().stats().succeeded, 6);
}

#[tokio::test]
async fn code_that_is_generic_over_the_service_takes_a_double_of_it() {
    struct Shop<S>(S);
    impl<S> Shop<S>
    where
        S: Service<u32, Response = u32, Error = BoxError> + Clone,
    {
        async fn order(&self, amount: u32) -> Result<u32, BoxError> {
            self.0.clone().oneshot(amount).await
        }
    }
    let real = Shop(ServiceBuilder::new().layer(LoadLevelLayer::new(8, 2)).service(Backend));
    assert_eq!(real.order(1).await.expect("a response"), 2);
    let fails = |_: u32| async { Err::<u32, _>(BoxError::from("the backend is down")) };
    let double = Shop(tower::service_fn(fails));
    assert_eq!(double.order(1).await.expect_err("an error").to_string(), "the backend is down");

    // A double of a refusal, to test what a program makes of it.
    let refuses = |_: u32| async {
        let rejected = Rejected::new(Reason::Full).with_retry_after(Duration::from_secs(2));
        Err::<u32, BoxError>(rejected.into())
    };
    let error = Shop(tower::service_fn(refuses)).order(1).await.expect_err("refused");
    let rejected = error.downcast_ref::<Rejected>().expect("a refusal");
    assert_eq!(rejected.reason(), Reason::Full);
    assert_eq!(rejected.retry_after(), Some(Duration::from_secs(2)));
}

#[cfg(feature = "http")]
mod web {
    use axum::{Router, body::Body, extract::State, response::Response, routing::get};
    use http::{HeaderName, Request, StatusCode};
    use http_body_util::BodyExt;
    use tower_load_leveling::{
        Handle,
        http::{
            ByStatus, ExtensionDeadline, HeaderDeadline, HeldBody, Hold, HoldBody, RejectionLayer,
        },
    };

    use super::*;

    #[tokio::test]
    async fn the_state_of_an_axum_app_holds_the_service_and_the_handle() {
        #[derive(Clone)]
        struct App {
            backend: LoadLevel<Backend>,
            handle: Handle,
        }
        async fn order(State(app): State<App>) -> Result<String, (StatusCode, String)> {
            let answer = app.backend.oneshot(41).await;
            let answer = answer.map_err(|e| (StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
            Ok(format!("{answer}, {} succeeded", app.handle.stats().succeeded))
        }
        let layer = LoadLevelLayer::new(8, 2);
        let app = App { handle: layer.handle(), backend: layer.layer(Backend) };
        let router = Router::new().route("/", get(order)).with_state(app);
        let response = router.oneshot(Request::new(Body::empty())).await.expect("a response");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(&body[..], b"42, 1 succeeded");
    }

    /// An HTTP service that a program can name.
    #[derive(Clone)]
    struct Web;

    impl Service<Request<Body>> for Web {
        type Response = Response;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response, Infallible>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::ready(Ok(Response::default()))
        }
    }

    #[tokio::test]
    async fn the_service_that_holds_slots_can_be_named() {
        type Leveled = LoadLevel<Web, HeaderDeadline, ByStatus, HoldBody<CompleteOnResponse>>;
        let name = HeaderName::from_static("x-timeout-ms");
        let layer = LoadLevelLayer::builder()
            .concurrency(1)
            .request_classifier(HeaderDeadline::millis(name))
            .response_classifier(ByStatus::new())
            .hold_until(Hold::BodyEnd)
            .build()
            .expect("valid");
        let service: Leveled = layer.layer(Web);
        let response = service.oneshot(Request::default()).await.expect("a response");
        let _: http::Response<HeldBody<Body>> = response;
    }

    #[tokio::test]
    async fn joined_classifiers_infer_the_type_of_the_request() {
        let deadline = || HeaderDeadline::millis(HeaderName::from_static("x-timeout-ms"));
        let flow = |request: &Request<Body>| Class::new().flow(request.uri().path());
        let build = || LoadLevelLayer::builder().concurrency(1);
        let layer = build().request_classifier((flow, deadline())).build().expect("valid");
        let both = build().request_classifier((deadline(), ExtensionDeadline::new()));
        let both = both.build().expect("valid");
        let boxed = build().request_classifier((flow, deadline()).boxed()).build().expect("valid");
        let alone = build().request_classifier(deadline().boxed()).build().expect("valid");
        let stack = ServiceBuilder::new()
            .layer(RejectionLayer::new())
            .layer(layer)
            .layer(both)
            .layer(boxed)
            .layer(alone)
            .service(Web);
        let Ok(response) = stack.oneshot(Request::<Body>::default()).await;
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[cfg(feature = "grpc")]
    #[tokio::test]
    async fn joined_classifiers_of_grpc_infer_the_type_of_the_request() {
        use tower_load_leveling::grpc;

        let flow = |request: &Request<Body>| Class::new().flow(request.uri().path());
        let layer = LoadLevelLayer::builder()
            .concurrency(1)
            .request_classifier((flow, grpc::TimeoutDeadline::new()))
            .response_classifier(grpc::ByStatus::new())
            .build()
            .expect("valid");
        let stack = ServiceBuilder::new().layer(grpc::RejectionLayer::new()).layer(layer);
        let Ok(response) = stack.service(Web).oneshot(Request::<Body>::default()).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}
