//! Reloads: what is put in force, what is refused, and what a registry file may look like without hurting anybody.

use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Arc;

/// A registry of `count` domains.
fn domains(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, at| {
        let _ = writeln!(text, "[[domains]]\nname = 'd{at}.example'");
        text
    })
}

struct Reloaded {
    folder: tempfile::TempDir,
    store: Store,
}

impl Reloaded {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("r.toml"), text).unwrap();
        let (store, _) = Store::open(&folder.path().join("r.toml"), options()).unwrap_or_else(|problems| panic!("{problems:?}"));
        Self { folder, store }
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("r.toml"), text).unwrap();
    }

    fn reload(&self, act: Act) -> String {
        match looks(&self.store, act) {
            ReloadOutcome::Loaded { registry, .. } => format!("loaded {}", registry.domain_names().len()),
            ReloadOutcome::Unchanged => "unchanged".into(),
            ReloadOutcome::Refused(problems) => format!("refused {}", problems.len()),
            ReloadOutcome::Shrunk(losses) if losses.unsigned.is_empty() && losses.unbound_paths == 0 => {
                format!("shrunk {} {} {}", losses.domains, losses.dropped, losses.unbound)
            }
            ReloadOutcome::Shrunk(losses) => format!("shrunk {losses:?}"),
        }
    }

    fn in_force(&self) -> usize {
        self.store.snapshot().domain_names().len()
    }
}

/// A deliberate look, or the two that an automatic change needs.
fn looks(store: &Store, act: Act) -> ReloadOutcome {
    match (act, store.reload(act)) {
        (Act::Automatic, ReloadOutcome::Unchanged) => store.reload(act),
        (_, outcome) => outcome,
    }
}

#[test]
fn a_file_that_is_being_written_in_place_is_judged_when_two_looks_read_the_same() {
    let files = Reloaded::with(&domains(2));
    let look = || matches!(files.store.reload(Act::Automatic), ReloadOutcome::Unchanged);
    // Each of these is a valid registry, or no registry at all: none is put in force, none refused.
    for half in [domains(3), "[[domains]]\nname = ".to_owned(), domains(4), domains(5)] {
        files.write(&half);
        assert!(look(), "{half}");
        assert_eq!(files.in_force(), 2, "{half}");
    }
    assert!(matches!(files.store.reload(Act::Automatic), ReloadOutcome::Loaded { .. }));
    assert_eq!(files.in_force(), 5);
    files.write(&domains(6));
    assert!(matches!(files.store.reload(Act::Deliberate), ReloadOutcome::Loaded { .. }), "a person knows when it is written");
    assert!(look() && files.in_force() == 6);
}

#[test]
fn a_changed_file_is_put_in_force_once() {
    let files = Reloaded::with(&domains(1));
    assert_eq!(files.reload(Act::Automatic), "unchanged");
    files.write(&domains(2));
    assert_eq!(files.reload(Act::Automatic), "loaded 2");
    assert_eq!(files.in_force(), 2);
    assert_eq!(files.reload(Act::Automatic), "unchanged");
    files.write(&domains(2));
    assert_eq!(files.reload(Act::Automatic), "unchanged", "written again with the same content");
    assert_eq!(files.reload(Act::Deliberate), "loaded 2");
}

#[test]
fn a_bad_file_is_refused_once_and_the_last_good_one_stays() {
    let files = Reloaded::with(&domains(2));
    files.write("[[domains]]\nname = 'a b'\n[[domains]]\nname = 7");
    assert_eq!(files.reload(Act::Automatic), "refused 2");
    assert_eq!(files.in_force(), 2);
    assert_eq!(files.reload(Act::Automatic), "unchanged");
    assert_eq!(files.reload(Act::Deliberate), "refused 2");
    fs::remove_file(files.folder.path().join("r.toml")).unwrap();
    assert_eq!(files.reload(Act::Automatic), "refused 1");
    assert_eq!((files.reload(Act::Automatic).as_str(), files.in_force()), ("unchanged", 2));
    files.write(&domains(3));
    assert_eq!(files.reload(Act::Automatic), "loaded 3");
}

