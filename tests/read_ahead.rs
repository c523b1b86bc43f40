//! Bodies of waiting requests, read ahead: up to a budget, and handed on as they came.
#![cfg(feature = "http")]

mod support;

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::pending,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use support::{builder, settle};
use tokio::sync::oneshot;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::http::{OrEmpty, ReadAheadBody, ReadAheadLayer};

const KIB: usize = 1024;

/// What a body will say next, for a test to add to.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    next: VecDeque<Option<Result<Frame<Bytes>, BoxError>>>,
    waker: Option<std::task::Waker>,
    polls: usize,
    dropped: bool,
}

impl Script {
    fn add(&self, line: Option<Result<Frame<Bytes>, BoxError>>) {
        let waker = {
            let mut lines = self.0.lock().expect("no panic");
            lines.next.push_back(line);
            lines.waker.take()
        };
        waker.into_iter().for_each(std::task::Waker::wake);
    }

    fn data(&self, size: usize) {
        self.add(Some(Ok(Frame::data(Bytes::from(vec![b'x'; size])))));
    }

    fn end(&self) {
        self.add(None);
    }

    fn fail(&self, error: impl Into<BoxError>) {
        self.add(Some(Err(error.into())));
    }

    fn unread(&self) -> usize {
        self.0.lock().expect("no panic").next.len()
    }

    fn polls(&self) -> usize {
        self.0.lock().expect("no panic").polls
    }

    fn is_dropped(&self) -> bool {
        self.0.lock().expect("no panic").dropped
    }

    fn body(&self) -> Scripted {
        Scripted(self.clone())
    }

    fn request(&self) -> Request<Scripted> {
        Request::new(self.body())
    }
}

struct Scripted(Script);

impl Body for Scripted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut lines = self.0.0.lock().expect("no panic");
        lines.polls += 1;
        match lines.next.pop_front() {
            Some(line) => Poll::Ready(line),
            None => {
                lines.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let lines = self.0.0.lock().expect("no panic");
        let data = lines.next.iter().flatten().flatten().filter_map(Frame::data_ref);
        SizeHint::with_exact(data.map(|data| data.len() as u64).sum())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.0.0.lock().expect("no panic").dropped = true;
    }
}

type Reply = Response<Full<Bytes>>;
type Behind = Request<ReadAheadBody<Scripted>>;

type Call = (Behind, oneshot::Sender<()>);

/// Hands the requests out, to be answered later.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<Vec<Call>>>);

impl Held {
    fn service(
        &self,
    ) -> impl Service<Behind, Response = Reply, Error = BoxError, Future: Send> + Clone + use<>
    {
        let held = self.clone();
        service_fn(move |request| {
            let (answer, answered) = oneshot::channel();
            held.0.lock().expect("no panic").push((request, answer));
            async move {
                answered.await?;
                Ok(Response::new(Full::default()))
            }
        })
    }

    fn take(&self) -> Call {
        self.0.lock().expect("no panic").remove(0)
    }
}

fn frame(body: &mut ReadAheadBody<Scripted>) -> Option<Result<Frame<Bytes>, BoxError>> {
    body.frame().now_or_never().expect("it was read ahead")
}

