//! What is put around a router.

use std::task::{Context, Poll};

use axum::{Router, error_handling::HandleErrorLayer, http::StatusCode};
use tower::{
    BoxError, Service, ServiceBuilder, buffer::BufferLayer, layer::layer_fn,
    limit::ConcurrencyLimitLayer,
};
use tower_load_leveling::{
    Builder, Execution, LoadLevelLayer,
    http::{ByStatus, Hold, RejectionLayer},
};

use crate::{CONNECTIONS, handlers::Handler};

const LIMIT: usize = CONNECTIONS;
const CAPACITY: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    Bare,
    Nothing,
    BufferAndLimit,
    Spawn,
    Caller,
    HandleError,
    Held,
}

impl Contender {
    /// Those that everything is measured of.
    pub const MAIN: &[Self] = &[Self::Bare, Self::BufferAndLimit, Self::Spawn, Self::Caller];
    pub const ALL: &[Self] = &[
        Self::Bare,
        Self::Nothing,
        Self::BufferAndLimit,
        Self::Spawn,
        Self::Caller,
        Self::HandleError,
        Self::Held,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Nothing => "a layer that does nothing",
            Self::BufferAndLimit => "Buffer + ConcurrencyLimit",
            Self::Spawn => "Spawn",
            Self::Caller => "Caller",
            Self::HandleError => "Spawn, HandleErrorLayer",
            Self::Held => "Spawn, held to body end",
        }
    }

    pub fn around(self, handler: Handler) -> Router {
        let router = handler.router();
        let rejection = RejectionLayer::new;
        let refusal = || HandleErrorLayer::new(refuse);
        match self {
            Self::Bare => router,
            Self::Nothing => router.layer(layer_fn(Through)),
            // Around the whole router, where one limit holds over all connections.
            Self::BufferAndLimit => Router::new().fallback_service(
                ServiceBuilder::new()
                    .layer(refusal())
                    .layer(BufferLayer::new(CAPACITY))
                    .layer(ConcurrencyLimitLayer::new(LIMIT))
                    .service(router),
            ),
            Self::Spawn => router.layer((rejection(), build(leveler()))),
            Self::Caller => {
                router.layer((rejection(), build(leveler().execution(Execution::Caller))))
            }
            Self::HandleError => router.layer((refusal(), build(leveler()))),
            Self::Held => {
                let held = leveler().response_classifier(ByStatus::new()).hold_until(Hold::BodyEnd);
                router.layer((rejection(), held.build().expect("valid settings")))
            }
        }
    }
}

fn leveler() -> Builder {
    LoadLevelLayer::builder().capacity(CAPACITY).concurrency(LIMIT)
}

fn build(builder: Builder) -> LoadLevelLayer {
    builder.build().expect("valid settings")
}

async fn refuse(_: BoxError) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

/// What axum itself spends on a layer: it boxes the service and its future, and clones it for every
/// request.
#[derive(Clone, Debug)]
struct Through<S>(S);

impl<S: Service<Req>, Req> Service<Req> for Through<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> S::Future {
        self.0.call(request)
    }
}
