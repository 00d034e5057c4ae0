use super::*;
use std::path::Path;
use std::time::Duration;

fn document(text: &str) -> Document {
    Document::parse(Path::new("a.toml"), text).unwrap()
}

fn syntax_error(text: &str) -> String {
    Document::parse(Path::new("a.toml"), text).unwrap_err().to_string()
}

/// What `read` finds wrong in `text`.
fn problems(text: &str, read: impl FnOnce(&Fields<'_>)) -> Vec<String> {
    let (document, environment) = (document(text), Environment::default());
    let reading = Reading::new(&document, &environment);
    read(&reading.root());
    reading.finish().err().unwrap_or_default().iter().map(Problem::to_string).collect()
}

#[test]
fn a_syntax_error_stands_alone_with_its_line_and_without_the_lines_text() {
    assert_eq!(syntax_error("a = 1\nkey = 'canary"), "a.toml:2: not TOML: invalid literal string, expected `'`");
    assert_eq!(syntax_error("a = 1\n\na = 2"), "a.toml:3: not TOML: duplicate key a: remove one of the two");
    assert_eq!(
        syntax_error("[t]\n'a b' = 1\n\"a-b\" = 1\n\"a-b\" = 1"),
        "a.toml:4: not TOML: duplicate key \"a-b\": remove one of the two"
    );
    assert_eq!(syntax_error("[t]\n[s]\n[t]"), "a.toml:3: not TOML: duplicate key t: remove one of the two");
    let found = syntax_error("a = canary");
    assert!(!found.contains("canary"), "{found}");
}

#[test]
fn values_are_told_by_line_and_path() {
    let text = "top = 1\n[a]\nb = 2\n\"c.d\" = [\n  1,\n  2,\n]\n[[rows]]\nx = 1\n[[rows]]\nx = { y = 1 }\n";
    let document = document(text);
    for (key, line) in [
        ("top", 1),
        ("a", 2),
        ("a.b", 3),
        ("a.c.d", 4),
        ("a.c.d[1]", 6),
        ("a.missing", 2),
        ("rows[0]", 8),
        ("rows[1]", 10),
        ("rows[1].x.y", 11),
        ("rows[1].missing", 10),
        ("", 1),
    ] {
        assert_eq!(document.locate(key), ("a.toml".into(), Some(line)), "{key}");
    }
}

#[test]
fn every_read_that_does_not_fit_is_told_and_the_reader_goes_on() {
    let text = "text = 1\ninteger = 'x'\nsmall = 0\nnumber = 'x'\nboolean = 1\nduration = 5\nodd = '5 parsecs'\nlong = '2h'\nsize = '5 stones'\n\
                instant = 2026-11-01T00:00:00\nchoice = 'c'\nlist = 1\ntexts = ['a', 1]\ntable = 1\nsecret = { file = 'a', env = 'b' }\n\
                huge = 99999999999999999999\nextra = 1\n";
    let found = problems(text, |root| {
        let item = |key| root.get(key).unwrap();
        let _ = item("text").text();
        let _ = item("integer").integer(1..=9);
        let _ = item("small").integer(1..=9);
        let _ = item("number").number();
        let _ = item("boolean").boolean();
        let _ = item("duration").duration();
        let _ = item("odd").duration();
        let _ = item("long").duration_in(Duration::from_secs(1)..=Duration::from_secs(60));
        let _ = item("size").size();
        let _ = item("instant").instant();
        let _ = item("choice").choice(&["a", "b"], |name| name);
        let _ = item("list").list();
        let _ = item("texts").texts();
        let _ = item("table").fields();
        let _ = item("secret").secret();
        let _ = item("huge").integer(1..=9);
        let _ = root.required("gone");
        root.done();
    });
    let known = "boolean, choice, duration, gone, huge, instant, integer, list, long, number, odd, secret, size, small, table, text, texts";
    assert_eq!(
        found,
        [
            "a.toml:1: gone: missing".to_owned(),
            "a.toml:1: text: expected a string, found an integer".into(),
            "a.toml:2: integer: expected an integer, found a string".into(),
            "a.toml:3: small: must be from 1 to 9".into(),
            "a.toml:4: number: expected a number, found a string".into(),
            "a.toml:5: boolean: expected true or false, found an integer".into(),
            "a.toml:6: duration: expected a duration such as \"5s\", \"10m\" or \"1h\", found an integer".into(),
            "a.toml:7: odd: not a duration: write \"5s\", \"10m\" or \"1h\"".into(),
            "a.toml:8: long: must be from 1s to 1m".into(),
            "a.toml:9: size: not a size: write \"64MiB\", \"512KiB\" or a number of bytes".into(),
            "a.toml:10: instant: not an instant with an offset: write 2026-11-01T00:00:00Z".into(),
            "a.toml:11: choice: must be one of \"a\", \"b\"".into(),
            "a.toml:12: list: expected a list, found an integer".into(),
            "a.toml:13: texts[1]: expected a string, found an integer".into(),
            "a.toml:14: table: expected a table, found an integer".into(),
            "a.toml:15: secret: give exactly one of file, env and value".into(),
            "a.toml:16: huge: must be from 1 to 9".into(),
            format!("a.toml:17: extra: unknown key; known here: {known}"),
        ]
    );
}

#[test]
fn sizes_and_durations_and_instants_read_as_people_write_them() {
    for (text, size) in [
        ("64MiB", Some(67_108_864)),
        ("1 GiB", Some(1_073_741_824)),
        ("2kB", Some(2000)),
        ("17", Some(17)),
        ("17B", Some(17)),
        ("", None),
        ("MiB", None),
        ("-1", None),
        ("1.5MiB", None),
        ("99999999999GiB", None),
    ] {
        assert_eq!(parse_size(text), size, "{text}");
    }
    assert_eq!(parse_duration("1h 30m"), Some(Duration::from_secs(5400)));
    assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
    assert_eq!(parse_duration("-5s"), None);
    assert_eq!(parse_instant("2026-11-01T00:00:00.5+01:00").map(|at| at.0), Some(1_793_487_600_500));
    for bytes in [1, 1024, 1 << 20, 3 << 29, 1_000_001] {
        assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
    }
}

#[test]
fn a_secret_comes_from_a_file_a_variable_or_the_value_and_one_trailing_newline_of_a_file_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    for (content, expected) in
        [("canary", "canary"), ("canary\n", "canary"), ("canary\r\n", "canary"), ("canary\n\n", "canary\n"), ("\n", "")]
    {
        std::fs::write(folder.path().join("key"), content).unwrap();
        let document = Document::parse(&folder.path().join("a.toml"), "k = { file = 'key' }").unwrap();
        let environment = Environment::default();
        let reading = Reading::new(&document, &environment);
        assert_eq!(&**reading.root().get("k").unwrap().secret().unwrap(), expected.as_bytes(), "{content:?}");
        assert_eq!(reading.files().keys().collect::<Vec<_>>(), [&folder.path().join("key")], "relative to the file that names it");
    }
    let document = document("a = { env = 'A' }\nb = { value = 'b' }\nc = 'c'\nd = { env = 'NOT_SET' }\ne = { file = 'no/such' }");
    let environment: Environment = [("A", "canary\n")].into_iter().collect();
    let reading = Reading::new(&document, &environment);
    let root = reading.root();
    assert_eq!(&**root.get("a").unwrap().secret().unwrap(), b"canary\n");
    assert_eq!(&**root.get("b").unwrap().secret().unwrap(), b"b");
    assert_eq!(&**root.get("c").unwrap().secret().unwrap(), b"c");
    assert!(root.get("d").unwrap().secret().is_none() && root.get("e").unwrap().secret().is_none());
    let found: Vec<String> = reading.finish().unwrap_err().iter().map(Problem::to_string).collect();
    assert_eq!(
        found,
        [
            "a.toml:4: d.env: the environment variable NOT_SET is not set: set it where this process starts, or name another",
            "a.toml:5: e.file: no/such cannot be read: No such file or directory (os error 2); create it, or mend the path"
        ]
    );
}

