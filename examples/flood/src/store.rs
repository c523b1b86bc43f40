//! The backend: orders in SQLite.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::time::Instant;

use crate::Result;

const ARTICLES: u64 = 5_000;
/// The time of SQLite's tries to become the writer, before SQLite gives up with "database is
/// locked". SQLite's documentation leaves the choice to the application.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// A database file. Clones share the file; the last clone deletes it.
#[derive(Clone)]
pub(crate) struct Store(Arc<Shared>);

struct Shared {
    path: PathBuf,
    lines: u64,
    inside: AtomicUsize,
    peak: AtomicUsize,
    stored: Mutex<Vec<Stored>>,
    over: AtomicBool,
    /// Open all the time: on the close of the last connection, SQLite folds the log into the file.
    _keeper: Mutex<Connection>,
}

/// A committed order.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) number: u64,
    pub(crate) at: Instant,
}

impl Store {
    /// Makes a database for orders of `lines` lines each.
    pub(crate) fn create(name: &str, lines: u64) -> Result<Self> {
        let file = format!("flood-{}-{}.sqlite", std::process::id(), name.replace(' ', "-"));
        let path = std::env::temp_dir().join(file);
        remove_files(&path);
        let mut db = open(&path)?;
        // Not unique: an order stored twice has to be seen, not prevented.
        db.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE orders (number INTEGER NOT NULL, total INTEGER NOT NULL);
             CREATE TABLE stock (article INTEGER PRIMARY KEY, left INTEGER NOT NULL);",
        )?;
        let all = db.transaction()?;
        for article in 0..ARTICLES {
            all.execute("INSERT INTO stock VALUES (?1, 1000000000)", [article])?;
        }
        all.commit()?;
        Ok(Self(Arc::new(Shared {
            path,
            lines,
            inside: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            stored: Mutex::default(),
            over: AtomicBool::new(false),
            _keeper: Mutex::new(db),
        })))
    }

    /// Stores an order in one transaction. Blocks.
    pub(crate) fn place(&self, number: u64) -> rusqlite::Result<()> {
        if self.0.over.load(SeqCst) {
            return Err(rusqlite::Error::InvalidQuery);
        }
        let _inside = Inside::enter(&self.0);
        let mut db = open(&self.0.path)?;
        let order = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut take = order.prepare("UPDATE stock SET left = left - 1 WHERE article = ?1")?;
            for line in 0..self.0.lines {
                take.execute([(number * 7919 + line * 104_729) % ARTICLES])?;
            }
        }
        order.execute("INSERT INTO orders VALUES (?1, ?2)", params![number, self.0.lines])?;
        order.commit()?;
        self.0.stored().push(Stored { number, at: Instant::now() });
        Ok(())
    }

    /// Lets running transactions finish for a while, and then refuses all: the backlog of a bare
    /// service must not slow down the next run. Returns the time until the database was idle.
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

    fn inside(&self) -> usize {
        self.0.inside.load(SeqCst)
    }

    /// Returns the highest number of orders in `place` at once.
    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(SeqCst)
    }

    /// Returns the orders committed so far, as `place` has seen them.
    pub(crate) fn stored(&self) -> Vec<Stored> {
        self.0.stored().clone()
    }

    /// Reads the numbers of all orders from the database.
    pub(crate) fn books(&self) -> Result<Vec<u64>> {
        let db = open(&self.0.path)?;
        let mut numbers = db.prepare("SELECT number FROM orders")?;
        let numbers = numbers.query_map([], |row| row.get(0))?;
        Ok(numbers.collect::<rusqlite::Result<_>>()?)
    }
}

impl Shared {
    fn stored(&self) -> MutexGuard<'_, Vec<Stored>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        remove_files(&self.path);
    }
}

/// Opens a connection for one order, as a web framework without a pool would. As in most
/// applications, SQLite writes ahead to a log, and syncs the log when folding it into the file.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(db)
}

fn remove_files(path: &Path) {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut file = path.to_path_buf().into_os_string();
        file.push(suffix);
        // Most of the files do not exist.
        let _ = std::fs::remove_file(file);
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
