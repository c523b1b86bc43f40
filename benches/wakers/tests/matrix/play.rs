//! The play of a combination.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, atomic::Ordering::SeqCst},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{task::JoinHandle, time::advance};
use tower::{BoxError, Service, ServiceExt};
use tower_load_leveling::Overflow;

use super::{
    End, Setting, Subject,
    world::{Act, MAX_WAIT, World, lock},
};

/// A polled future, of whichever type.
type Poller = Box<dyn FnMut(&mut Context<'_>) -> Poll<()>>;

struct Polled {
    poll: Poller,
    /// Set once the future has ended, or has panicked.
    is_over: bool,
}

/// Lets everything that can run on this thread run, without time passing.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

/// Polls with several wakers, each of which is dropped afterwards. A panic of a waker is its own.
fn poll_with(world: &Arc<World>, polled: &mut Polled, times: usize) {
    for _ in 0..times {
        if polled.is_over {
            return;
        }
        let waker = world.waker();
        let poll = || (polled.poll)(&mut Context::from_waker(&waker)).is_ready();
        polled.is_over = catch_unwind(AssertUnwindSafe(poll)).unwrap_or(true);
        // Not in the same unwind: two panics at once would end the process.
        drop(catch_unwind(AssertUnwindSafe(|| drop(waker))));
    }
}

fn future(mut future: Pin<Box<dyn Future<Output = ()>>>) -> Poller {
    Box::new(move |cx| future.as_mut().poll(cx))
}

fn subject(world: &Arc<World>, subject: Subject) -> Poller {
    let mut service = world.service.clone();
    let handle = world.handle.clone();
    match subject {
        Subject::Queued | Subject::Running => {
            let call = service.call(2);
            future(Box::pin(async { drop(call.await) }))
        }
        Subject::PollReady => Box::new(move |cx| service.poll_ready(cx).map(drop)),
        Subject::Idle => future(Box::pin(async move { handle.idle().await })),
        Subject::Changed => future(Box::pin(async move { handle.changed().await })),
        Subject::Drain => {
            let deadline = Duration::from_secs(3);
            future(Box::pin(async move {
                let _ = handle.drain(deadline).await;
            }))
        }
    }
}

/// A call by somebody else.
fn bystander(world: &Arc<World>, id: u32) -> JoinHandle<Result<u32, BoxError>> {
    tokio::spawn(world.service.clone().oneshot(id))
}

/// Returns whether neither the acts nor the end are a reason to refuse the bystanders.
fn are_served(setting: Setting) -> bool {
    let Setting { act, subject, overflow, end, .. } = setting;
    let is_harmless = !matches!(act, Act::Called | Act::Aborts | Act::Closes);
    is_harmless
        && subject != Subject::Drain
        && overflow != Overflow::EvictOldest
        && matches!(end, End::Ready | End::Dropped)
}

/// Plays a combination. Returns the number of acts.
pub(crate) async fn play(setting: Setting) -> usize {
    let world = World::new(setting);
    let mut bystanders = Vec::new();
    if setting.subject != Subject::Running {
        bystanders.push(bystander(&world, 10));
        settle().await;
    }
    let mut polled = Polled { poll: subject(&world, setting.subject), is_over: false };
    if setting.subject == Subject::PollReady {
        // The rest of the places, and then two that wait for a place.
        bystanders.extend((11..15).map(|id| bystander(&world, id)));
        settle().await;
        bystanders.extend((15..17).map(|id| bystander(&world, id)));
    } else {
        // The first also waits for room.
        poll_with(&world, &mut polled, 1);
        bystanders.extend((11..13).map(|id| bystander(&world, id)));
    }
    settle().await;
    if world.handle.room() > 1 {
        lock(&world.stash).push(Box::pin(world.service.clone().call(20)));
    }
    poll_with(&world, &mut polled, 3);
    settle().await;
    end(&world, setting.end, &mut polled).await;
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(polled)));
    let acted = || world.acts.load(SeqCst) > 0;
    assert!(dropped.is_ok() || setting.act == Act::Panics && acted());
    finish(&world).await;
    // Everything is answered.
    for bystander in bystanders {
        let answer = bystander.await.expect("the panic of a waker is not a bystander's");
        if are_served(setting) {
            answer.expect("nothing keeps it from being served");
        }
    }
    world.is_over.store(true, SeqCst);
    let made = std::mem::take(&mut *lock(&world.made));
    for call in made {
        drop(call.await);
    }
    drop(std::mem::take(&mut *lock(&world.stash)));
    settle().await;
    world.assert_at_rest();
    tokio::time::timeout(Duration::from_secs(9), world.handle.idle()).await.expect("at rest");
    if !world.handle.is_closed() {
        let call = world.service.clone().oneshot(30);
        let served = tokio::time::timeout(Duration::from_secs(9), call).await;
        assert_eq!(served.expect("in time").expect("served"), 30);
        settle().await;
        world.assert_at_rest();
    }
    world.acts.load(SeqCst)
}

async fn end(world: &Arc<World>, end: End, polled: &mut Polled) {
    match end {
        End::Dropped => {}
        End::Ready => {
            finish(world).await;
            poll_with(world, polled, 2);
        }
        End::Aborted => {
            world.handle.abort_queued();
            settle().await;
            poll_with(world, polled, 2);
        }
        End::Late => {
            advance(2 * MAX_WAIT).await;
            settle().await;
            poll_with(world, polled, 2);
        }
    }
}

/// Ends all running calls, and lets later ones end at once.
async fn finish(world: &Arc<World>) {
    for _ in 0..8 {
        // The sender of an answer wakes the caller, whose waker may panic.
        drop(catch_unwind(AssertUnwindSafe(|| world.gate.finish_all())));
        settle().await;
    }
}
