//! Dependencies point one way: reads every path of `src` that begins at the crate, and holds the table of rooms.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may use. Edges never meet each other; only `app` knows everything.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("metrics", &["domain"]),
    ("source", &["domain"]),
    ("delivery", &["domain", "metrics", "source"]),
    ("kafka", &["domain", "metrics", "source", "delivery"]),
    ("egress", &["domain", "metrics", "source", "delivery"]),
    ("admin", &["domain", "metrics", "source", "delivery"]),
    ("config", &["domain", "metrics", "source", "delivery"]),
    ("registry", &["domain", "metrics", "source", "delivery"]),
    ("app", &["domain", "metrics", "source", "delivery", "kafka", "egress", "admin", "config", "registry"]),
    ("demo", &["domain", "metrics", "source", "delivery", "kafka", "egress", "admin", "config", "registry", "app"]),
    ("cli", &["domain", "metrics", "source", "delivery", "kafka", "egress", "admin", "config", "registry", "app", "demo"]),
];

/// Crates that belong to one place: the path below `src` must begin so.
const CONFINED: &[(&str, &[&str])] =
    &[("rdkafka", &["kafka/"]), ("httparse", &["egress/"]), ("reqwest", &["egress/"]), ("backoff", &["kafka/wait.rs"])];

/// What a pure room must not name: IO, async, clocks, randomness, logging.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant",
    "tokio",
    "tracing",
    "fastrand",
    "futures_util",
    "rdkafka",
    "prometheus",
];

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                walk(&entry, found);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                found.push(entry);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    files
        .into_iter()
        .map(|f| (f.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&f).unwrap()))
        .collect()
}

/// The text without comments.
fn code(text: &str) -> String {
    text.lines().map(|l| l.find("//").map_or(l, |at| &l[..at])).collect::<Vec<_>>().join("\n")
}

/// Every path with `::` in `text`, groups unfolded: `use a::{b, c::d}` gives `a::b` and `a::c::d`.
fn paths(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !is_part(bytes[at]) || bytes[at] == b':' {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && is_part(bytes[at]) {
            at += 1;
        }
        let path = &text[start..at];
        if path.ends_with("::") && bytes.get(at) == Some(&b'{') {
            let inside = group(&text[at..]);
            for member in split(inside) {
                let member = member.trim();
                found.extend(if member.contains("::") { paths(&format!("{path}{member}")) } else { vec![format!("{path}{member}")] });
            }
            at += inside.len() + 2;
        } else if path.contains("::") {
            found.push(path.trim_end_matches(':').to_string());
        }
    }
    found
}

/// What stands between the brace at the start and its partner.
fn group(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return &text[1..at],
            '}' => depth -= 1,
            _ => {}
        }
    }
    &text[1..]
}

/// At the commas that no brace encloses.
fn split(group: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[from..]);
    parts.into_iter().filter(|p| !p.trim().is_empty()).collect()
}

/// The room of a file below `src`; none for `lib.rs` and `main.rs`.
fn room(file: &str) -> Option<&str> {
    let name = file.split('/').next().unwrap().trim_end_matches(".rs");
    (name != "lib" && name != "main").then_some(name)
}

/// How many modules deep the code of a file is: `src/kafka/mod.rs` 1, `src/kafka/wait.rs` 2.
fn depth(file: &str) -> usize {
    file.trim_end_matches("/mod.rs").split('/').count()
}

/// The rooms of the crate that `file` names, by `crate::` or by enough `super::`.
fn rooms_named(file: &str, text: &str) -> BTreeSet<String> {
    let (mut named, code) = (BTreeSet::new(), code(text));
    let inline = code.find("\nmod tests {").or_else(|| code.find("\nmod table {")).unwrap_or(code.len());
    for (part, deep) in [(&code[..inline], depth(file)), (&code[inline..], depth(file) + 1)] {
        for path in paths(part) {
            let names: Vec<&str> = path.split("::").collect();
            let supers = names.iter().take_while(|n| **n == "super").count();
            let rest = if names[0] == "crate" {
                &names[1..]
            } else if supers == deep {
                &names[supers..]
            } else {
                continue;
            };
            if let Some(first) = rest.first()
                && ROOMS.iter().any(|(room, _)| room == first)
            {
                named.insert((*first).to_string());
            }
        }
    }
    named
}

#[test]
fn every_room_uses_only_the_rooms_below_it() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some(room) = room(&file) else { continue };
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("src/{file}: the room {room} is not in the table"));
            continue;
        };
        for named in rooms_named(&file, &text) {
            if named != room && !allowed.contains(&named.as_str()) {
                wrong.push(format!("src/{file}: {room} uses {named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn some_crates_have_one_place_only() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        for path in paths(&code(&text)) {
            let first = path.split("::").next().unwrap();
            if let Some((_, places)) = CONFINED.iter().find(|(name, _)| *name == first)
                && !places.iter().any(|p| file.starts_with(p))
            {
                wrong.push(format!("src/{file}: {path}, which belongs in {}", places.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_domain_is_pure() {
    let mut wrong = Vec::new();
    for (file, text) in sources().into_iter().filter(|(f, _)| f.starts_with("domain/")) {
        for path in paths(&code(&text)) {
            if IMPURE.iter().any(|i| path == *i || path.starts_with(&format!("{i}::")) || (i.ends_with("Tcp") && path.starts_with(i))) {
                wrong.push(format!("src/{file}: {path}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_paths_sees_groups_inline_paths_and_supers() {
    let table: &[(&str, &str, &[&str])] = &[
        ("kafka/wait.rs", "use crate::domain::id::X;", &["domain"]),
        ("kafka/wait.rs", "use crate::{domain::{id::X, time}, metrics};", &["domain", "metrics"]),
        ("kafka/wait.rs", "fn f() { crate::egress::send() }", &["egress"]),
        ("kafka/wait.rs", "use super::super::egress;", &["egress"]),
        ("kafka/mod.rs", "use super::egress::Client;", &["egress"]),
        ("kafka/wait.rs", "use super::egress::Client;", &[]),
        ("kafka/wait.rs", "// use crate::egress;\nuse crate::{\n    egress,\n};", &["egress"]),
        ("kafka/wait.rs", "x\nmod tests {\n use super::super::egress::X;\n}", &[]),
    ];
    for (file, text, expected) in table {
        assert_eq!(rooms_named(file, text), expected.iter().map(ToString::to_string).collect(), "{text}");
    }
}
