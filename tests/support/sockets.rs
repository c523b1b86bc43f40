//! Servers and clients over real sockets.

use std::future::IntoFuture;

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint, server::TcpIncoming},
};
use tower::{BoxError, Service};

pub type Http = Client<HttpConnector, Body>;

pub fn client() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Sends all requests over one connection.
pub fn client_h2() -> Http {
    let mut connector = HttpConnector::new();
    // The last piece of a window would be held back for 40 ms.
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http2_only(true).build(connector)
}

pub async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(axum::serve(listener, router).into_future());
    base
}

/// Serves, and returns a channel with one connection.
pub async fn serve_grpc<L, B>(router: tonic::transport::server::Router<L>) -> Channel
where
    L: tower::Layer<Routes> + Clone + Send + 'static,
    L::Service: Service<
            Request<tonic::body::Body>,
            Response = Response<B>,
            Error: Into<BoxError> + Send,
            Future: Send,
        > + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let uri = format!("http://{}", listener.local_addr().expect("bound"));
    let incoming = TcpIncoming::from(listener);
    tokio::spawn(router.serve_with_incoming(incoming));
    let endpoint = Endpoint::from_shared(uri).expect("a uri");
    endpoint.connect().await.expect("a connection")
}

pub async fn get<C: Connect + Clone + Send + Sync + 'static>(
    client: Client<C, Body>,
    uri: String,
) -> Response<Incoming> {
    let request = Request::get(uri).body(Body::empty()).expect("valid");
    client.request(request).await.expect("a response")
}

pub async fn post<C: Connect + Clone + Send + Sync + 'static>(
    client: Client<C, Body>,
    uri: String,
    body: Body,
) -> Response<Incoming> {
    let request = Request::post(uri).body(body).expect("valid");
    client.request(request).await.expect("a response")
}
