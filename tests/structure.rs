//! The shape of the source: what `CONTRIBUTING.md` says of it, and no review has to look for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const MAX_LINES: usize = 400;
const MAX_COLUMNS: usize = 100;

/// Files with inherent impl blocks of a type that another file defines, and why.
const IMPLS_ELSEWHERE: [(&str, &str); 3] = [
    // A layer knows its builder, which makes the layer.
    ("builder.rs", "LoadLevelLayer"),
    // The classifiers change the type of the builder.
    ("builder/classifiers.rs", "Builder"),
    // Settings of the feature `http` stand with what they set.
    ("http/builder.rs", "Builder"),
];

#[test]
fn imports_between_files_run_one_way() {
    let modules = Modules::read();
    let mut edges = BTreeMap::new();
    for (module, code) in &modules.code {
        let uses = paths(code, module).into_iter().filter_map(|path| modules.of(&path));
        let uses: BTreeSet<_> = uses.filter(|used| used != module).collect();
        edges.insert(module.clone(), uses);
    }
    let reachable = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(module) = next.pop() {
            for used in &edges[&module] {
                if seen.insert(used.clone()) {
                    next.push(used.clone());
                }
            }
        }
        seen
    };
    let circles: Vec<_> =
        modules.code.keys().filter(|module| reachable(module).contains(*module)).collect();
    assert!(circles.is_empty(), "these files import each other: {circles:#?}");
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 200, "nothing was read");
}

/// So the features cost a call nothing, whoever switches them on.
#[test]
fn no_path_of_a_call_knows_the_features_that_show_numbers() {
    let shown = ["prometheus", "metrics"].map(|feature| format!("feature = \"{feature}\""));
    let shows = |text: &str| shown.iter().any(|feature| text.contains(feature));
    let mut found = BTreeSet::new();
    for (path, text) in rust_files(&["src"]) {
        if shows(&text) {
            let path = path.strip_prefix(root().join("src")).expect("below");
            found.insert(path.display().to_string());
        }
    }
    // A snapshot of a histogram, a handle that names its leveler, and what reads them.
    let allowed = ["export/mod.rs", "handle.rs", "lib.rs", "stats/histogram.rs"];
    assert_eq!(found, BTreeSet::from(allowed.map(str::to_owned)));
}

#[test]
fn no_file_of_the_library_is_long() {
    for (path, text) in rust_files(&["src"]) {
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{path:?} has {lines} lines: look for the second idea");
    }
}

#[test]
fn code_and_comments_have_one_width() {
    for (path, text) in rust_files(&["src", "tests", "examples", "benches"]) {
        for (nth, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            assert!(columns <= MAX_COLUMNS, "{path:?}:{} has {columns} columns", nth + 1);
        }
    }
}

#[test]
fn inherent_impls_stand_in_the_file_of_their_type() {
    for (path, text) in rust_files(&["src"]) {
        let code = without_comments_and_tests(&text);
        for name in inherent_impls(&code) {
            let is_here = ["struct", "enum"].iter().any(|kind| {
                code.contains(&format!("{kind} {name} "))
                    || code.contains(&format!("{kind} {name}<"))
                    || code.contains(&format!("{kind} {name}("))
                    || code.contains(&format!("{kind} {name};"))
            });
            let is_excepted = IMPLS_ELSEWHERE
                .iter()
                .any(|(file, of)| path.ends_with(Path::new("src").join(file)) && *of == name);
            assert!(is_here || is_excepted, "{path:?} has an impl of `{name}`");
        }
    }
}

/// The modules of `src`, each with its code.
struct Modules {
    code: BTreeMap<String, String>,
}

impl Modules {
    fn read() -> Self {
        let root = root().join("src");
        let name = |path: &Path| {
            let path = path.strip_prefix(&root).expect("below `src`").with_extension("");
            let mut parts: Vec<_> =
                path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
                parts.pop();
            }
            parts.join("::")
        };
        let files = rust_files(&["src"]).into_iter();
        let files = files.filter(|(path, _)| !path.iter().any(|part| part == "tests"));
        let code = files.map(|(path, text)| (name(&path), without_comments_and_tests(&text)));
        Self { code: code.filter(|(name, _)| !name.ends_with("tests")).collect() }
    }

    /// The module that a path leads into: the longest beginning that is one.
    fn of(&self, path: &[String]) -> Option<String> {
        let beginnings = (1..=path.len()).rev().map(|len| path[..len].join("::"));
        beginnings.into_iter().find(|module| self.code.contains_key(module))
    }
}

/// The paths below `crate`, `super` and `self` in the code of a module, in full.
fn paths(code: &str, module: &str) -> Vec<Vec<String>> {
    let here: Vec<_> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || "_:".contains(before)) {
                continue;
            }
            let mut base: Vec<String> = match start {
                "crate::" => Vec::new(),
                _ => here.iter().map(ToString::to_string).collect(),
            };
            let mut rest = &code[at..];
            while let Some(after) = rest.strip_prefix("super::") {
                base.pop();
                rest = after;
            }
            let rest = rest.strip_prefix("crate::").or(rest.strip_prefix("self::")).unwrap_or(rest);
            expand(rest, &base, &mut found);
        }
    }
    found
}

/// Adds the paths of a tree of names, as after `use`. Returns what follows it.
fn expand<'a>(tree: &'a str, base: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let tree = tree.trim_start();
    if let Some(mut rest) = tree.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            rest = expand(rest, base, found).trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    let path: Vec<_> = base.iter().cloned().chain([name.to_owned()]).collect();
    if let Some(deeper) = rest.strip_prefix("::") {
        return expand(deeper, &path, found);
    }
    found.push(path);
    // Past `as name`, `*`, or whatever else there is before the next name.
    let next = rest.find([',', '}', ';', '(', ')', '\n']).unwrap_or(rest.len());
    if name.is_empty() { &rest[next.max(1).min(rest.len())..] } else { &rest[next..] }
}

/// The names of types with an `impl` block that is of no trait.
fn inherent_impls(code: &str) -> Vec<String> {
    let blocks = code.split("\nimpl").skip(1).filter_map(|block| block.split_once('{'));
    let heads = blocks.map(|(head, _)| skip_generics(head).trim_start().to_owned());
    let is_of_trait = |head: &str| head.split(" where").any(|part| part.contains(" for "));
    let inherent = heads.filter(|head| !is_of_trait(head));
    let name = |head: String| {
        let end = head.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(head.len());
        head[..end].to_owned()
    };
    inherent.map(name).filter(|name| !name.is_empty()).collect()
}

/// What follows the parameters of an `impl`.
fn skip_generics(head: &str) -> &str {
    if !head.starts_with('<') {
        return head;
    }
    let mut depth = 0;
    for (at, c) in head.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if !head[..at].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &head[at + 1..];
        }
    }
    ""
}

fn without_comments_and_tests(text: &str) -> String {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let tests = code.find("#[cfg(test)]\nmod tests").unwrap_or(code.len());
    code[..tests].to_owned()
}

fn rust_files(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.map(|entry| entry.expect("readable").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((path.clone(), fs::read_to_string(&path).expect("readable")));
            }
        }
    }
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
