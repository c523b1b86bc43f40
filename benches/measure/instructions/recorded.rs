//! The counts that were recorded, in a file beside this one.

use std::{
    env::consts::{ARCH, OS},
    fmt::Write,
    fs, io,
    process::Command,
};

use crate::valgrind::Count;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions/recorded.txt");

/// What is in the file: a line that says with what it was recorded, and one for each case.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) with: String,
    counts: Vec<(String, f64)>,
}

impl Recorded {
    /// Nothing, if there is no such file.
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(PATH).unwrap_or_default();
        let mut lines = text.lines();
        let with = lines.next().unwrap_or_default().to_owned();
        let count = |line: &str| {
            let (name, count) = line.rsplit_once(' ')?;
            Some((name.trim_end().to_owned(), count.parse().ok()?))
        };
        Self { with, counts: lines.filter_map(count).collect() }
    }

    pub(crate) fn of(&self, name: &str) -> Option<f64> {
        self.counts.iter().find(|(known, _)| known == name).map(|(_, count)| *count)
    }
}

pub(crate) fn write(counts: &[Count]) -> io::Result<()> {
    let mut text = format!("{}\n", with());
    for (name, count) in counts {
        writeln!(text, "{name:<44}{count:>8.1}").expect("to a string");
    }
    fs::write(PATH, text)
}

/// What counts depend on, beside the code: the compiler and the machine's instructions.
pub(crate) fn with() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("-V").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let version = version.ok().filter(|version| !version.is_empty());
    format!("{}, {ARCH} {OS}", version.as_deref().unwrap_or("an unknown compiler"))
}