#[test]
fn an_automatic_reload_drops_neither_all_domains_nor_more_than_a_tenth_and_ten() {
    let table = [
        (1, 0, "shrunk 1 1 0"),
        (20, 0, "shrunk 20 20 0"),
        (20, 10, "loaded 10"),
        (20, 9, "shrunk 20 11 0"),
        (110, 99, "loaded 99"),
        (109, 98, "shrunk 109 11 0"),
        (200, 180, "loaded 180"),
        (200, 179, "shrunk 200 21 0"),
    ];
    for (before, after, expected) in table {
        let files = Reloaded::with(&domains(before));
        files.write(&domains(after));
        assert_eq!(files.reload(Act::Automatic), expected, "{before} to {after}");
        if expected.starts_with("shrunk") {
            assert_eq!((files.in_force(), files.reload(Act::Automatic).as_str()), (before, "unchanged"));
            assert_eq!(files.reload(Act::Deliberate), format!("loaded {after}"), "a deliberate one applies it");
        }
    }
}

#[test]
fn a_changed_key_file_is_a_change_and_so_is_a_swapped_link() {
    let template =
        "[[callback_templates]]\nname = 'a'\nurls = { recording_file = 'https://a.example/' }\nkeys = [{ id = 'k', file = 'data/key' }]";
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, key) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("key"), key).unwrap();
    }
    std::os::unix::fs::symlink("v1", at("data")).unwrap();
    fs::write(at("r.toml"), template).unwrap();
    let (store, _) = Store::open(&at("r.toml"), options()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let key = || store.snapshot().callback_template("a").unwrap().keys.keys()[0].key().to_vec();
    assert_eq!(key(), b"one");
    std::os::unix::fs::symlink("v2", at("next")).unwrap();
    fs::rename(at("next"), at("data")).unwrap();
    assert!(matches!(looks(&store, Act::Automatic), ReloadOutcome::Loaded { .. }));
    assert_eq!(key(), b"two");
    fs::remove_file(at("v2/key")).unwrap();
    assert!(matches!(looks(&store, Act::Automatic), ReloadOutcome::Refused(_)));
    assert_eq!(key(), b"two", "a key that went missing leaves the last good snapshot");
    fs::write(at("v2/key"), "three").unwrap();
    assert!(matches!(looks(&store, Act::Automatic), ReloadOutcome::Loaded { .. }));
    assert_eq!(key(), b"three");
}

