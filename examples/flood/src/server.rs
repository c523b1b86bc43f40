//! Serves an app over loopback.

use std::net::SocketAddr;

use axum::{body::Body, http::Request};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, task::AbortHandle};
use tower::ServiceBuilder;

use crate::{Result, contenders::App};

pub(crate) struct Server {
    address: SocketAddr,
    task: AbortHandle,
}

impl Server {
    pub(crate) async fn start(app: App) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
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

/// Serves HTTP/2, since thousands of requests at once then need few sockets. Some systems allow 256
/// open files.
async fn serve(listener: TcpListener, app: App) {
    while let Ok((socket, _)) = listener.accept().await {
        let app = ServiceBuilder::new()
            .map_request(|request: Request<hyper::body::Incoming>| request.map(Body::new))
            .service(app.clone());
        tokio::spawn(async move {
            // Without `nodelay` answers are late, but right.
            let _ = socket.set_nodelay(true);
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(100_000);
            let app = TowerToHyperService::new(app);
            // An error means that the client has closed the connection. The server has nothing to
            // do.
            let _ = builder.serve_connection(TokioIo::new(socket), app).await;
        });
    }
}
