//! What is on the heap.

use allocation_counter::measure;

/// Bytes that `work` has allocated and that are still there when it is done.
pub(crate) fn kept(work: impl FnOnce()) -> i64 {
    measure(work).bytes_current
}

/// The same for each of so many.
pub(crate) fn kept_by_each(of: usize, work: impl FnOnce()) -> f64 {
    kept(work) as f64 / of as f64
}

/// A line of the table.
pub(crate) fn row(what: &str, ours: f64, theirs: Option<f64>, note: &str) {
    let theirs = theirs.map_or_else(|| "-".to_owned(), |theirs| format!("{theirs:.0}"));
    println!("  {what:<38}{ours:>10.0}{theirs:>10}  {note}");
}
