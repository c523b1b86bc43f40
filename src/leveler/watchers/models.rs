//! Watchers, with the end of a call at once.
//!
//! - A watcher wakes up after the end of all work, or after a place has become free, however the
//!   notification falls between the looks of the watcher (law 1).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use shuttle::{future::block_on, thread};

use super::Watchers;
use crate::sync::{
    explore::{finds, holds},
    fault::Fault,
};

/// One call, which holds the only place.
#[derive(Default)]
struct World {
    watchers: Watchers,
    ended: AtomicUsize,
}

impl World {
    fn end(&self) {
        self.ended.fetch_add(1, SeqCst);
        self.watchers.on_place_free(true);
    }

    fn has_ended(&self) -> bool {
        self.ended.load(SeqCst) > 0
    }
}

fn watchers_of_a_call() {
    let world = Arc::new(World::default());
    let idle = thread::spawn({
        let world = Arc::clone(&world);
        move || block_on(world.watchers.idle(|| world.has_ended()))
    });
    let room = thread::spawn({
        let world = Arc::clone(&world);
        move || {
            let changed = world.watchers.room_changed();
            if !world.has_ended() {
                block_on(changed);
            }
        }
    });
    world.end();
    idle.join().expect("no law is broken");
    room.join().expect("no law is broken");
}

#[test]
fn every_watcher_wakes_up() {
    holds(watchers_of_a_call);
}

#[test]
fn an_overlooked_notification_is_found() {
    finds(Fault::NoticeOverlooked, watchers_of_a_call);
}
