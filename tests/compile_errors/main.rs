//! Each case is a small program with a mistake. The compiler has to say what to write instead, and
//! the program with that line has to compile.
//!
//! A case is a file in `cases`. Its lines `//~` are texts that the compiler's output has to
//! contain. For the right program, lines that end with `// wrong` go, and the marks `// right:` go
//! from the start of other lines.
//!
//! The cases are binaries of a package that this test writes and checks with cargo. A test that
//! compares whole outputs, as `trybuild` does, fails with each compiler that words, wraps or orders
//! its own lines in another way; only our texts are pinned here, for all versions of Rust.
#![cfg(all(feature = "http", feature = "grpc"))]

use std::{fs, path::Path, process::Command};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The package around the cases. It is in no workspace, wherever the target folder is.
const MANIFEST: &str = r#"
[package]
name = "compile-errors"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
axum = { version = "0.8", default-features = false }
bytes = "1"
http = "1"
http-body-util = "0.1"
tower = { version = "0.5.2", features = ["full"] }

[dependencies.tower-load-leveling]
features = ["grpc"]
"#;

#[test]
fn the_compiler_says_what_to_write_and_that_compiles() {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_errors");
    let bins = package.join("src/bin");
    let _ = fs::remove_dir_all(&bins);
    fs::create_dir_all(&bins).expect("a folder");
    fs::write(package.join("Cargo.toml"), format!("{MANIFEST}path = {ROOT:?}\n")).expect("a file");
    // The versions that this crate is tested with, which are here.
    fs::copy(Path::new(ROOT).join("Cargo.lock"), package.join("Cargo.lock")).expect("a copy");

    let mut cases = Vec::new();
    let files = fs::read_dir(Path::new(ROOT).join("tests/compile_errors/cases"));
    for file in files.expect("the cases") {
        let path = file.expect("a case").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let wrong = fs::read_to_string(&path).expect("a case");
        fs::write(bins.join(format!("{name}_wrong.rs")), &wrong).expect("a file");
        fs::write(bins.join(format!("{name}_right.rs")), right(&wrong)).expect("a file");
        cases.push((name, wrong));
    }
    assert!(!cases.is_empty());

    let output = Command::new(env!("CARGO"))
        .args(["check", "--bins", "--keep-going", "--offline", "--message-format=json"])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        .output()
        .expect("cargo runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let errors = |name: &str| -> Vec<&str> {
        let name = format!(r#""name":"{name}""#);
        let is_error = |line: &&str| line.contains(&name) && line.contains(r#""level":"error""#);
        stdout.lines().filter(is_error).collect()
    };
    let mut mistakes = Vec::new();
    for (name, wrong) in &cases {
        let said = errors(&format!("{name}_wrong"));
        assert!(wrong.starts_with("//~ "), "{name}: nothing is expected");
        for text in wrong.lines().filter_map(|line| line.strip_prefix("//~ ")) {
            if !said.iter().any(|error| error.contains(text)) {
                mistakes.push(format!("{name}: the compiler does not say: {text}\n{said:#?}"));
            }
        }
        let said = errors(&format!("{name}_right"));
        if !said.is_empty() {
            mistakes.push(format!("{name}: what to write does not compile: {said:#?}"));
        }
    }
    // Each right program is there, so that its silence means that it compiles.
    let artifacts = stdout.lines().filter(|line| line.contains("_right\"") && is_artifact(line));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n\n"));
    assert_eq!(artifacts.count(), cases.len(), "{stderr}");
}

fn is_artifact(line: &str) -> bool {
    line.contains(r#""reason":"compiler-artifact""#)
}

/// The case without its mistake.
fn right(wrong: &str) -> String {
    let lines = wrong.lines().filter(|line| !line.ends_with("// wrong"));
    let lines = lines.map(|line| match line.trim_start().strip_prefix("// right: ") {
        Some(line) => line,
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}
