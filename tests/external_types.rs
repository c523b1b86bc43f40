//! The types of other crates in the public API. A breaking release of a crate in this list breaks
//! this crate too, so the list grows only on purpose.
//!
//! The test reads the source, for want of a tool that runs on stable. `unreachable_pub` is on, so
//! whatever says `pub` is public.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The names as the source writes them: `tower::Layer` is `tower_layer::Layer`.
const ALLOWED: [&str; 20] = [
    "http::HeaderMap",
    "http::HeaderName",
    "http::Request",
    "http::Response",
    "http::StatusCode",
    "http_body::Body",
    "http_body::Frame",
    "http_body::SizeHint",
    // What the feature `serde` implements. serde has promised 1.0 for good.
    "serde::Deserialize",
    "serde::Deserializer",
    "serde::Serialize",
    "serde::Serializer",
    "serde::de::Error",
    "tokio::runtime::Handle",
    "tokio::time::Instant",
    "tower::BoxError",
    "tower::Layer",
    "tower::retry::Policy",
    "tower::retry::budget::Budget",
    "tower_service::Service",
];

/// Every dependency of `Cargo.toml`.
const CRATES: [&str; 11] = [
    "bytes",
    "futures",
    "http",
    "http_body",
    "metrics",
    "pin_project_lite",
    "serde",
    "tokio",
    "tower",
    "tower_service",
    "tracing",
];

#[test]
fn the_public_api_names_only_known_types_of_other_crates() {
    let files = sources();
    let public_types: BTreeSet<_> = files.iter().flat_map(|code| public_types(code)).collect();
    assert!(public_types.contains("LoadLevel") && public_types.contains("HeldBody"));

    let mut found = BTreeSet::new();
    for code in &files {
        let imported = imports(code);
        for signature in signatures(code, &public_types) {
            found.extend(paths(signature).into_iter().filter_map(|path| resolve(&path, &imported)));
        }
    }
    let allowed: BTreeSet<_> = ALLOWED.iter().map(ToString::to_string).collect();
    let new: Vec<_> = found.difference(&allowed).collect();
    let gone: Vec<_> = allowed.difference(&found).collect();
    assert!(new.is_empty() && gone.is_empty(), "new: {new:#?}, gone: {gone:#?}");
}

#[test]
fn every_dependency_is_looked_for() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("readable");
    // A packed manifest has a table for each dependency.
    let (mut section, mut listed) = ("", BTreeSet::new());
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
            listed.extend(section.strip_prefix("dependencies.").map(|name| name.replace('-', "_")));
        } else if section == "dependencies" {
            listed.extend(line.split_once(" = ").map(|(name, _)| name.replace('-', "_")));
        }
    }
    assert_eq!(listed, CRATES.iter().map(ToString::to_string).collect());
}

/// The parts of a file that a user can see: public items without bodies, the heads of impls, and
/// the signatures in impls of traits.
fn signatures<'a>(code: &'a str, public_types: &BTreeSet<String>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for at in words(code, "pub") {
        let item = &code[at..];
        if item.starts_with("pub(") {
            continue;
        }
        let is_whole = ["pub trait ", "pub enum "].iter().any(|kind| item.starts_with(kind));
        found.push(if is_whole { block(item) } else { head(item) });
    }
    for at in words(code, "impl") {
        // `impl Trait` in a signature stands inside of a line.
        if !code[..at].trim_end_matches(' ').ends_with('\n') {
            continue;
        }
        let block = block(&code[at..]);
        let head = head(block);
        let Some((_, of)) = head.split_once(" for ") else { continue };
        let of = paths(of).into_iter().next().and_then(|path| path.last().cloned());
        if !of.is_some_and(|of| public_types.contains(&of)) {
            continue;
        }
        found.push(head);
        for kind in ["fn", "type"] {
            found.extend(words(block, kind).into_iter().map(|at| self::head(&block[at..])));
        }
    }
    found
}

/// An item up to its body, or a field up to its comma.
fn head(item: &str) -> &str {
    let mut depth = 0;
    let mut previous = ' ';
    for (at, c) in item.char_indices() {
        match c {
            '(' | '[' | '<' => depth += 1,
            '>' if "-=".contains(previous) => {}
            ')' | ']' | '>' => depth -= 1,
            '{' | ';' if depth <= 0 && !item.starts_with("pub use") => return &item[..at],
            ';' if item.starts_with("pub use") => return &item[..at],
            ',' if depth <= 0 && is_field(item) => return &item[..at],
            '}' if depth <= 0 && !item.starts_with("pub use") => return &item[..at],
            _ => {}
        }
        previous = c;
    }
    item
}

