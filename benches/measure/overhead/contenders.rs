//! What is measured, each set up as a user would.

use std::time::Duration;

use little_loadshedder::LoadShedLayer;
use tokio::runtime::Runtime;
use tower::{BoxError, Layer, Service, ServiceBuilder};
use tower_acc::{ConcurrencyLimitLayer, Vegas};
use tower_load_leveling::{Execution, LoadLevelLayer};
use tower_resilience_bulkhead::BulkheadLayer;

use crate::{
    drive::{Took, Tower, Unconstrained, drive},
    floor,
    load::{CAPACITY, Load},
    work::{Work, come_back, inner, ready, spin},
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Contender {
    /// One bounded channel to a task that answers by a oneshot.
    BoundedFloor,
    /// The same with an unbounded channel and `recv_many`.
    UnboundedFloor,
    Bare,
    Limit,
    Buffer,
    BufferAndLimit,
    ShedBufferAndLimit,
    /// Finds its limit, from 1: there is no way to say 64. It sheds what would take longer than the
    /// target, which is a second here, after its warm-up never.
    LittleLoadshedder,
    /// As it is by default: who does not get a slot waits in `call`.
    Bulkhead,
    /// By Vegas, as in its first example, from 64. It has no floor to set; whoever gets no slot
    /// waits in `poll_ready`, so that nothing is ever refused.
    Acc,
    Spawn,
    Caller,
    /// `Spawn` with `adaptive_concurrency()`, by its defaults; the capacity is above the number of
    /// callers.
    Adaptive,
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BoundedFloor => "floor",
            Self::UnboundedFloor => "floor, recv_many",
            Self::Bare => "bare inner",
            Self::Limit => "ConcurrencyLimit",
            Self::Buffer => "Buffer",
            Self::BufferAndLimit => "Buffer + CL",
            Self::ShedBufferAndLimit => "LoadShed + Buffer + CL",
            Self::LittleLoadshedder => "little-loadshedder",
            Self::Bulkhead => "tower-resilience-bulkhead",
            Self::Acc => "tower-acc",
            Self::Spawn => "Spawn",
            Self::Caller => "Caller",
            Self::Adaptive => "Spawn, adaptive limit",
        }
    }

    fn is_floor(self) -> bool {
        matches!(self, Self::BoundedFloor | Self::UnboundedFloor)
    }

    /// Whether the load means something to it: the floors have no inner.
    pub(crate) fn can_do(self, work: Work) -> bool {
        !self.is_floor() || work == Work::Ready
    }

    pub(crate) fn run(self, runtime: &Runtime, load: Load) -> Took {
        let watched = load.watched;
        runtime.block_on(async {
            match (self, load.work) {
                (Self::BoundedFloor, _) => drive(floor::Bounded::spawn(), load).await,
                (Self::UnboundedFloor, _) => drive(floor::Unbounded::spawn(), load).await,
                (_, Work::Ready) => self.put_before(inner(watched, ready), load).await,
                (_, Work::Yield) => self.put_before(inner(watched, come_back), load).await,
                (_, Work::Cpu) => self.put_before(inner(watched, spin), load).await,
            }
        })
    }

    async fn put_before<S>(self, inner: S, load: Load) -> Took
    where
        S: Service<(), Response = (), Error = BoxError> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let Load { limit, watched, .. } = load;
        let stack = ServiceBuilder::new();
        match self {
            Self::BoundedFloor | Self::UnboundedFloor => unreachable!("they have no inner"),
            Self::Bare => drive(Tower::new(inner, watched), load).await,
            Self::Limit => {
                let service = stack.concurrency_limit(limit).service(inner);
                drive(Tower::new(service, watched), load).await
            }
            Self::Buffer => {
                let service = stack.buffer(CAPACITY).service(inner);
                drive(Tower::new(service, watched), load).await
            }
            Self::BufferAndLimit => {
                let service = stack.buffer(CAPACITY).concurrency_limit(limit).service(inner);
                drive(Tower::new(service, watched), load).await
            }
            Self::ShedBufferAndLimit => {
                let stack = stack.load_shed().buffer(CAPACITY).concurrency_limit(limit);
                let client = Tower::new(stack.service(inner), watched);
                drive(Unconstrained(client), load).await
            }
            Self::LittleLoadshedder => {
                let layer = LoadShedLayer::new(0.25, Duration::from_secs(1));
                drive(Tower::new(layer.layer(inner), watched), load).await
            }
            Self::Bulkhead => {
                let layer = BulkheadLayer::builder().max_concurrent_calls(limit).build();
                let service = layer.expect("valid").layer(inner);
                drive(Tower::new(service, watched), load).await
            }
            Self::Acc => {
                let vegas = Vegas::builder().initial_limit(limit).build();
                let service = ConcurrencyLimitLayer::new(vegas).layer(inner);
                drive(Tower::new(service, watched), load).await
            }
            Self::Spawn => {
                let service = leveler(limit, Execution::Spawn).layer(inner);
                drive(Tower::new(service, watched), load).await
            }
            Self::Caller => {
                let service = leveler(limit, Execution::Caller).layer(inner);
                drive(Tower::new(service, watched), load).await
            }
            Self::Adaptive => {
                let layer = LoadLevelLayer::builder().capacity(CAPACITY).adaptive_concurrency();
                let service = layer.build().expect("valid").layer(inner);
                drive(Tower::new(service, watched), load).await
            }
        }
    }
}

pub(crate) fn leveler(limit: usize, execution: Execution) -> LoadLevelLayer {
    LoadLevelLayer::builder()
        .capacity(CAPACITY)
        .concurrency(limit)
        .execution(execution)
        .build()
        .expect("valid")
}
