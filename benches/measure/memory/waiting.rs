//! What a request takes that waits.

use std::time::Duration;

use tower::{Layer, Service, ServiceExt};
use tower_load_leveling::{
    Class, ClassifyRequest,
    Execution::{self, Caller, Spawn},
    LoadLevelLayer,
};

use crate::{
    heap::{kept_by_each, row},
    setup::{CAPACITY, buffer, never, runtime},
};

/// At most so many bytes beyond the request itself.
const BAR: f64 = 400.0;

/// Flows that take turns.
const FLOWS: u64 = 64;

pub(crate) fn print(many: usize) {
    println!(
        "a request that waits, beyond itself (at most {BAR}; its future is its caller's, see below)"
    );
    waiting_of::<u64>("u64", many);
    waiting_of::<[u64; 128]>("1 KiB", many);
}

/// What else a leveler has been told.
#[derive(Clone, Copy, PartialEq)]
enum Also {
    Nothing,
    MaxWait,
    Flow,
    Both,
}

impl Also {
    const ALL: [(Self, &str); 4] = [
        (Self::Nothing, ""),
        (Self::MaxWait, ", max_wait"),
        (Self::Flow, ", flow"),
        (Self::Both, ", max_wait and flow"),
    ];

    fn has(self, part: Self) -> bool {
        self == part || self == Self::Both
    }
}

fn waiting_of<Req: Numbered>(size: &str, many: usize) {
    let buffered = buffered::<Req>(many);
    for execution in [Spawn, Caller] {
        for (also, name) in Also::ALL {
            let bytes = ours_with::<Req>(execution, also, many);
            let theirs = (also == Also::Nothing).then_some(buffered);
            let verdict = if bytes <= BAR { "met" } else { "missed" };
            row(&format!("{size}, {execution:?}{name}"), bytes, theirs, verdict);
        }
    }
}

fn ours_with<Req: Numbered>(execution: Execution, also: Also, many: usize) -> f64 {
    let builder = LoadLevelLayer::builder().capacity(CAPACITY).concurrency(1).execution(execution);
    let builder = if also.has(Also::MaxWait) { builder.max_wait(HOUR) } else { builder };
    let classify = |request: &Req| Class::new().flow(request.number() % FLOWS);
    if also.has(Also::Flow) {
        ours(builder.classify_request(classify).build().expect("valid"), many)
    } else {
        ours::<Req, _>(builder.build().expect("valid"), many)
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn ours<Req, Q>(layer: LoadLevelLayer<Q>, many: usize) -> f64
where
    Req: Numbered,
    Q: ClassifyRequest<Req>,
{
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut service = layer.layer(never::<Req>());
    // One runs, and so all others wait.
    let running = service.call(Req::numbered(0));
    let mut calls = Vec::with_capacity(many);
    let bytes = kept_by_each(many, || {
        runtime.block_on(async {
            for number in 0..many {
                calls.push(service.call(Req::numbered(number as u64)));
            }
            // The drain task takes them in, and grows the line.
            tokio::task::yield_now().await;
        });
    });
    assert_eq!(layer.handle().stats().queued, many);
    drop((calls, running));
    bytes - size_of::<Req>() as f64
}

fn buffered<Req: Numbered>(many: usize) -> f64 {
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut service = buffer(never::<Req>(), CAPACITY, 1);
    let mut calls = Vec::with_capacity(many);
    let bytes = kept_by_each(many, || {
        runtime.block_on(async {
            for number in 0..many {
                let ready = service.ready().await.expect("ready");
                calls.push(ready.call(Req::numbered(number as u64)));
            }
        });
    });
    drop(calls);
    bytes - size_of::<Req>() as f64
}

/// A request that says which one it is, and is as large as its type.
trait Numbered: Send + 'static {
    fn numbered(number: u64) -> Self;
    fn number(&self) -> u64;
}

impl Numbered for u64 {
    fn numbered(number: u64) -> Self {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

impl Numbered for [u64; 128] {
    fn numbered(number: u64) -> Self {
        [number; 128]
    }

    fn number(&self) -> u64 {
        self[0]
    }
}
