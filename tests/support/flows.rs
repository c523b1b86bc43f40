//! Requests that are numbers, and tell their flow by it.

use std::time::Duration;

use tower_load_leveling::{Builder, ByResult, Class, LoadLevelLayer, Priority};

/// The hundreds of a request are its flow; those below 100 have none. The thousands are its
/// priority, from `Critical` on, and the ten thousands its cost beyond 1.
pub fn classify(id: &u32) -> Class {
    let class = match id / 100 % 10 {
        0 => Class::new(),
        flow => Class::new().flow(flow),
    };
    let class = class.cost(1 + id / 10_000);
    match id / 1000 % 10 {
        0 => class,
        nth => class.priority(Priority::ALL[nth as usize - 1]),
    }
}

pub type Leveler = LoadLevelLayer<fn(&u32) -> Class, ByResult>;

pub fn layer(builder: Builder) -> Leveler {
    builder.request_classifier(classify as fn(&u32) -> Class).build().expect("valid")
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
