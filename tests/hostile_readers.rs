//! Laws 10 and 19, for readers of bodies: with wakers that use the leveler or panic, and with
//! bodies that use the leveler, or panic when dropped.
#![cfg(feature = "http")]

mod support;

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use support::{
    EXECUTIONS, builder,
    gate::Gate,
    hostile::{World, poll_with},
    reason, settle,
    watchdog::ends,
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::{
    Handle, LoadLevelLayer, Overflow,
    error::Reason,
    http::{Hold, ReadAheadLayer, RejectionLayer},
};

/// A body that is told what to yield, and keeps the waker of its reader.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Orders>>);

/// The frames to come, and the reader that waits for one.
type Orders = (VecDeque<Option<Frame<Bytes>>>, Option<Waker>);

impl Told {
    fn tell(&self, frame: Option<Frame<Bytes>>) {
        let waker = {
            let mut told = self.0.lock().expect("no panic");
            told.0.push_back(frame);
            told.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Body for Told {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut told = self.0.lock().expect("no panic");
        match told.0.pop_front() {
            Some(frame) => Poll::Ready(frame.map(Ok)),
            None => {
                told.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[test]
fn the_reader_of_a_held_body_may_have_any_waker() {
    for has_trailers in [false, true] {
        ends(move || async move {
            let told = Told::default();
            let builder = builder(0, 1).overflow(Overflow::Wait);
            let builder = builder.hold_until(Hold::BodyEnd).body_idle(Duration::from_secs(9));
            let layer = builder.build().expect("valid");
            let inner = {
                let told = told.clone();
                service_fn(move |_: u32| {
                    let response = Response::new(told.clone());
                    async move { Ok::<_, std::convert::Infallible>(response) }
                })
            };
            let handle = layer.handle();
            let world = Arc::new(World {
                service: LoadLevelLayer::new(0, 1).layer(Gate::new().service()),
                handle: handle.clone(),
                acts: AtomicUsize::new(0),
            });
            let mut service = layer.layer(inner);
            let mut body = service.call(1).await.expect("it was admitted").into_body();
            // Waits for the place that the body keeps.
            let mut waiting = service.clone();
            poll_with(&world, 2, |cx| waiting.poll_ready(cx));
            poll_with(&world, 3, |cx| Pin::new(&mut body).poll_frame(cx));
            told.tell(Some(Frame::data(Bytes::from_static(b"data"))));
            poll_with(&world, 3, |cx| Pin::new(&mut body).poll_frame(cx));
            if has_trailers {
                told.tell(Some(Frame::trailers(HeaderMap::new())));
                poll_with(&world, 1, |cx| Pin::new(&mut body).poll_frame(cx));
            }
            told.tell(None);
            poll_with(&world, 1, |cx| Pin::new(&mut body).poll_frame(cx));
            drop((waiting, body));
            settle().await;
            assert_eq!(handle.stats().succeeded, 1);
            world.ends_at_rest().await;
        });
    }
}

#[test]
fn a_held_body_may_be_cut_off_under_a_reader_with_any_waker() {
    ends(|| async {
        let told = Told::default();
        let builder = builder(0, 1).overflow(Overflow::Wait);
        let builder = builder.hold_until(Hold::BodyEnd).body_idle(Duration::from_secs(9));
        let layer = builder.build().expect("valid");
        let inner = {
            let told = told.clone();
            service_fn(move |_: u32| {
                let response = Response::new(told.clone());
                async move { Ok::<_, std::convert::Infallible>(response) }
            })
        };
        let world = Arc::new(World {
            service: LoadLevelLayer::new(0, 1).layer(Gate::new().service()),
            handle: layer.handle(),
            acts: AtomicUsize::new(0),
        });
        let mut service = layer.layer(inner);
        let mut body = service.call(1).await.expect("it was admitted").into_body();
        let mut waiting = service.clone();
        poll_with(&world, 2, |cx| waiting.poll_ready(cx));
        poll_with(&world, 2, |cx| Pin::new(&mut body).poll_frame(cx));
        told.tell(Some(Frame::data(Bytes::from_static(b"data"))));
        // Nobody reads on.
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop((waiting, body));
        world.ends_at_rest().await;
    });
}

/// A waker that panics when woken.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker panics");
    }
}

/// Polls once, with a waker that panics.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    let waker = Waker::from(Arc::new(Panics));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

#[test]
fn the_source_of_a_body_does_not_see_the_panic_of_the_reader() {
    ends(|| async {
        let told = Told::default();
        let builder = builder(0, 1).hold_until(Hold::BodyEnd).body_idle(Duration::from_secs(9));
        let layer = builder.build().expect("valid");
        let inner = {
            let told = told.clone();
            service_fn(move |_: u32| {
                let response = Response::new(told.clone());
                async move { Ok::<_, Infallible>(response) }
            })
        };
        let mut body = layer.layer(inner).oneshot(1).await.expect("it was admitted").into_body();
        assert!(poll_once(&mut body.frame()).is_pending());
        told.tell(Some(Frame::data(Bytes::from_static(b"data"))));
        assert!(body.frame().await.expect("not the end").expect("no error").is_data());
        told.tell(None);
        assert!(body.frame().await.is_none());
        assert_eq!(layer.handle().stats().succeeded, 1);
    });
}

/// A body that yields nothing, and panics when dropped.
struct Bomb;

impl Body for Bomb {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the drop of a body panics");
    }
}

#[test]
fn the_reader_of_a_body_that_panics_when_dropped_is_told_of_the_drop() {
    ends(|| async {
        let builder = builder(0, 1).hold_until(Hold::BodyEnd).body_time(Duration::from_secs(9));
        let layer = builder.build().expect("valid");
        let inner = service_fn(async |_: u32| Ok::<_, Infallible>(Response::new(Bomb)));
        let mut body = layer.layer(inner).oneshot(1).await.expect("it was admitted").into_body();
        let read = tokio::spawn(async move { body.frame().await.map(|frame| frame.map(drop)) });
        read.await.expect("no panic").expect("not the end").expect_err("it took too long");
        let stats = layer.handle().stats();
        assert_eq!((stats.in_flight, layer.handle().room()), (0, 1), "{stats:?}");
    });
}

/// A body that uses a leveler.
struct Uses(Handle);

impl Body for Uses {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = Frame::data(Bytes::from(self.0.stats().to_string()));
        self.0.abort_queued();
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.stats().queued > 0
    }
}

#[test]
fn the_body_of_a_rejection_may_use_the_leveler() {
    ends(|| async {
        let leveler = LoadLevelLayer::new(0, 1);
        let handle = leveler.handle();
        let on_error = move |_: BoxError| Response::new(Uses(handle.clone()));
        let fails = service_fn(async |_: Request<()>| {
            Err::<Response<http_body_util::Full<Bytes>>, _>(BoxError::from("no"))
        });
        let service = RejectionLayer::new().on_error(on_error).layer(fails);
        let Ok(response) = service.oneshot(Request::new(())).await;
        let mut body = response.into_body();
        assert!(!body.is_end_stream() && body.size_hint().exact().is_none());
        body.frame().await.expect("not the end").expect("no error");
    });
}

#[test]
fn a_body_may_remove_its_own_request_while_read_ahead() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let leveler = builder(2, 1).execution(execution).build().expect("valid");
            let handle = leveler.handle();
            let mut running = leveler.layer(gate.service());
            let first = tokio::spawn(running.call(1));
            settle().await;
            let never_called = service_fn(async |_| Ok::<Response<Told>, BoxError>(unreachable()));
            let ahead = ReadAheadLayer::new(1024, 1024);
            let service = ahead.layer(leveler.layer(never_called));
            let call = service.oneshot(Request::new(Uses(handle.clone())));
            assert_eq!(reason(call.await.map(drop)), Reason::Closed);
            assert_eq!(ahead.handle().held(), 0);
            gate.finish_all();
            first.await.expect("no panic").expect("it ran");
            assert_eq!(handle.room(), 3);
        });
    }
}