#[tokio::test]
async fn frames_trailers_and_size_are_handed_on_as_they_came() {
    let (script, held) = (Script::default(), Held::default());
    let layer = ReadAheadLayer::new(64 * KIB, 64 * KIB);
    let handle = layer.handle();
    script.data(3);
    script.data(5000);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    script.add(Some(Ok(Frame::trailers(trailers.clone()))));
    script.end();
    let mut call = task::spawn(layer.layer(held.service()).oneshot(script.request()));
    assert_pending!(call.poll());
    assert_eq!(script.unread(), 0, "all was read ahead");
    assert!(handle.held() > 5003, "{}", handle.held());

    let (request, answer) = held.take();
    let mut body = request.into_body();
    assert_eq!(body.size_hint().exact(), Some(5003));
    assert!(!body.is_end_stream());
    let sizes: Vec<_> = [frame(&mut body), frame(&mut body)]
        .map(|frame| frame.expect("data").expect("no error").into_data().expect("data").len())
        .into();
    assert_eq!(sizes, [3, 5000], "not merged, not split");
    assert_eq!(body.size_hint().exact(), Some(0));
    let last = frame(&mut body).expect("trailers").expect("no error");
    assert_eq!(last.into_trailers().expect("trailers"), trailers);
    assert_eq!(handle.held(), 0, "released as it was read");
    assert!(frame(&mut body).is_none() && body.is_end_stream());
    answer.send(()).expect("it waits");
    assert!(call.is_woken());
    let answer = assert_ready!(call.poll()).expect("answered");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn it_reads_up_to_the_budget_and_the_reader_gets_the_rest() {
    let (script, held) = (Script::default(), Held::default());
    let layer = ReadAheadLayer::new(10 * KIB, 64 * KIB);
    let handle = layer.handle();
    (0..8).for_each(|_| script.data(4 * KIB));
    script.end();
    let mut call = task::spawn(layer.layer(held.service()).oneshot(script.request()));
    assert_pending!(call.poll());
    assert_eq!(script.unread(), 6, "three frames reach the budget");
    assert_eq!(handle.held(), 16 * KIB, "and hyper may have read another");
    assert_pending!(call.poll());
    assert_eq!(script.unread(), 6);
    let body = held.take().0.into_body();
    assert_eq!(body.size_hint().exact(), Some(32 * KIB as u64));
    assert_eq!(body.collect().await.expect("a body").to_bytes().len(), 32 * KIB);
    assert_eq!(handle.held(), 0);
}

#[tokio::test]
async fn a_body_that_says_that_it_has_ended_is_not_asked_again() {
    let busy = service_fn(async |_here: Request<ReadAheadBody<Full<Bytes>>>| {
        pending::<Result<Reply, BoxError>>().await
    });
    let layer = ReadAheadLayer::new(64 * KIB, 64 * KIB);
    let handle = layer.handle();
    let request = Request::new(Full::new(Bytes::from_static(&[0; 1000])));
    let mut call = task::spawn(layer.layer(busy).oneshot(request));
    assert_pending!(call.poll());
    assert_eq!(handle.held(), 1000, "nothing more is to come");
}

#[tokio::test]
async fn once_the_reader_has_begun_nobody_else_polls_the_body() {
    let (script, held) = (Script::default(), Held::default());
    let layer = ReadAheadLayer::new(64 * KIB, 64 * KIB);
    let mut call = task::spawn(layer.layer(held.service()).oneshot(script.request()));
    assert_pending!(call.poll());
    script.data(1);
    assert!(call.is_woken(), "while it waits, the call reads");
    assert_pending!(call.poll());
    let (request, _answer) = held.take();
    let mut body = request.into_body();
    assert!(frame(&mut body).is_some());
    let mut reader = task::spawn(body.frame());
    assert_pending!(reader.poll());
    let polls = script.polls();
    assert_pending!(call.poll());
    assert_eq!(script.polls(), polls);
    script.data(2);
    assert!(reader.is_woken(), "the reader is told");
    assert!(assert_ready!(reader.poll()).is_some());
}

#[tokio::test]
async fn errors_of_the_body_are_for_the_reader_in_their_turn() {
    let (script, held) = (Script::default(), Held::default());
    let layer = ReadAheadLayer::new(64 * KIB, 64 * KIB);
    script.data(1);
    script.fail("too large");
    let mut call = task::spawn(layer.layer(held.service()).oneshot(script.request()));
    assert_pending!(call.poll());
    let mut body = held.take().0.into_body();
    assert!(frame(&mut body).expect("data").is_ok());
    assert_eq!(frame(&mut body).expect("an error").expect_err("failed").to_string(), "too large");
    assert!(frame(&mut body).is_none());
}

#[tokio::test]
async fn a_waiting_request_whose_client_has_gone_frees_its_place() {
    let _t = support::trace_init();
    let (script, held) = (Script::default(), Held::default());
    let leveler = builder(1, 1).build().expect("valid");
    let handle = leveler.handle();
    let service = ReadAheadLayer::new(64 * KIB, 64 * KIB).layer(leveler.layer(held.service()));
    let mut running = task::spawn(service.clone().oneshot(Script::default().request()));
    assert_pending!(running.poll());
    let mut waiting = task::spawn(service.oneshot(script.request()));
    assert_pending!(waiting.poll());
    assert_eq!(handle.stats().queued, 1);
    script.data(1);
    script.fail(io::Error::from(io::ErrorKind::UnexpectedEof));
    assert!(waiting.is_woken());
    let answer = assert_ready!(waiting.poll()).expect("answered");
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!((handle.stats().queued, handle.stats().cancelled), (0, 1));
    assert!(script.is_dropped());
}

#[tokio::test]
async fn the_total_is_shared_and_who_gets_none_reads_on_when_there_is_some() {
    let held = Held::default();
    let layer = ReadAheadLayer::new(8 * KIB, 14 * KIB);
    let handle = layer.handle();
    assert_eq!(handle.total(), 14 * KIB);
    let service = layer.layer(held.service());
    let scripts: Vec<_> = (0..3).map(|_| Script::default()).collect();
    let mut calls: Vec<_> = scripts
        .iter()
        .map(|script| {
            script.data(4 * KIB);
            script.data(4 * KIB);
            script.end();
            task::spawn(service.clone().oneshot(script.request()))
        })
        .collect();
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    let unread = || scripts.iter().map(Script::unread).collect::<Vec<_>>();
    assert_eq!(unread(), [1, 2, 3], "what is left of the total is for the second");
    assert_eq!((handle.held(), handle.starving()), (20 * KIB, 2));

    // The first is read.
    let (first, _answer) = held.take();
    first.into_body().collect().await.expect("a body");
    assert!(calls[1].is_woken(), "in turn");
    for _ in 0..4 {
        calls.iter_mut().filter(|call| call.is_woken()).for_each(|call| {
            assert_pending!(call.poll());
        });
    }
    assert_eq!(unread(), [0, 1, 2], "eight of the second, and four of the third");
    assert_eq!((handle.held(), handle.starving()), (20 * KIB, 1));
    // The second is dropped, with its call; the third has what it needs.
    drop(held.take());
    drop(calls.remove(1));
    assert!(calls[1].is_woken());
    assert_pending!(calls[1].poll());
    assert_eq!(unread(), [0, 1, 1]);
    assert_eq!((handle.held(), handle.starving()), (12 * KIB, 0));
    drop((calls, held, service));
    assert_eq!(handle.held(), 0);
}

#[tokio::test]
async fn frames_of_a_byte_do_not_take_a_hundred_times_the_budget() {
    let (script, held) = (Script::default(), Held::default());
    let layer = ReadAheadLayer::new(64 * KIB, 128 * KIB);
    (0..1000).for_each(|_| script.data(1));
    let mut call = task::spawn(layer.layer(held.service()).oneshot(script.request()));
    assert_pending!(call.poll());
    assert_eq!(1000 - script.unread(), 256, "a frame counts for 256 bytes");
}

#[tokio::test]
async fn without_a_budget_and_for_clients_that_wait_to_be_told_nothing_is_read() {
    let held = Held::default();
    for (per_request, total, expects) in [(0, KIB, false), (KIB, 0, false), (KIB, KIB, true)] {
        let script = Script::default();
        script.data(1);
        let mut request = script.request();
        if expects {
            let value = HeaderValue::from_static("100-continue");
            request.headers_mut().insert(header::EXPECT, value);
        }
        let layer = ReadAheadLayer::new(per_request, total);
        let mut call = task::spawn(layer.layer(held.service()).oneshot(request));
        assert_pending!(call.poll());
        assert_eq!(script.polls(), 0, "{per_request} {total} {expects}");
        let mut body = held.take().0.into_body();
        assert!(frame(&mut body).is_some(), "it is all there");
    }
}

#[tokio::test]
async fn a_body_that_the_inner_drops_is_dropped_at_once() {
    let (script, held) = (Script::default(), Held::default());
    let layer = ReadAheadLayer::new(64 * KIB, 64 * KIB);
    let handle = layer.handle();
    script.data(KIB);
    let mut call = task::spawn(layer.layer(held.service()).oneshot(script.request()));
    assert_pending!(call.poll());
    let (request, answer) = held.take();
    drop(request);
    assert!(script.is_dropped());
    assert_eq!(handle.held(), 0);
    assert_pending!(call.poll());
    answer.send(()).expect("it waits");
    assert_ready!(call.poll()).expect("answered");
}

#[tokio::test(start_paused = true)]
async fn with_the_body_first_a_call_is_made_once_its_body_is_there() {
    let _t = support::trace_init();
    let held = Held::default();
    let calls = || held.0.lock().expect("no panic").len();
    let second = Duration::from_secs(1);
    let layer = ReadAheadLayer::new(4 * KIB, 64 * KIB).body_first(10 * second);
    let service = layer.layer(held.service());
    let scripts = [Script::default(), Script::default(), Script::default()];
    let [whole, large, slow] = &scripts;
    let mut requests =
        scripts.each_ref().map(|script| task::spawn(service.clone().oneshot(script.request())));
    requests.iter_mut().for_each(|request| assert_pending!(request.poll()));
    assert_eq!(calls(), 0);
    scripts.iter().for_each(|script| script.data(KIB));
    requests.iter_mut().for_each(|request| assert_pending!(request.poll()));
    assert_eq!(calls(), 0, "not all is there");
    whole.end();
    assert_pending!(requests[0].poll());
    assert_eq!(calls(), 1);
    large.data(3 * KIB);
    assert_pending!(requests[1].poll());
    assert_eq!(calls(), 2, "the rest is beyond the budget");
    for _ in 0..9 {
        tokio::time::advance(second).await;
        slow.data(1);
        assert_pending!(requests[2].poll());
    }
    tokio::time::advance(second + Duration::from_millis(1)).await;
    let answer = assert_ready!(requests[2].poll()).expect("answered");
    assert_eq!((answer.status(), calls()), (StatusCode::REQUEST_TIMEOUT, 2));
    assert!(slow.is_dropped());
}

#[tokio::test]
async fn it_reads_while_the_leveler_has_the_request_and_on_another_thread() {
    let _t = support::trace_init();
    for execution in support::EXECUTIONS {
        let leveler = builder(8, 1).execution(execution).build().expect("valid");
        let handle = leveler.handle();
        let echo = service_fn(async |request: Request<ReadAheadBody<Full<Bytes>>>| {
            settle().await;
            let body = request.into_body().collect().await?;
            Ok::<_, BoxError>(Response::new(Full::new(body.to_bytes())))
        });
        let layer = ReadAheadLayer::new(64 * KIB, 64 * KIB);
        let ahead = layer.handle();
        let service = layer.layer(leveler.layer(echo));
        let calls = (0..8).map(|nth| {
            let request = Request::new(Full::new(Bytes::from(vec![nth; 1000])));
            tokio::spawn(service.clone().oneshot(request))
        });
        for (nth, call) in futures::future::join_all(calls).await.into_iter().enumerate() {
            let body: OrEmpty<_> = call.expect("no panic").expect("answered").into_body();
            let Ok::<_, Infallible>(body) = body.collect().await;
            assert_eq!(body.to_bytes(), vec![nth as u8; 1000]);
        }
        assert_eq!((handle.stats().succeeded, ahead.held()), (8, 0));
    }
}
