//! Servers and clients in one process, with no kernel between them.
//!
//! On a paused clock time passes only when no server and no client has anything left to do. Real
//! sockets do not give that: the runtime cannot see the bytes that the kernel still holds.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{IntoFuture, Ready, pending, ready},
    io,
    pin::Pin,
    sync::{Mutex, OnceLock},
    task::{Context, Poll},
};

use axum::{Router, body::Body};
use futures::{Stream, StreamExt, stream};
use http::{Request, Response, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint},
};
use tower::{BoxError, Service};

pub type Http = Client<Connector, Body>;

/// How many bytes a connection holds in each direction.
const BUFFER: usize = 64 << 10;

type Servers = HashMap<String, mpsc::UnboundedSender<DuplexStream>>;

/// The servers of this process, by the authority of their URIs.
fn servers() -> &'static Mutex<Servers> {
    static SERVERS: OnceLock<Mutex<Servers>> = OnceLock::new();
    SERVERS.get_or_init(Mutex::default)
}

/// The connections to one server.
pub struct Listener(mpsc::UnboundedReceiver<DuplexStream>);

/// Returns a listener, and the URI of its server without a path.
pub fn listen() -> (Listener, String) {
    let (connect, accept) = mpsc::unbounded_channel();
    let mut servers = servers().lock().expect("no panic under this lock");
    let authority = format!("server-{}", servers.len());
    let base = format!("http://{authority}");
    servers.insert(authority, connect);
    (Listener(accept), base)
}

/// Connects to the server with this URI.
pub fn connect(uri: &Uri) -> DuplexStream {
    let (client, server) = duplex(BUFFER);
    let servers = servers().lock().expect("no panic under this lock");
    let authority = uri.authority().expect("of `listen`").as_str();
    drop(servers[authority].send(server));
    client
}

impl Listener {
    /// Returns the connections as tonic takes them.
    pub fn incoming(self) -> impl Stream<Item = Result<DuplexStream, Infallible>> {
        stream::unfold(self.0, async |mut accept| Some((accept.recv().await?, accept))).map(Ok)
    }
}

impl axum::serve::Listener for Listener {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(connection) => (connection, ()),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The client's end of a connection.
pub struct Wire(TokioIo<DuplexStream>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Makes connections for clients.
#[derive(Clone)]
pub struct Connector;

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = Infallible;
    type Future = Ready<Result<Wire, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        ready(Ok(Wire(TokioIo::new(connect(&uri)))))
    }
}

pub fn client() -> Http {
    Client::builder(TokioExecutor::new()).build(Connector)
}

/// Sends all requests over one connection.
pub fn client_h2() -> Http {
    Client::builder(TokioExecutor::new()).http2_only(true).build(Connector)
}

pub fn serve(router: Router) -> String {
    let (listener, base) = listen();
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
    let (listener, base) = listen();
    tokio::spawn(router.serve_with_incoming(listener.incoming()));
    let endpoint = Endpoint::from_shared(base).expect("a uri");
    endpoint.connect_with_connector(Connector).await.expect("a connection")
}