fn unreachable<T>() -> T {
    unreachable!("the request was removed")
}

#[test]
fn a_request_without_a_share_hurts_nobody_with_a_waker_that_panics() {
    ends(|| async {
        let layer = ReadAheadLayer::new(1024, 1024);
        let inner =
            service_fn(async |_| std::future::pending::<Result<Response<Told>, BoxError>>().await);
        let service = layer.layer(inner);
        let bodies = [(); 3].map(|()| Told::default());
        let call =
            |nth: usize| Box::pin(service.clone().oneshot(Request::new(bodies[nth].clone())));
        let [mut holds, mut panics, mut starves] = [call(0), call(1), call(2)];
        bodies[0].tell(Some(Frame::data(Bytes::from(vec![0; 1024]))));
        bodies[1..].iter().for_each(|body| body.tell(Some(Frame::data(Bytes::from_static(b"x")))));
        assert!(holds.as_mut().now_or_never().is_none());
        assert!(poll_once(&mut panics).is_pending());
        let (mut starves, handle) = (tokio_test::task::spawn(&mut starves), layer.handle());
        assert!(starves.poll().is_pending());
        assert_eq!(handle.starving(), 2);
        drop(holds);
        assert!(starves.is_woken(), "the first of the list will not come");
        assert!(starves.poll().is_pending());
        assert_eq!((handle.starving(), handle.held()), (0, 512), "a frame, and one more");
        drop((starves, panics));
    });
}

#[test]
fn a_waker_that_panics_when_a_body_comes_too_slowly_ends_no_runtime() {
    ends(|| async {
        let layer = ReadAheadLayer::new(1024, 1024).body_first(Duration::from_secs(1));
        let inner = service_fn(async |_| Ok::<Response<Told>, BoxError>(unreachable()));
        let mut call = Box::pin(layer.layer(inner).oneshot(Request::new(Told::default())));
        assert!(poll_once(&mut call).is_pending());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(call.await.expect("answered").status(), StatusCode::REQUEST_TIMEOUT);
    });
}
