//! Law 17: an inner whose `poll_ready` fails is not called again.

mod support;

use std::error::Error;

use support::{
    EXECUTIONS, builder,
    gate::{Door, Failed, Gate},
    settle,
};
use tower::{Layer, Service};
use tower_load_leveling::error::ServiceError;

#[tokio::test]
async fn the_first_gets_the_error_and_the_others_its_text() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        for queued in [false, true] {
            let (gate, door) = (Gate::open(), Door::default());
            let layer = builder(10, 10).execution(execution).build().expect("valid");
            let mut service = layer.layer(gate.service_behind(&door));
            let mut other = layer.layer(gate.service());
            door.fail();
            if queued {
                layer.handle().pause();
            }
            let (first, second) = (service.call(0), service.call(1));
            let third = other.call(2);
            settle().await;
            layer.handle().resume();
            let error = first.await.expect_err("the inner is dead");
            assert_eq!(error.downcast_ref(), Some(&Failed(0)), "the error itself, unwrapped");
            for call in [second, service.call(3), service.clone().call(4)] {
                let error = call.await.expect_err("the inner is dead");
                let error = error.downcast_ref::<ServiceError>().expect("a `ServiceError`");
                assert_eq!(error.source().expect("the cause").to_string(), "gate failed 0");
            }
            third.await.expect("other inners go on");
            assert_eq!(gate.called(), [2]);
            assert_eq!(door.polls(), 1, "a dead inner is not polled again");
            assert_eq!(layer.handle().stats().failed, 4);
            layer.handle().idle().await;
        }
    }
}
