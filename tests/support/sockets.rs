//! Servers and clients over real sockets.

use std::{future::IntoFuture, time::Duration};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;

pub type Http = Client<HttpConnector, Body>;

pub fn client() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Sends all requests over one connection.
pub fn client_h2() -> Http {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

pub async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(axum::serve(listener, router).into_future());
    base
}

/// Serves, and returns a channel with one connection.
pub async fn serve_grpc<L>(router: tonic::transport::server::Router<L>) -> tonic::transport::Channel
where
    L: tower::Layer<tonic::service::Routes> + Clone + Send + 'static,
    L::Service: tower::Service<
            Request<tonic::body::Body>,
            Response = Response<tonic::body::Body>,
            Error: Into<tower::BoxError> + Send,
            Future: Send,
        > + Clone
        + Send
        + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let uri = format!("http://{}", listener.local_addr().expect("bound"));
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(router.serve_with_incoming(incoming));
    let endpoint = tonic::transport::Endpoint::from_shared(uri).expect("a uri");
    endpoint.connect().await.expect("a connection")
}

pub async fn get(client: Http, uri: String) -> Response<Incoming> {
    let request = Request::get(uri).body(Body::empty()).expect("valid");
    client.request(request).await.expect("a response")
}

pub async fn post(client: Http, uri: String, body: Body) -> Response<Incoming> {
    let request = Request::post(uri).body(body).expect("valid");
    client.request(request).await.expect("a response")
}

/// Looks, real time passing, until it is so.
#[track_caller]
pub fn until(what: &'static str, reached: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let looks = async {
            while !reached() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), looks).await;
        assert!(waited.is_ok(), "{what}, at {caller}");
    }
}