#[test]
fn a_changed_client_certificate_is_a_change_and_one_without_its_key_is_refused() {
    let template = "[[callback_templates]]\nname = 'a'\nurls = { recording_file = 'https://a.example/' }\n\
                    client_certificate = { certificate = { file = 'pem' }, key = { file = 'key' } }";
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let made = || {
        let made = rcgen::generate_simple_self_signed(vec!["client.example".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let (first, second) = (made(), made());
    put("pem", &first.0);
    put("key", &first.1);
    put("r.toml", template);
    let (store, _) = Store::open(&folder.path().join("r.toml"), options()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let shown = || {
        let registry = store.snapshot();
        let url = registry.callback_template("a").unwrap().url(EventKind::RecordingFile).unwrap();
        (url.identity.as_ref().unwrap().fingerprint(), registry.digest())
    };
    let before = shown();
    put("pem", &second.0);
    assert!(matches!(looks(&store, Act::Automatic), ReloadOutcome::Refused(_)), "the first one's key");
    assert_eq!(shown(), before);
    put("key", &second.1);
    assert!(matches!(looks(&store, Act::Automatic), ReloadOutcome::Loaded { .. }));
    let after = shown();
    assert!(after.0 != before.0 && after.1 != before.1);
}

#[test]
fn an_automatic_reload_does_not_take_the_bindings_of_more_than_a_tenth_and_ten_domains_away() {
    const HEAD: &str = "[[callback_templates]]\nname = 'a'\nurls = { recording_file = 'https://a.example/' }\n";
    // Domains first, then bindings: what a copy that broke off would leave.
    let text = |count: usize, bound: usize| {
        let bindings = (0..bound).map(|at| format!("[[bindings]]\ndomain = 'd{at}.example'\ncallback_template = 'a'\n"));
        format!("{HEAD}{}{}", domains(count), bindings.collect::<String>())
    };
    for (count, bound, left, expected) in [
        (200, 200, 180, "loaded 200"),
        (200, 200, 179, "shrunk 200 0 21"),
        (200, 200, 0, "shrunk 200 0 200"),
        (20, 20, 10, "loaded 20"),
        (20, 20, 9, "shrunk 20 0 11"),
        (200, 0, 0, "loaded 200"),
    ] {
        let files = Reloaded::with(&text(count, bound));
        files.write(&format!("# changed\n{}[[accounts]]\nid = '7'\nstorage = 'active'\n", text(count, left)));
        assert_eq!(files.reload(Act::Automatic), expected, "{count}: {bound} to {left}");
        if expected.starts_with("shrunk") {
            assert_eq!(files.reload(Act::Deliberate), format!("loaded {count}"), "a deliberate one applies it");
        }
    }
    // Ten domains gone and one unbound are eleven that lost what they had.
    let files = Reloaded::with(&text(100, 100));
    files.write(&text(90, 89));
    assert_eq!(files.reload(Act::Automatic), "shrunk 100 10 1");
    // Bindings of paths stay, those of the whole domains are cut off.
    let of_paths = (0..20)
        .fold(text(20, 0), |text, at| text + &format!("[[bindings]]\ndomain = 'd{at}.example'\npath = 'p'\ncallback_template = 'a'\n"));
    let both =
        (0..20).fold(of_paths.clone(), |text, at| text + &format!("[[bindings]]\ndomain = 'd{at}.example'\ncallback_template = 'a'\n"));
    let files = Reloaded::with(&both);
    files.write(&of_paths);
    assert_eq!(files.reload(Act::Automatic), "shrunk 20 0 20");
    // An ended binding is a binding: `until` unbinds, and is never taken for a loss.
    let files = Reloaded::with(&text(100, 100));
    files.write(&text(100, 100).replace("callback_template = 'a'", "callback_template = 'a'\nuntil = 2026-01-01T00:00:00Z"));
    assert_eq!(files.reload(Act::Automatic), "loaded 100");
}

#[test]
fn an_automatic_reload_takes_no_templates_keys_away() {
    let text = |keys: &str| format!("[[callback_templates]]\nname = 'a'\nurls = {{ recording_file = 'https://a.example/' }}\n{keys}");
    let signed = text("keys = [{ id = 'k', value = '0123456789abcdefghij' }]");
    let files = Reloaded::with(&format!("{}{signed}", domains(2)));
    let keys = || files.store.snapshot().callback_template("a").unwrap().keys.keys().len();
    // Cut off behind the addresses.
    files.write(&format!("{}{}", domains(2), text("")));
    assert!(files.reload(Act::Automatic).contains("unsigned: [\"a\"]"));
    assert_eq!(keys(), 1);
    assert_eq!((files.reload(Act::Deliberate).as_str(), keys()), ("loaded 2", 0), "a deliberate one applies it");
    // One that never had any, another key, a template that is gone: nothing of that sends anything unsigned that was signed.
    for after in [text(""), signed.replace("0123", "3210"), String::new()] {
        let files = Reloaded::with(&format!("{}{}", domains(2), if after == text("") { &after } else { &signed }));
        files.write(&format!("# changed\n{}{after}", domains(2)));
        assert_eq!(files.reload(Act::Automatic), "loaded 2", "{after}");
    }
}

#[test]
fn an_automatic_reload_does_not_take_the_bindings_of_more_than_a_tenth_and_ten_paths_away() {
    // A domain that stays bound, and paths of it with an end and without.
    let text = |endless: usize, ending: usize| {
        let row = |path: String, more: &str| format!("[[bindings]]\ndomain = 'd0.example'\n{path}callback_template = 'a'\n{more}");
        let endless = (0..endless).map(|n| row(format!("path = 'p{n}'\n"), ""));
        let ending = (0..ending).map(|n| row(format!("path = 'e{n}'\n"), "until = 2026-01-01T00:00:00Z\n"));
        let rows: String = [row(String::new(), "")].into_iter().chain(endless).chain(ending).collect();
        format!("[[callback_templates]]\nname = 'a'\nurls = {{ recording_file = 'https://a.example/' }}\n{}{rows}", domains(1))
    };
    for (before, after, loaded) in
        [((100, 0), (90, 0), true), ((100, 0), (89, 0), false), ((200, 0), (0, 0), false), ((20, 50), (20, 0), true)]
    {
        let files = Reloaded::with(&text(before.0, before.1));
        files.write(&format!("# changed\n{}", text(after.0, after.1)));
        let found = files.reload(Act::Automatic);
        assert_eq!(found == "loaded 1", loaded, "{before:?} to {after:?}: {found}");
    }
}

#[test]
fn a_replaced_snapshot_is_freed_by_the_store_and_not_by_the_last_who_used_it() {
    let files = Reloaded::with(&domains(1));
    let used = files.store.snapshot();
    let watched = Arc::downgrade(&used);
    files.write(&domains(2));
    assert_eq!(files.reload(Act::Deliberate), "loaded 2");
    assert_eq!(files.reload(Act::Automatic), "unchanged");
    drop(used);
    assert!(watched.upgrade().is_some(), "kept, though nobody else holds it");
    assert_eq!(files.reload(Act::Automatic), "unchanged");
    assert!(watched.upgrade().is_none(), "freed at the next look");
}

#[test]
fn a_huge_file_is_refused_unread_and_the_last_good_one_stays() {
    let files = Reloaded::with(&domains(2));
    let path = files.folder.path().join("r.toml");
    // 4 TiB that take no room on the disk: reading them would take all of the memory.
    fs::File::create(&path).unwrap().set_len(4 << 40).unwrap();
    let start = Instant::now();
    let ReloadOutcome::Refused(problems) = looks(&files.store, Act::Automatic) else { panic!("not refused") };
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let told = format!("{}: cannot be read: it has more than 134217728 bytes; is it the right file?", path.display());
    assert_eq!(problems.iter().map(Problem::to_string).collect::<Vec<_>>(), [told]);
    assert_eq!((files.in_force(), files.reload(Act::Automatic).as_str()), (2, "unchanged"));
    files.write(&domains(3));
    assert_eq!(files.reload(Act::Automatic), "loaded 3");
}

#[test]
fn what_is_no_file_is_refused_with_what_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("file"), "").unwrap();
    symlink("gone", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    fs::write(at("latin"), b"# a\n# b\n# caf\xe9\n").unwrap();
    for (name, expected) in [
        ("folder", "folder: cannot be read: Is a directory (os error 21); it is a folder: name a file"),
        ("none", "none: cannot be read: No such file or directory (os error 2); create it, or mend the path"),
        ("dangling", "dangling: cannot be read: No such file or directory (os error 2); it is a link to gone, which is not there"),
        ("loop", "loop: cannot be read: Too many levels of symbolic links (os error 40); links lead round in a circle: mend the link"),
        (
            "file/below",
            "file/below: cannot be read: Not a directory (os error 20); a part of the path is a file, not a folder: mend the path",
        ),
        ("latin", "latin:3: is not UTF-8 text: TOML is"),
    ] {
        let problems = load_file(&at(name), &options()).err().unwrap_or_default();
        assert_eq!(problems.iter().map(Problem::to_string).collect::<Vec<_>>(), [at(expected).display().to_string()]);
    }
}

#[test]
fn a_registry_file_that_everyone_can_change_is_warned_about() {
    let files = Reloaded::with(&domains(1));
    let path = files.folder.path().join("r.toml");
    for (mode, warnings) in [
        (0o644, vec![]),
        (0o664, vec![]),
        (0o666, vec![format!("{}: can be changed by everyone on this machine: chmod o-w", path.display())]),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(load_file(&path, &options()).unwrap_or_else(|problems| panic!("{problems:?}")).warnings, warnings, "{mode:o}");
    }
}

#[test]
fn a_registry_without_domains_is_warned_about() {
    let warnings = parse("[[accounts]]\nid = '7'\nstorage = 'active'\n").unwrap_or_else(|problems| panic!("{problems:?}")).warnings;
    assert_eq!(warnings, ["r.toml:1: there is no domain in it: every event becomes a dead letter, unknown_domain"]);
}
