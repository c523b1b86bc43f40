//! The order API, bare or behind the layer.

use std::net::SocketAddr;

use axum::{
    BoxError, Router,
    error_handling::HandleErrorLayer,
    extract::{Path, State},
    http::{HeaderName, StatusCode},
    response::IntoResponse,
    routing::post,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, task::AbortHandle};
use tower::ServiceBuilder;
use tower_load_leveling::{LoadLevelLayer, error::Rejected};

use crate::{Result, store::Store};

/// In which a refusal names its reason, for the table.
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-refused");

pub(crate) struct Server {
    address: SocketAddr,
    task: AbortHandle,
}

impl Server {
    pub(crate) async fn start(store: Store, layer: Option<LoadLevelLayer>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let app = app(store, layer);
        let task = tokio::spawn(serve(listener, app)).abort_handle();
        Ok(Self { address, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn stop(self) {
        self.task.abort();
    }
}

fn app(store: Store, layer: Option<LoadLevelLayer>) -> Router {
    let app = Router::new().route("/orders/{number}", post(place)).with_state(store);
    match layer {
        None => app,
        Some(layer) => {
            app.layer(ServiceBuilder::new().layer(HandleErrorLayer::new(refuse)).layer(layer))
        }
    }
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

async fn refuse(error: BoxError) -> impl IntoResponse {
    match error.downcast_ref::<Rejected>() {
        Some(rejected) => {
            let reason = rejected.reason().as_str();
            Ok((StatusCode::SERVICE_UNAVAILABLE, [(REASON, reason)], rejected.to_string()))
        }
        None => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

/// HTTP/2, so that thousands of requests at once need few sockets: some systems allow 256 open
/// files.
async fn serve(listener: TcpListener, app: Router) {
    while let Ok((socket, _)) = listener.accept().await {
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            // Without it answers are late, but right.
            let _ = socket.set_nodelay(true);
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(100_000);
            // Ends with an error when the client goes away; there is nothing to do about it.
            let _ = builder.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
