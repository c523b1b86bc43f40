//! A gRPC service and its client, as they would be generated from this file:
//!
//! ```proto
//! package greeter;
//! message HelloRequest { string name = 1; }
//! message HelloReply { string text = 1; }
//! service Greeter { rpc SayHello(HelloRequest) returns (HelloReply); }
//! ```
//!
//! By hand, so that nobody needs `protoc`.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Request, Response, uri::PathAndQuery};
use http_body::Body;
use tonic::{
    Status,
    server::{Grpc, NamedService},
    transport::Channel,
};
use tonic_prost::ProstCodec;
use tower::{BoxError, Service, service_fn};

const SAY_HELLO: &str = "/greeter.Greeter/SayHello";

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HelloRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HelloReply {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

/// What a server has to do.
pub(crate) trait Greeter: Send + Sync + 'static {
    fn say_hello(
        &self,
        request: HelloRequest,
    ) -> impl Future<Output = Result<HelloReply, Status>> + Send;
}

#[derive(Debug)]
pub(crate) struct GreeterServer<T>(Arc<T>);

impl<T> GreeterServer<T> {
    pub(crate) fn new(greeter: T) -> Self {
        Self(Arc::new(greeter))
    }
}

impl<T> Clone for GreeterServer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> NamedService for GreeterServer<T> {
    const NAME: &'static str = "greeter.Greeter";
}

impl<T, B> Service<Request<B>> for GreeterServer<T>
where
    T: Greeter,
    B: Body + Send + 'static,
    B::Error: Into<BoxError> + Send + 'static,
{
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let greeter = Arc::clone(&self.0);
        Box::pin(async move {
            if request.uri().path() != SAY_HELLO {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let method = service_fn(move |request: tonic::Request<HelloRequest>| {
                let greeter = Arc::clone(&greeter);
                async move {
                    let reply = greeter.say_hello(request.into_inner()).await?;
                    Ok(tonic::Response::new(reply))
                }
            });
            let codec = ProstCodec::<HelloReply, HelloRequest>::default();
            Ok(Grpc::new(codec).unary(method, request).await)
        })
    }
}

/// A client of it.
#[derive(Clone, Debug)]
pub(crate) struct GreeterClient(tonic::client::Grpc<Channel>);

impl GreeterClient {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(tonic::client::Grpc::new(channel))
    }

    pub(crate) async fn say_hello(
        &mut self,
        request: tonic::Request<HelloRequest>,
    ) -> Result<HelloReply, Status> {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(SAY_HELLO);
        let codec = ProstCodec::<HelloRequest, HelloReply>::default();
        Ok(self.0.unary(request, path, codec).await?.into_inner())
    }
}

pub(crate) fn hello(name: &str) -> tonic::Request<HelloRequest> {
    tonic::Request::new(HelloRequest { name: name.to_owned() })
}