#[cfg(unix)]
#[test]
fn a_secrets_file_that_everyone_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "k").unwrap();
    for (mode, warnings) in [(0o600, 0), (0o640, 0), (0o644, 1), (0o642, 1), (0o666, 1)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let document = Document::parse(&folder.path().join("a.toml"), "k = { file = 'key' }").unwrap();
        let environment = Environment::default();
        let reading = Reading::new(&document, &environment);
        let _ = reading.root().get("k").unwrap().secret();
        assert_eq!(reading.warnings().len(), warnings, "{mode:o}");
    }
}

#[cfg(unix)]
#[test]
fn a_secret_written_in_a_file_that_everyone_can_read_is_warned_about_once_and_a_reference_is_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    for (text, mode, told) in [
        (
            "a = 1\nk = 'canary'\nl = { value = 'canary' }",
            0o644,
            Some(":2: k: a secret is written here, and the file can be read by everyone"),
        ),
        ("a = 1\nl = { value = 'canary' }", 0o604, Some(":2: l.value: a secret is written here")),
        ("k = 'canary'\nl = { value = 'canary' }", 0o640, None),
        ("k = { env = 'K' }\np = 'public'", 0o644, None),
    ] {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut document = Document::read(&path).0.unwrap();
        let environment: Environment = [("K", "canary"), ("P_L", "x"), ("P_V__X", "canary")].into_iter().collect();
        assert!(document.overlay(&environment, "P_", "none").is_empty());
        let reading = Reading::new(&document, &environment);
        let root = reading.root();
        for key in ["k", "l", "v"] {
            let _ = root.get(key).and_then(|item| if key == "v" { item.fields()?.get("x")?.secret() } else { item.secret() });
        }
        let _ = root.get("p").and_then(|item| item.public());
        let warnings = reading.warnings();
        assert_eq!(warnings.len(), usize::from(told.is_some()), "{mode:o}: {warnings:?}");
        for (warning, told) in warnings.iter().zip(told) {
            assert!(warning.contains(told) && warning.contains("chmod o-r") && !warning.contains("canary"), "{warning}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_told_by_its_name() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    let odd = || OsString::from_vec(b"canary\xff".to_vec());
    let variables = [("P_A__B", odd()), ("P_SINGLE", odd()), ("OTHER", odd()), ("P_A__C", "c".into())];
    let environment = Environment::of(variables.map(|(name, value)| (name.into(), value)));
    let mut document = document("k = { env = 'OTHER' }");
    let found: Vec<String> = document.overlay(&environment, "P_", "none").iter().map(Problem::to_string).collect();
    assert_eq!(found, ["P_A__B: a.b: the variable is not UTF-8 text: set it to what is, or unset it"]);
    let reading = Reading::new(&document, &environment);
    assert!(reading.root().get("k").unwrap().secret().is_none());
    let found = reading.finish().unwrap_err()[0].to_string();
    assert_eq!(
        found,
        "a.toml:1: k.env: the environment variable OTHER is not UTF-8 text: set it where this process starts, or name another"
    );
    assert!(format!("{environment:?}").contains("P_A__B") && !format!("{environment:?}").contains("canary"));
}

#[test]
fn debug_output_never_shows_a_secret() {
    let environment: Environment = [("NAME", "canary")].into_iter().collect();
    let shown = format!("{:?} {:?} {:?}", Secret::new("canary".into()), environment, document("a = 'canary'"));
    assert!(shown.contains("[redacted]") && !shown.contains("canary"), "{shown}");
}
