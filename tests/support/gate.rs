//! An inner service that does exactly what it is told, and remembers what it saw.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use tokio::sync::oneshot;
use tower::{BoxError, Service};

/// The error that a gate fails with; found by `downcast_ref`, so it went through unwrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed(pub u32);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gate failed {}", self.0)
    }
}

impl std::error::Error for Failed {}

/// How a call is told to end.
#[derive(Debug)]
pub enum Told {
    Ok,
    Err,
    Panic,
}

/// Steers all the services it makes.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: bool,
    called: Vec<u32>,
    finished: Vec<u32>,
    dropped: Vec<u32>,
    running: usize,
    peak: usize,
    ends: HashMap<u32, oneshot::Sender<Told>>,
    panic_in_call: bool,
}

impl Gate {
    /// Calls run until they are told how to end.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls end at once, with `Ok`.
    pub fn open() -> Self {
        let gate = Self::default();
        gate.state().open = true;
        gate
    }

    /// A service that is always ready.
    pub fn service(&self) -> GateService {
        GateService { gate: self.clone(), door: Door::default(), ready: false }
    }

    /// A service that is ready when its door is open.
    pub fn service_behind(&self, door: &Door) -> GateService {
        GateService { door: door.clone(), ..self.service() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The requests called, in order.
    pub fn called(&self) -> Vec<u32> {
        self.state().called.clone()
    }

    /// The requests whose futures were dropped before their end, in order.
    pub fn dropped(&self) -> Vec<u32> {
        self.state().dropped.clone()
    }

    /// The requests that came to their end, in order.
    pub fn finished(&self) -> Vec<u32> {
        self.state().finished.clone()
    }

    pub fn running(&self) -> usize {
        self.state().running
    }

    /// The most that were ever running at once.
    pub fn peak(&self) -> usize {
        self.state().peak
    }

    /// Ends a running call.
    #[track_caller]
    pub fn end(&self, id: u32, told: Told) {
        let end = self.state().ends.remove(&id);
        let end = end.unwrap_or_else(|| panic!("request {id} should have been called"));
        end.send(told).unwrap_or_else(|_| panic!("request {id} should be running"));
    }

    #[track_caller]
    pub fn finish(&self, id: u32) {
        self.end(id, Told::Ok);
    }

    /// Ends all running calls, and lets those after them end at once.
    pub fn finish_all(&self) {
        let mut state = self.state();
        state.open = true;
        let ends: Vec<_> = state.ends.drain().collect();
        drop(state);
        ends.into_iter().for_each(|(_, end)| drop(end.send(Told::Ok)));
    }

    /// Makes the next `call` panic.
    pub fn panic_in_call(&self) {
        self.state().panic_in_call = true;
    }
}

/// The readiness of a service.
#[derive(Clone, Default)]
pub struct Door(Arc<Mutex<DoorState>>);

#[derive(Default)]
struct DoorState {
    shut: bool,
    fail: bool,
    panic: bool,
    wakers: Vec<Waker>,
    polls: usize,
}

impl Door {
    pub fn shut() -> Self {
        let door = Self::default();
        door.state().shut = true;
        door
    }

    fn state(&self) -> MutexGuard<'_, DoorState> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn change(&self, change: impl FnOnce(&mut DoorState)) {
        let wakers = {
            let mut state = self.state();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn open(&self) {
        self.change(|state| state.shut = false);
    }

    /// Opens, and wakes only who polled last: a service has to remember no more than that.
    pub fn open_for_the_last(&self) {
        let last = {
            let mut state = self.state();
            state.shut = false;
            let last = state.wakers.pop();
            state.wakers.clear();
            last
        };
        last.into_iter().for_each(Waker::wake);
    }

    /// Shuts without waking anybody.
    pub fn close_quietly(&self) {
        self.state().shut = true;
    }

    pub fn close(&self) {
        self.change(|state| state.shut = true);
    }

    /// Makes the next `poll_ready` fail.
    pub fn fail(&self) {
        self.change(|state| state.fail = true);
    }

    /// Makes the next `poll_ready` panic.
    pub fn panic(&self) {
        self.change(|state| state.panic = true);
    }

    pub fn polls(&self) -> usize {
        self.state().polls
    }
}

/// Not `Clone`, and fails the test when it is called without having been polled ready.
pub struct GateService {
    gate: Gate,
    door: Door,
    ready: bool,
}

impl Service<u32> for GateService {
    type Response = u32;
    type Error = BoxError;
    type Future = GateCall;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut door = self.door.state();
        door.polls += 1;
        if std::mem::take(&mut door.panic) {
            drop(door);
            panic!("the door panics");
        }
        if std::mem::take(&mut door.fail) {
            return Poll::Ready(Err(Failed(0).into()));
        }
        if door.shut {
            door.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, id: u32) -> GateCall {
        assert!(std::mem::take(&mut self.ready), "the inner should be polled ready before call");
        let (end, told) = oneshot::channel();
        let mut state = self.gate.state();
        state.called.push(id);
        if std::mem::take(&mut state.panic_in_call) {
            drop(state);
            panic!("the call of {id} panics");
        }
        state.running += 1;
        state.peak = state.peak.max(state.running);
        if state.open {
            drop(end.send(Told::Ok));
        } else {
            state.ends.insert(id, end);
        }
        GateCall { id, gate: self.gate.clone(), told, ended: false }
    }
}

pub struct GateCall {
    id: u32,
    gate: Gate,
    told: oneshot::Receiver<Told>,
    ended: bool,
}

impl Future for GateCall {
    type Output = Result<u32, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(told) = Pin::new(&mut self.told).poll(cx) else { return Poll::Pending };
        self.ended = true;
        let id = self.id;
        match told {
            Ok(Told::Panic) => panic!("the future of {id} panics"),
            Ok(Told::Err) => Poll::Ready(Err(Failed(id).into())),
            Ok(Told::Ok) | Err(_) => Poll::Ready(Ok(id)),
        }
    }
}

impl Drop for GateCall {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.running -= 1;
        if self.ended {
            state.finished.push(self.id);
        } else {
            state.dropped.push(self.id);
            state.ends.remove(&self.id);
        }
    }
}
