//! All contenders, each at an address of its own.

use std::{future::IntoFuture, net::SocketAddr};

use axum::Router;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};

use crate::{contenders::Contender, handlers::Handler};

pub struct Servers {
    addresses: Vec<(Handler, Contender, SocketAddr)>,
    /// Its two threads go on as long as it lives.
    _runtime: Runtime,
}

impl Servers {
    pub fn start() -> Self {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let all = Handler::ALL
            .into_iter()
            .flat_map(|handler| Contender::ALL.iter().map(move |contender| (handler, *contender)));
        let addresses = runtime.block_on(async {
            let mut addresses = Vec::new();
            for (handler, contender) in all {
                addresses.push((handler, contender, serve(contender.around(handler)).await));
            }
            addresses
        });
        Self { addresses, _runtime: runtime }
    }

    pub fn address(&self, wanted: Handler, of: Contender) -> SocketAddr {
        let mut all = self.addresses.iter();
        let found = all.find(|(handler, contender, _)| (*handler, *contender) == (wanted, of));
        found.expect("all are served").2
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}
