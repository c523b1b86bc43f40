//! Pins which types are `Send`, `Sync`, `Unpin` and `Clone`, whatever the inner service is.

use std::{cell::Cell, future::Pending};

use tokio_test::task;
use tower_load_leveling::{
    Builder, Class, DrainReport, Handle, LoadLevel, LoadLevelLayer,
    error::{BuildError, Refused, Rejected, ServiceError},
    future::ResponseFuture,
    limit::{Aimd, Fixed, Gradient, LatencyTarget, Sample, Vegas},
    stats::{Histogram, Stats},
};

fn shared<T: Clone + Send + Sync + Unpin>() {}
fn sent<T: Send>() {}
fn error<T: std::error::Error + Send + Sync + 'static>() {}

#[test]
fn public_types_can_be_shared() {
    shared::<LoadLevelLayer>();
    shared::<Handle>();
    shared::<Stats>();
    shared::<Histogram>();
    shared::<DrainReport>();
    shared::<Class>();
    shared::<Sample>();
    shared::<Fixed>();
    shared::<LatencyTarget>();
    shared::<Aimd>();
    shared::<Gradient>();
    shared::<Vegas>();
    sent::<Builder>();
    error::<Rejected>();
    error::<ServiceError>();
    error::<BuildError>();
    error::<Refused<u32>>();
}

#[test]
fn a_service_is_clone_send_and_sync_even_if_its_inner_is_only_send() {
    // `Cell` is `Send`, and neither `Clone` as a whole nor `Sync`.
    struct OnlySend(#[allow(dead_code)] Cell<u8>);
    shared::<LoadLevel<OnlySend, (), ()>>();
}

#[test]
fn the_future_of_a_call_is_send() {
    type Inner = Pending<Result<(), std::io::Error>>;
    sent::<ResponseFuture<Inner>>();
    fn spawnable<F: Future + Send>(_: Option<task::Spawn<F>>) {}
    spawnable::<ResponseFuture<Inner>>(None);
}
