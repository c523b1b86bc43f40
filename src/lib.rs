//! Queue-based load leveling for Tower.

mod builder;
mod class;
mod core;
pub mod error;
pub mod future;
mod handle;
mod layer;
pub mod limit;
mod queue;
mod service;
mod stats;

pub use self::{
    builder::{Abandon, Builder, Execution, Order, Overflow},
    class::{ByResult, Class, ClassifyRequest, ClassifyResponse, Unclassified},
    handle::{DrainReport, Handle},
    layer::LoadLevelLayer,
    service::LoadLevel,
    stats::{Histogram, Reasons, Stats},
};
