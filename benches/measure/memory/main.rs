//! How much memory it takes: what waits, what runs, and what is only there.
//!
//! ```sh
//! cargo bench -p measure --bench memory             # some seconds
//! cargo bench -p measure --bench memory -- --test   # a smoke test
//! ```
//!
//! Bytes that were asked of the allocator and not given back, counted on a runtime with one thread,
//! so that what the tasks allocate is among them. What the allocator itself adds is not.

mod heap;
mod layers;
mod running;
mod setup;
mod sizes;
mod waiting;

/// Requests counted at once. What they share, such as a buffer that doubles when it is full, is in
/// it: here there is room for 131 072. Of just as many as there is room for, each takes less.
const MANY: usize = 100_000;

fn main() {
    let test = std::env::args().any(|arg| arg == "--test");
    let many = if test { 1_000 } else { MANY };
    println!("{:<40}{:>10}{:>10}", "bytes", "ours", "B + CL");
    waiting::print(many);
    running::print(many);
    layers::print(many);
    sizes::print();
}
