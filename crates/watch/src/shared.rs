//! The state shared by the clones of a dashboard, the sampler and the streams.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};
use tower_load_leveling::Handle;

use crate::{leveler::Watched, names::Names, sampler::Sampler};

/// The time between two samples.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// The shortest time between two samples: rates over less say nothing.
const SHORTEST: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Shared {
    /// Tells this dashboard from that of an earlier process: the time of its making.
    run: u64,
    levelers: Mutex<Vec<Arc<Watched>>>,
    names: Mutex<Names>,
    schedule: Mutex<Schedule>,
    /// The number of the newest sample.
    newest: AtomicU64,
    is_closed: AtomicBool,
    /// Notified of each sample, and of the close.
    news: Arc<Notify>,
    pub(crate) sampler: Sampler,
}

/// The plan of samples.
#[derive(Debug)]
struct Schedule {
    is_looking: bool,
    last: Instant,
    due: Instant,
    switches: Vec<(bool, bool)>,
}

/// The right to take a sample.
struct Turn<'a>(&'a Mutex<Schedule>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        locked(self.0).is_looking = false;
    }
}

impl Shared {
    pub(crate) fn new() -> Self {
        let last = Instant::now();
        let schedule =
            Schedule { is_looking: false, last, due: last + EVERY, switches: Vec::new() };
        let (levelers, names, newest, is_closed, news, sampler) = Default::default();
        let schedule = Mutex::new(schedule);
        Self { run: unix_millis(), levelers, names, schedule, newest, is_closed, news, sampler }
    }

    pub(crate) fn run(&self) -> u64 {
        self.run
    }

    pub(crate) fn add(&self, handle: Handle) {
        let before = handle.stats();
        let mut levelers = locked(&self.levelers);
        let taken: BTreeSet<_> = levelers.iter().map(|leveler| leveler.name.as_str()).collect();
        let wanted = handle.name();
        let numbered = (2..).map(|nth: u64| format!("{wanted}#{nth}"));
        let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
        let name = names.find(|name| !taken.contains(name.as_str())).unwrap_or_default();
        let leveler = Watched::new(name, handle, before);
        let switches = leveler.switches();
        levelers.push(Arc::new(leveler));
        drop(levelers);
        locked(&self.schedule).switches.push(switches);
    }

    /// Sets the function for names. The earlier function is dropped outside of the lock.
    pub(crate) fn set_names(&self, names: Names) {
        let earlier = std::mem::replace(&mut *locked(&self.names), names);
        drop(earlier);
    }

    pub(crate) fn names(&self) -> Names {
        locked(&self.names).clone()
    }

    pub(crate) fn levelers(&self) -> Vec<Arc<Watched>> {
        locked(&self.levelers).clone()
    }

    /// Takes a sample if one is due, or if a leveler was closed, paused or resumed since the last.
    pub(crate) fn look(&self) {
        let levelers = self.levelers();
        let Some(_turn) = self.take_turn(&levelers) else { return };
        let (id, at) = (self.newest() + 1, unix_millis());
        for leveler in &levelers {
            // Not under a lock: the algorithm of the limit may be the user's.
            let (stats, max_wait) = (leveler.handle.stats(), leveler.handle.max_wait());
            leveler.history().add(stats, max_wait, id, at);
        }
        self.newest.store(id, SeqCst);
        self.news.notify_waiters();
    }

    /// Returns the right to take a sample; `None` if no sample is due, or another thread takes one.
    fn take_turn(&self, levelers: &[Arc<Watched>]) -> Option<Turn<'_>> {
        let mut schedule = locked(&self.schedule);
        let now = Instant::now();
        let switches: Vec<_> = levelers.iter().map(|leveler| leveler.switches()).collect();
        let is_due = now >= schedule.due;
        let is_soon = now < schedule.last + SHORTEST && !self.is_over();
        let is_news = switches != schedule.switches && !is_soon;
        if schedule.is_looking || !is_due && !is_news {
            return None;
        }
        if is_due {
            // On time, samples keep to a grid. Late, a new grid begins.
            let next = schedule.due + EVERY;
            schedule.due = if next > now { next } else { now + EVERY };
        }
        (schedule.last, schedule.switches, schedule.is_looking) = (now, switches, true);
        Some(Turn(&self.schedule))
    }

    /// Returns the number of the newest sample; 0 before the first.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(SeqCst)
    }

    /// Returns the time at which the next sample is due.
    pub(crate) fn due(&self) -> Instant {
        locked(&self.schedule).due
    }

    /// Returns a future that resolves with the next sample or the close after this call.
    pub(crate) fn news(&self) -> OwnedNotified {
        self.news.clone().notified_owned()
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, SeqCst);
        self.news.notify_waiters();
    }

    /// Returns whether the dashboard is closed, so that streams have to end.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(SeqCst)
    }

    /// Returns whether there are levelers, and all are closed. Streams have to end then, since the
    /// server may be about to stop.
    pub(crate) fn is_over(&self) -> bool {
        let levelers = self.levelers();
        !levelers.is_empty() && levelers.iter().all(|leveler| leveler.handle.is_closed())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
