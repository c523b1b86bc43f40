use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_load_leveling::{Handle, stats::FlowId};
use tower_service::Service;

use crate::{
    body::Body, names::Names, respond::respond, sampling, shared::Shared, viewers::Viewers,
};

/// A live page of levelers, as a service for HTTP requests.
///
/// The [crate docs](crate) describe mounting and endpoints. Clones are of one dashboard: a leveler
/// added to a clone is on the page of all.
///
/// A dashboard keeps the levelers alive, as every [`Handle`] does.
#[derive(Clone)]
#[must_use = "a dashboard does nothing until it is mounted and called"]
pub struct Dashboard {
    shared: Arc<Shared>,
    viewers: Viewers,
}

impl Dashboard {
    /// Returns a dashboard that watches no leveler yet.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared::new()), viewers: Viewers::default() }
    }

    /// Adds a leveler to the page, under its [name](Handle::name). Of several with one name, the
    /// second is `name#2`.
    ///
    /// On a Tokio runtime, a task takes a sample a second from now on, and ends with the last
    /// clone. Elsewhere samples begin with the first request.
    pub fn watch(self, handle: Handle) -> Self {
        self.shared.add(handle);
        sampling::ensure(&self.shared);
        self
    }

    /// Sets a function that names the flows that ask most. Without a function, the page shows ids,
    /// which differ in each process and lead to no tenant.
    ///
    /// Flows are watched with
    /// [`Builder::watch_flows`](tower_load_leveling::Builder::watch_flows). Each document calls the
    /// function for up to ten flows of each leveler.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use tower_load_leveling::stats::FlowId;
    /// use tower_load_leveling_watch::Dashboard;
    ///
    /// let tenants = ["acme", "umbrella"].map(|tenant| (FlowId::of(tenant), tenant.to_owned()));
    /// let tenants = HashMap::from(tenants);
    /// let page = Dashboard::new().name_flows(move |id| tenants.get(&id).cloned());
    /// ```
    pub fn name_flows(
        self,
        names: impl Fn(FlowId) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.shared.set_names(Names::new(names));
        self
    }

    /// Ends the streams of all open pages, and lets no stream begin: pages poll from now on.
    ///
    /// For a graceful shutdown that does not close the levelers. If all levelers are closed,
    /// streams end by themselves. Otherwise a stream lives for ten seconds at most.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl Default for Dashboard {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let levelers = self.shared.levelers();
        let names: Vec<_> = levelers.iter().map(|leveler| &leveler.name).collect();
        f.debug_struct("Dashboard").field("levelers", &names).finish()
    }
}

impl<B> Service<Request<B>> for Dashboard {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        sampling::ensure(&self.shared);
        self.shared.look();
        ready(Ok(respond(&self.shared, &self.viewers, &request)))
    }
}
