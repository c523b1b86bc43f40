//! Three services behind levelers, their callers, and a backend that changes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_load_leveling::{
    Class, Handle, LoadLevelLayer, Order, Priority,
    error::BuildError,
    http::{ByStatus, RejectionLayer},
    settings::{AlgorithmName, Settings},
    stats::FlowId,
};
use tower_load_leveling_watch::Dashboard;

/// How long a cycle takes, and its turns.
const CYCLE: f64 = 120.0;
const FLOOD: std::ops::Range<f64> = 40.0..110.0;
const OUTAGE: std::ops::Range<f64> = 75.0..105.0;

/// The tenants that call. Half of all calls are of the seventh.
const TENANTS: u32 = 40;

/// The most by which callers are late, and still send what they wanted to send.
const ARREARS: Duration = Duration::from_millis(50);

/// The servers that the backend of orders loses in an outage.
const LOST: u32 = 10;

/// The levelers of a program, and what goes on around them.
pub(crate) struct Scene {
    orders: Endpoint,
    mail: Endpoint,
    search: Endpoint,
}

/// A service behind a leveler.
#[derive(Clone)]
struct Endpoint {
    router: Router,
    handle: Handle,
    servers: Arc<Semaphore>,
}

impl Scene {
    pub(crate) fn new() -> Result<Self, BuildError> {
        let named = |name: &str, capacity| {
            let mut settings = Settings::default();
            (settings.name, settings.capacity) = (name.to_owned(), capacity);
            settings
        };
        let mut orders = named("orders", 400);
        orders.concurrency = Some(AlgorithmName::Bdp.into());
        orders.max_wait = Some(Duration::from_millis(250));
        orders.order = Order::AdaptiveLifo;
        orders.watch_flows = 32;
        let mut mail = named("mail", 200);
        mail.concurrency = Some(4.into());
        let mut search = named("search", 50);
        search.concurrency = Some(32.into());
        Ok(Self {
            orders: Endpoint::new(orders, 16, 0.020)?,
            mail: Endpoint::new(mail, 4, 0.040)?,
            search: Endpoint::new(search, 32, 0.005)?,
        })
    }

    pub(crate) fn handles(&self) -> [Handle; 3] {
        [&self.orders, &self.mail, &self.search].map(|endpoint| endpoint.handle.clone())
    }

    pub(crate) fn dashboard(&self) -> Dashboard {
        let names: HashMap<_, _> =
            (0..TENANTS).map(|tenant| (FlowId::of(tenant), format!("tenant {tenant}"))).collect();
        let page = Dashboard::new().name_flows(move |id| names.get(&id).cloned());
        self.handles().into_iter().fold(page, Dashboard::watch)
    }

    /// Returns the tasks that go on for as long as they are polled.
    pub(crate) async fn play(self) {
        let Self { orders, mail, search } = self;
        let start = Instant::now();
        let now = move || start.elapsed().as_secs_f64() % CYCLE;
        let is_flooded = move || FLOOD.contains(&now());
        let is_broken = move || OUTAGE.contains(&now());
        tokio::join!(
            orders.clone().ask(move || if is_flooded() { 1600.0 } else { 350.0 }),
            orders.lose_servers(is_broken),
            mail.burst(),
            search.ask(|| 80.0),
        );
    }
}

impl Endpoint {
    /// A backend with as many servers, each of which takes `mean` seconds for a call.
    fn new(settings: Settings, servers: usize, mean: f64) -> Result<Self, BuildError> {
        let layer = LoadLevelLayer::builder()
            .settings(settings)
            .request_classifier(class)
            .response_classifier(ByStatus::new())
            .build()?;
        let handle = layer.handle();
        let servers = Arc::new(Semaphore::new(servers));
        let backend = servers.clone();
        let serve = service_fn(move |_: Request<Body>| serve(backend.clone(), mean));
        let stack = ServiceBuilder::new().layer(RejectionLayer::new()).layer(layer).service(serve);
        Ok(Self { router: Router::new().fallback_service(stack), handle, servers })
    }

    /// Sends requests at random instants, `rate` a second on average.
    async fn ask(self, rate: impl Fn() -> f64) {
        let mut next = Instant::now();
        loop {
            next += Duration::from_secs_f64(exponential(1.0 / rate()));
            sleep_until(next).await;
            // Callers do not make up for a time in which this machine did something else.
            next = next.max(Instant::now() - ARREARS);
            self.send();
        }
    }

    /// Sends sixty requests at once, every two seconds.
    async fn burst(self) {
        loop {
            (0..60).for_each(|_| self.send());
            sleep(Duration::from_secs(2)).await;
        }
    }

    fn send(&self) {
        let answer = self.router.clone().oneshot(request());
        tokio::spawn(async move { drop(answer.await) });
    }

    async fn lose_servers(self, is_broken: impl Fn() -> bool) {
        let mut lost = None;
        loop {
            sleep(Duration::from_millis(100)).await;
            match is_broken() {
                true if lost.is_none() => {
                    lost = self.servers.clone().acquire_many_owned(LOST).await.ok();
                }
                true => {}
                false => lost = None,
            }
        }
    }
}

/// Most requests come from one tenant, and some matter more than others.
fn request() -> Request<Body> {
    let tenant = match random() {
        p if p < 0.5 => 7,
        _ => (random() * f64::from(TENANTS)) as u32,
    };
    let priority = match random() {
        p if p < 0.1 => Priority::High,
        p if p < 0.8 => Priority::Normal,
        _ => Priority::Background,
    };
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(Class::new().priority(priority).flow(tenant));
    request
}

fn class(request: &Request<Body>) -> Class {
    request.extensions().get().cloned().unwrap_or_default()
}

async fn serve(servers: Arc<Semaphore>, mean: f64) -> Result<axum::response::Response, BoxError> {
    let _server = servers.acquire().await?;
    sleep(Duration::from_secs_f64(exponential(mean))).await;
    let mut response = axum::response::Response::new(Body::from("done"));
    if random() < 0.01 {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}

/// Returns a random number with this mean, as the times between calls have that know nothing of
/// each other.
fn exponential(mean: f64) -> f64 {
    -mean * (1.0 - random()).ln()
}

/// Returns a random number from 0 to below 1.
fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(()) >> 11) as f64 / (1_u64 << 53) as f64
}
