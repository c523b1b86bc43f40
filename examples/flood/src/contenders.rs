//! The same order API three times: bare, behind the stock layers, and behind ours.

use std::{convert::Infallible, time::Duration};

use axum::{
    BoxError, Router,
    body::Body,
    error_handling::HandleErrorLayer,
    extract::{Path, State},
    http::{HeaderName, Request, Response, StatusCode},
    routing::post,
};
use tower::{ServiceBuilder, util::BoxCloneSyncService};
use tower_load_leveling::{
    Abandon, Handle, LoadLevelLayer, Order,
    http::{HeaderDeadline, RejectionLayer},
    limit::Bdp,
};

use crate::{Result, store::Store};

/// How many orders may wait, with either queue.
const CAPACITY: usize = 1024;
/// How many orders may be in the database at once: a small pool, since SQLite has one writer. For
/// the stock layers it is the limit; ours finds how many of them are of use.
const MOST_WRITERS: usize = 4;

/// The header by which a client says for how long it waits.
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout-ms");
/// The header by which a refusal names its reason, for the table.
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-reason");

pub(crate) type App = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Bare,
    Stock,
    Leveled,
}

impl Contender {
    pub(crate) const ALL: [Self; 3] = [Self::Bare, Self::Stock, Self::Leveled];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Stock => "stock layers",
            Self::Leveled => "load leveling",
        }
    }

    /// Returns the order API behind these layers, and the handle of the leveler if there is one.
    pub(crate) fn app(self, store: Store) -> Result<(App, Option<Handle>)> {
        let orders = Router::new().route("/orders/{number}", post(place)).with_state(store);
        match self {
            Self::Bare => Ok((App::new(orders), None)),
            Self::Stock => Ok((App::new(stock(orders)), None)),
            Self::Leveled => leveled(orders).map(|(app, handle)| (App::new(app), Some(handle))),
        }
    }
}

/// The layers that tower has for it. Around the whole router: in `Router::layer` they would be made
/// anew for each connection, and limit nothing.
fn stock(
    orders: Router,
) -> impl tower::Service<
    Request<Body>,
    Response = Response<Body>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ Sync
+ 'static {
    let refuse = HandleErrorLayer::new(|_: BoxError| async { StatusCode::SERVICE_UNAVAILABLE });
    ServiceBuilder::new()
        .layer(refuse)
        .load_shed()
        .buffer(CAPACITY)
        .concurrency_limit(MOST_WRITERS)
        .service(orders)
}

fn leveled(orders: Router) -> Result<(Router, Handle)> {
    let leveler = LoadLevelLayer::builder()
        .name("orders")
        .capacity(CAPACITY)
        // Nobody has to know how many the database can bear: it begins with one.
        .adaptive(Bdp::new().initial(1).max(MOST_WRITERS))
        // Under overload, answer those who have just come.
        .order(Order::AdaptiveLifo)
        .request_classifier(HeaderDeadline::millis(TIMEOUT).by_default(Duration::from_secs(1)))
        // A transaction goes on in its thread when its caller has gone. So does its slot.
        .abandon(Abandon::Finish)
        .build()?;
    let handle = leveler.handle();
    let stack =
        ServiceBuilder::new().layer(RejectionLayer::new().reason_header(REASON)).layer(leveler);
    Ok((orders.layer(stack), handle))
}

async fn place(
    State(store): State<Store>,
    Path(number): Path<u64>,
) -> std::result::Result<StatusCode, (StatusCode, String)> {
    let failed =
        |error: &dyn std::fmt::Display| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    match tokio::task::spawn_blocking(move || store.place(number)).await {
        Ok(Ok(())) => Ok(StatusCode::CREATED),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}