fn is_field(item: &str) -> bool {
    let name = item.strip_prefix("pub ").unwrap_or(item);
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    name[end..].starts_with(':') && !name[end..].starts_with("::")
}

/// An item with its body.
fn block(item: &str) -> &str {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return &item[..=at],
            '}' => depth -= 1,
            _ => {}
        }
    }
    item
}

/// The names that a file takes from elsewhere, each with its path.
fn imports(code: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for at in words(code, "use") {
        let tree = &code[at + "use".len()..];
        expand(&tree[..tree.find(';').unwrap_or(tree.len())], &[], &mut found);
    }
    found
}

/// Adds the names of a tree, as after `use`. Returns what follows it.
fn expand<'a>(
    tree: &'a str,
    base: &[String],
    found: &mut BTreeMap<String, Vec<String>>,
) -> &'a str {
    let tree = tree.trim_start();
    if let Some(mut rest) = tree.strip_prefix('{') {
        while !rest.trim_start().starts_with('}') && !rest.trim_start().is_empty() {
            rest = expand(rest, base, found).trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        return rest.trim_start().strip_prefix('}').unwrap_or("");
    }
    let (name, rest) = word(tree);
    if name.is_empty() {
        return tree.get(1..).unwrap_or("");
    }
    let mut path = base.to_vec();
    if name != "self" || base.is_empty() {
        path.push(name.to_owned());
    }
    if let Some(deeper) = rest.strip_prefix("::") {
        return expand(deeper, &path, found);
    }
    let (alias, rest) = rest.strip_prefix(" as ").map_or((name, rest), word);
    let alias = if alias == "self" { path.last().cloned() } else { Some(alias.to_owned()) };
    found.extend(alias.map(|alias| (alias, path)));
    rest
}

/// All paths in a piece of code.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = code;
    while !rest.is_empty() {
        let (name, after) = word(rest);
        if name.is_empty() {
            let next = rest.chars().next().map_or(0, char::len_utf8);
            rest = &rest[next..];
            continue;
        }
        let mut path = vec![name.to_owned()];
        rest = after;
        while let Some((name, after)) = rest.strip_prefix("::").map(word) {
            rest = after;
            if name.is_empty() {
                break;
            }
            path.push(name.to_owned());
        }
        found.push(path);
    }
    found
}

/// The full path, if it leads to a type of another crate. A name in lower case is a module, or a
/// method that is named like an imported module.
fn resolve(path: &[String], imported: &BTreeMap<String, Vec<String>>) -> Option<String> {
    let start = imported.get(&path[0]).cloned().unwrap_or_else(|| path[..1].to_vec());
    let path = [&start[..], &path[1..]].concat();
    let is_type = path.last().is_some_and(|name| name.starts_with(char::is_uppercase));
    (is_type && CRATES.contains(&path[0].as_str())).then(|| path.join("::"))
}

fn public_types(code: &str) -> Vec<String> {
    let kinds = ["pub struct ", "pub enum ", "pub trait "];
    let found = kinds.iter().flat_map(|kind| code.split(kind).skip(1));
    found.map(|rest| word(rest).0.to_owned()).collect()
}

fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
}

/// The places at which a word stands alone.
fn words(code: &str, wanted: &str) -> Vec<usize> {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let places = code.match_indices(wanted).map(|(at, _)| at);
    let alone = |at: &usize| {
        !is_part(code[..*at].chars().next_back())
            && !is_part(code[at + wanted.len()..].chars().next())
    };
    places.filter(alone).collect()
}

/// The code of `src`, without comments and unit tests.
fn sources() -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if !is_for_tests(&path) {
                found
                    .push(without_comments_and_tests(&fs::read_to_string(path).expect("readable")));
            }
        }
    }
    found
}

fn is_for_tests(path: &Path) -> bool {
    path.iter().any(|part| part == "tests")
        || path.file_stem().is_some_and(|name| name == "tests" || name == "testing")
}

fn without_comments_and_tests(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or(line));
    let code: String = lines.flat_map(|line| [line, "\n"]).collect();
    let tests = code.find("#[cfg(test)]\nmod tests").unwrap_or(code.len());
    format!("\n{}", &code[..tests])
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
