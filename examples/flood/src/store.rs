//! The backend: orders in SQLite.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::time::Instant;

use crate::Result;

/// Lines of an order, each of which takes from a stock.
const LINES: u64 = 40;
const ARTICLES: u64 = 5_000;
/// How long SQLite tries to become the writer before it gives up with "database is locked". Its own
/// documentation leaves the choice to us; a second is generous.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Store(Arc<Shared>);

struct Shared {
    path: PathBuf,
    inside: AtomicUsize,
    peak: AtomicUsize,
    stored: AtomicUsize,
    over: AtomicBool,
}

/// What is in the database, by order number, in the order of arrival.
pub(crate) struct Books(pub(crate) Vec<u64>);

impl Store {
    pub(crate) fn create(name: &str) -> Result<Self> {
        let file = format!("flood-{}-{}.sqlite", std::process::id(), name.replace(' ', "-"));
        let path = std::env::temp_dir().join(file);
        let store = Self(Arc::new(Shared {
            path,
            inside: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            stored: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        }));
        store.remove_files();
        let mut db = store.open()?;
        // Not unique: an order that is stored twice is to be seen, not prevented.
        db.execute_batch(
            "CREATE TABLE orders (number INTEGER NOT NULL, total INTEGER NOT NULL);
             CREATE TABLE stock (article INTEGER PRIMARY KEY, left INTEGER NOT NULL);",
        )?;
        let all = db.transaction()?;
        for article in 0..ARTICLES {
            all.execute("INSERT INTO stock VALUES (?1, 1000000000)", [article])?;
        }
        all.commit()?;
        Ok(store)
    }

    /// A connection of its own for each order, as a web framework without a pool would have it.
    /// Defaults all through: a rollback journal, and a commit is on the disk when it returns.
    fn open(&self) -> rusqlite::Result<Connection> {
        let db = Connection::open(&self.0.path)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        Ok(db)
    }

    /// Stores an order in one transaction. Blocks.
    pub(crate) fn place(&self, number: u64) -> rusqlite::Result<()> {
        if self.0.over.load(SeqCst) {
            return Err(rusqlite::Error::InvalidQuery);
        }
        let _inside = Inside::enter(&self.0);
        let mut db = self.open()?;
        let order = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut take = order.prepare("UPDATE stock SET left = left - 1 WHERE article = ?1")?;
            for line in 0..LINES {
                take.execute([(number * 7919 + line * 104_729) % ARTICLES])?;
            }
        }
        order.execute("INSERT INTO orders VALUES (?1, ?2)", params![number, LINES])?;
        order.commit()?;
        self.0.stored.fetch_add(1, SeqCst);
        Ok(())
    }

    /// How many are in `place` now.
    pub(crate) fn inside(&self) -> usize {
        self.0.inside.load(SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(SeqCst)
    }

    pub(crate) fn stored(&self) -> usize {
        self.0.stored.load(SeqCst)
    }

    /// Lets those inside finish for a while, and then nobody in any more: what a bare service has
    /// let pile up must not slow down the next run. Returns how long it took.
    pub(crate) async fn settle(&self, at_most: Duration) -> Duration {
        let start = Instant::now();
        while self.inside() > 0 && start.elapsed() < at_most {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = start.elapsed();
        self.0.over.store(true, SeqCst);
        while self.inside() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        took
    }

    pub(crate) fn books(&self) -> Result<Books> {
        let db = self.open()?;
        let mut numbers = db.prepare("SELECT number FROM orders ORDER BY rowid")?;
        let numbers = numbers.query_map([], |row| row.get(0))?;
        Ok(Books(numbers.collect::<rusqlite::Result<_>>()?))
    }

    fn remove_files(&self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut file = self.0.path.clone().into_os_string();
            file.push(suffix);
            // Most of them are not there.
            let _ = std::fs::remove_file(file);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) == 1 {
            self.remove_files();
        }
    }
}

struct Inside<'a>(&'a Shared);

impl<'a> Inside<'a> {
    fn enter(shared: &'a Shared) -> Self {
        let now = shared.inside.fetch_add(1, SeqCst) + 1;
        shared.peak.fetch_max(now, SeqCst);
        Self(shared)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, SeqCst);
    }
}
