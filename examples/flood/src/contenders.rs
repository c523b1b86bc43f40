//! The same order API three times: bare, behind the stock layers, and behind `LoadLevelLayer`.

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

/// The number of places in either queue.
const CAPACITY: usize = 1024;
/// The bound on the orders in the database at once: a small pool, since SQLite has a single writer.
/// For the stock layers the bound is the limit. The adaptive limit finds how many of the
/// connections are useful.
const MOST_WRITERS: usize = 4;

/// The header with the time for which a client waits.
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout-ms");
/// The header with the reason of a refusal, for the table.
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

    /// Returns the order API behind the layers, and the handle of a leveler among the layers.
    pub(crate) fn app(self, store: Store) -> Result<(App, Option<Handle>)> {
        let orders = Router::new().route("/orders/{number}", post(place)).with_state(store);
        match self {
            Self::Bare => Ok((App::new(orders), None)),
            Self::Stock => Ok((App::new(stock(orders)), None)),
            Self::Leveled => leveled(orders).map(|(app, handle)| (App::new(app), Some(handle))),
        }
    }
}

/// The stock layers of tower, around the whole router. `Router::layer` would make new layers for
/// each connection, and limit nothing.
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
        // Nobody has to know how many orders the database can bear: the limit begins at one.
        .adaptive(Bdp::new().initial(1).max(MOST_WRITERS))
        // Under overload, answer the newest first.
        .order(Order::AdaptiveLifo)
        .request_classifier(HeaderDeadline::millis(TIMEOUT).by_default(Duration::from_secs(1)))
        // A transaction goes on in the thread after the caller has gone. The slot stays taken too.
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
