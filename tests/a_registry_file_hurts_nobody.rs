//! Whatever becomes of the registry file while the daemon runs, events are judged by the last good one: the file may be emptied, cut off, gone,
//! out of reach, huge, wrong or fought over.

use crate::harness::daemon::Daemon;
use crate::harness::kafka::New;
use crate::harness::latency::{by_phase, p99};
use crate::harness::receiver::Receiver;
use crate::harness::scene::{Scene, both, event, simple_registry};
use crate::harness::{Over, SOON, await_true};
use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// So many domains, d0.example and on.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("d{n}.example")).collect()
}

/// All of them with one template: domains first, then bindings, so that a file that was cut off has the former without the latter.
fn domains_then_bindings(count: usize, url: &str) -> String {
    let mut text = String::from("[[recording_templates]]\nname = \"rec\"\nformats = [\"mp4\"]\n\n");
    write!(text, "[[callback_templates]]\nname = \"cb\"\nurls = {{ recording_file = {url:?} }}\n\n").unwrap();
    for name in names(count) {
        write!(text, "[[domains]]\nname = {name:?}\n\n").unwrap();
    }
    for name in names(count) {
        write!(text, "[[bindings]]\ndomain = {name:?}\nrecording_template = \"rec\"\ncallback_template = \"cb\"\n\n").unwrap();
    }
    text
}

fn registry_file(scene: &Scene) -> PathBuf {
    scene.dir.join("registry.toml")
}

fn digest(daemon: &Daemon) -> f64 {
    daemon.metric("callbackd_registry_digest", &[])
}

/// Root reads everything, unless it gives that right up: then modes count for it as for anybody.
fn without_the_right_to_read_everything(scene: &mut Scene) {
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        scene.limits = "exec setpriv --bounding-set=-all --inh-caps=-all \"$0\" \"$@\"".into();
    }
}

#[test]
fn an_empty_cut_off_unreadable_huge_or_wrong_registry_changes_nothing() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("hurts-nobody", 1);
    without_the_right_to_read_everything(&mut scene);
    let good = domains_then_bindings(20, &receiver.url("/cb"));
    scene.registry = good.clone();
    let mut daemon = scene.start();
    let in_force = digest(&daemon);
    let file = registry_file(&scene);
    let first_binding = good.find("[[bindings]]").unwrap();
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let overlapping = format!("{good}[[bindings]]\ndomain = \"d7.example\"\ncallback_template = \"cb\"\n");
    type Harm<'a> = Box<dyn Fn() + 'a>;
    // What is done to the file, and what the log says of it.
    let harms: Vec<(&str, Harm<'_>, &str)> = vec![
        ("emptied", Box::new(|| write("")), "it would drop too many domains"),
        ("cut off within a row", Box::new(|| write(&good[..first_binding + 30])), "not TOML"),
        ("cut off after the domains", Box::new(|| write(&good[..first_binding])), "all their bindings"),
        (
            "cut off after a few bindings",
            Box::new(|| write(&good[..good.find("domain = \"d5.example\"").unwrap() - 13])),
            "all their bindings",
        ),
        ("half a character", Box::new(|| std::fs::write(&file, [good.as_bytes(), b"# caf\xc3"].concat()).unwrap()), "not UTF-8"),
        ("removed", Box::new(|| std::fs::remove_file(&file).unwrap()), "No such file"),
        (
            "unreadable",
            Box::new(|| {
                write(&good.replace("/cb", "/other"));
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
            }),
            "has mode 0000",
        ),
        (
            "a folder in its place",
            Box::new(|| {
                std::fs::remove_file(&file).unwrap();
                std::fs::create_dir(&file).unwrap();
            }),
            "it is a folder",
        ),
        (
            "a link to nowhere in its place",
            Box::new(|| {
                std::fs::remove_file(&file).unwrap();
                symlink("gone.toml", &file).unwrap();
            }),
            "it is a link to gone.toml",
        ),
        ("huge", Box::new(|| std::fs::File::create(&file).unwrap().set_len(1 << 40).unwrap()), "it has more than"),
        (
            "an unknown name",
            Box::new(|| write(&good.replace("\"cb\"\n\n[[bindings]]", "\"bc\"\n\n[[bindings]]"))),
            "there is no callback template",
        ),
        ("an unknown key", Box::new(|| write(&format!("{good}colour = \"blue\"\n"))), "unknown key"),
        ("overlapping rows", Box::new(|| write(&overlapping)), "overlaps in time"),
    ];
    let mut sent = 0;
    for (what, harm, said) in &harms {
        let told = daemon.log().lines().filter(|line| line.contains(said)).count();
        harm();
        daemon.wait_loaded(false);
        await_true(&format!("{what}: the log says {said:?}"), SOON, || daemon.log().lines().filter(|l| l.contains(said)).count() > told);
        assert!((digest(&daemon) - in_force).abs() < 0.5, "{what}: the last good registry stays");
        scene.produce(&[event("d7.example", sent), event("d19.example", sent + 1)]);
        sent += 2;
        receiver.wait(&format!("{what}: events are delivered"), SOON, |requests| requests.len() == sent);
        // Whatever is there now makes way for the good one.
        if file.is_dir() {
            std::fs::remove_dir(&file).unwrap();
        }
        scene.write_registry();
        daemon.wait_loaded(true);
    }
    scene.wait_committed_to_the_end();
    assert!(receiver.requests().iter().all(|request| request.path == "/cb"));
    assert!(scene.dead_letters().is_empty());
    assert!(daemon.metric("callbackd_events_settled_total", &["outcome=\"skipped\""]).abs() < f64::EPSILON, "none was skipped");
    assert!(daemon.peak_mib() < 256, "a huge file is not read: {} MiB", daemon.peak_mib());
    daemon.stop();
}

#[test]
fn a_reload_that_would_drop_more_than_ten_domains_and_a_tenth_needs_a_sighup() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("drop-some", 1);
    let registry = |count: usize| domains_then_bindings(count, &receiver.url("/cb"));
    let domains = |daemon: &Daemon| daemon.metric("callbackd_registry_entries", &["kind=\"domain\""]);
    let wait_domains = |daemon: &Daemon, count: f64| daemon.wait_metric("callbackd_registry_entries", &["kind=\"domain\""], count);
    scene.registry = registry(130);
    let mut daemon = scene.start();
    // Thirteen of 130 are a tenth, and no more.
    scene.registry = registry(117);
    scene.write_registry();
    wait_domains(&daemon, 117.0);
    // Twelve of 117 are more than a tenth and more than ten.
    scene.registry = registry(105);
    scene.write_registry();
    daemon.wait_loaded(false);
    assert!((domains(&daemon) - 117.0).abs() < f64::EPSILON);
    scene.produce(&[event("d116.example", 1)]);
    receiver.wait_for(1, SOON);
    daemon.signal("HUP");
    wait_domains(&daemon, 105.0);
    daemon.wait_loaded(true);
    scene.produce(&[event("d116.example", 2)]);
    await_true("the domain is unknown now", SOON, || !scene.dead_letters().is_empty());
    assert_eq!(scene.dead_letters()[0].header("callbackd-reason").as_deref(), Some("unknown_domain"));
    daemon.stop();
}

#[test]
fn a_file_that_this_user_may_not_read_is_told_with_who_owns_it() {
    let mut scene = Scene::without_topics("owner", "127.0.0.1:9");
    without_the_right_to_read_everything(&mut scene);
    let key = scene.dir.join("shop.key");
    std::fs::write(&key, "0123456789abcdefghijklmnopqrstuv").unwrap();
    scene.registry = simple_registry(&["shop.example"], "https://shop.example/cb", "keys = [{ id = \"k\", file = \"shop.key\" }]");
    let config = scene.write_config(9, 10);
    let check = || {
        let mut command =
            if scene.limits.is_empty() { crate::harness::scene::binary() } else { crate::harness::scene::binary_after(&scene.limits) };
        let done = command.args(["check", "--config"]).arg(&config).output().unwrap();
        (done.status.code(), both(&done))
    };
    let set_mode = |path: &PathBuf, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let owner = std::fs::metadata(&key).unwrap().uid();
    let line = 1 + scene.registry.lines().position(|line| line.contains("shop.key")).unwrap();

    set_mode(&key, 0o600);
    let (code, output) = check();
    assert!(code == Some(0) && !output.contains("everyone"), "{output}");
    set_mode(&key, 0o644);
    let (code, output) = check();
    let warned = format!("registry.toml:{line}: callback_templates[0].keys[0].file: ");
    assert!(code == Some(0) && output.lines().any(|l| l.contains(&warned) && l.contains("chmod o-r")), "{output}");
    set_mode(&key, 0o000);
    let (code, output) = check();
    let refused = format!("it has mode 0000 and belongs to user {owner}");
    assert!(code == Some(78) && output.lines().any(|l| l.contains(&warned) && l.contains(&refused)), "{output}");
    set_mode(&key, 0o600);
    set_mode(&registry_file(&scene), 0o000);
    let (code, output) = check();
    assert!(code == Some(78) && output.contains("registry.toml: cannot be read") && output.contains(&refused), "{output}");
    set_mode(&registry_file(&scene), 0o666);
    let (code, output) = check();
    assert!(code == Some(0) && output.contains("registry.toml: can be changed by everyone"), "{output}");
}

#[test]
fn two_writers_leave_one_registry_or_the_other_and_never_a_mixture() {
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("two-writers", 1);
    let all = names(30);
    let domains: Vec<&str> = all.iter().map(String::as_str).collect();
    // They differ at the beginning and at the end.
    let versions = ["a", "b"].map(|name| {
        let text = simple_registry(&domains, &receiver.url(&format!("/{name}")), "");
        format!("{text}[[bindings]]\ndomain = \"d0.example\"\npath = {name:?}\ncallback_template = \"cb\"\n")
    });
    let mut digests = Vec::new();
    scene.registry = versions[0].clone();
    let mut daemon = scene.start();
    digests.push(digest(&daemon));
    scene.registry = versions[1].clone();
    scene.write_registry();
    await_true("the other is in force", SOON, || (digest(&daemon) - digests[0]).abs() > 0.5);
    digests.push(digest(&daemon));

    let file = registry_file(&scene);
    let over = AtomicBool::new(false);
    let mut seen = [false; 2];
    std::thread::scope(|threads| {
        let ending = Over(&over);
        for (writer, text) in versions.iter().enumerate() {
            let (over, file, dir) = (&over, &file, &scene.dir);
            threads.spawn(move || {
                // Each replaces the file, as editors and tools do it.
                while !over.load(Ordering::Relaxed) {
                    let fresh = dir.join(format!("writer-{writer}"));
                    std::fs::write(&fresh, text).unwrap();
                    std::fs::rename(&fresh, file).unwrap();
                    std::thread::sleep(Duration::from_millis(7 + 4 * writer as u64));
                }
            });
        }
        let start = Instant::now();
        let mut number = 0;
        while start.elapsed() < Duration::from_secs(8) {
            // A deliberate reload reads whatever is there at that moment.
            daemon.signal("HUP");
            let now = digest(&daemon);
            let which = digests.iter().position(|known| (known - now).abs() < 0.5);
            seen[which.expect("one of both, never a mixture")] = true;
            scene.produce(&[event(domains[number % 30], number)]);
            number += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(ending);
        receiver.wait(&format!("{number} events"), SOON, |requests| requests.len() == number);
    });
    assert_eq!(seen, [true, true], "both were in force at times");
    let last = std::fs::read_to_string(&file).unwrap();
    let which = versions.iter().position(|text| *text == last).unwrap();
    await_true("what was written last is in force", SOON, || (digest(&daemon) - digests[which]).abs() < 0.5);
    daemon.wait_loaded(true);
    scene.wait_committed_to_the_end();
    assert!(scene.dead_letters().is_empty());
    daemon.stop();
}

/// `sign` of a body: lower-case hex MD5 of key and `t`.
fn is_signed_with(body: &[u8], key: &str) -> bool {
    use md5::Digest as _;
    let event: serde_json::Value = serde_json::from_slice(body).unwrap();
    let expected = hex::encode(md5::Md5::digest(format!("{key}{}", event["t"])));
    event["sign"] == expected
}

#[test]
fn a_mounted_folder_that_is_swapped_is_taken_over_as_a_whole() {
    let receiver = Receiver::agreeable();
    let scene = Scene::new("mounted", 1);
    // As Kubernetes mounts a ConfigMap: names are links through `..data`, which is swapped.
    let key = |version: usize| format!("the-key-of-version-{version}-0123456789");
    let lay_out = |version: usize| {
        let name = format!("..2026_11_25_{version:02}");
        let folder = scene.dir.join(&name);
        std::fs::create_dir(&folder).unwrap();
        let keys = "keys = [{ id = \"k\", file = \"shop.key\" }]";
        std::fs::write(folder.join("registry.toml"), simple_registry(&["shop.example"], &receiver.url(&format!("/{version}")), keys))
            .unwrap();
        std::fs::write(folder.join("shop.key"), key(version)).unwrap();
        symlink(&name, scene.dir.join("..data_tmp")).unwrap();
        std::fs::rename(scene.dir.join("..data_tmp"), scene.dir.join("..data")).unwrap();
    };
    scene.create_topics();
    let (port, admin) = (crate::harness::processes::free_port(), crate::harness::processes::free_port());
    let config = scene.write_config(port, admin);
    lay_out(0);
    for name in ["registry.toml", "shop.key"] {
        let _ = std::fs::remove_file(scene.dir.join(name));
        symlink(format!("..data/{name}"), scene.dir.join(name)).unwrap();
    }
    let mut daemon = Daemon::launch(&scene.dir, &config, port, "", &[]);
    daemon.wait_ready();
    let mut number = 0;
    for version in 0..4 {
        if version > 0 {
            let before = digest(&daemon);
            lay_out(version);
            std::fs::remove_dir_all(scene.dir.join(format!("..2026_11_25_{:02}", version - 1))).unwrap();
            await_true("the swapped folder is in force", Duration::from_secs(15), || {
                scene.produce(&[event("shop.example", number)]);
                number += 1;
                (digest(&daemon) - before).abs() > 0.5
            });
        }
        scene.produce(&[event("shop.example", number)]);
        number += 1;
        receiver.wait(&format!("version {version}"), SOON, |requests| {
            requests.len() == number && requests.last().is_some_and(|request| request.path == format!("/{version}"))
        });
    }
    for request in receiver.requests() {
        let version: usize = request.path[1..].parse().unwrap();
        assert!(is_signed_with(&request.body, &key(version)), "address and key are of one version: {}", request.path);
    }
    // Only the key: its content is not in the digest, the next callbacks tell.
    std::fs::write(scene.dir.join("..data/shop.key"), key(9)).unwrap();
    await_true("the new key signs", Duration::from_secs(15), || {
        scene.produce(&[event("shop.example", number)]);
        number += 1;
        receiver.wait(&format!("{number} events"), SOON, |requests| requests.len() == number);
        is_signed_with(&receiver.requests()[number - 1].body, &key(9))
    });
    daemon.wait_loaded(true);
    daemon.stop();
}

#[test]
fn a_hundred_thousand_bindings_are_loaded_and_reloaded_beside_the_events() {
    const COUNT: usize = 100_000;
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("hundred-thousand", 1);
    scene.log_level = "info";
    let [first, others @ ..] = ["/a", "/b", "/c", "/d"].map(|path| domains_then_bindings(COUNT, &receiver.url(path)));
    scene.registry = first;
    scene.create_topics();
    let start = Instant::now();
    let mut daemon = scene.launch();
    daemon.wait_ready();
    println!("ready after {:?}", start.elapsed());
    daemon.wait_metric("callbackd_registry_entries", &["kind=\"binding\""], COUNT as f64);

    // An event each 5 ms; when each was sent.
    let over = AtomicBool::new(false);
    let (quiet, busy) = std::thread::scope(|threads| {
        let ending = Over(&over);
        let producing = threads.spawn(|| {
            let mut sent = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let n = sent.len();
                let id = n.to_string();
                sent.push(Instant::now());
                scene
                    .producer
                    .send(scene.source(), &New::value(event(&format!("d{}.example", n * 7919 % COUNT), n)).header("callbackd-id", id));
                std::thread::sleep(Duration::from_millis(5));
            }
            scene.producer.flush();
            sent
        });
        let mut phases = vec![Instant::now()];
        std::thread::sleep(Duration::from_secs(6));
        phases.push(Instant::now());
        for text in &others {
            let before = digest(&daemon);
            std::fs::write(scene.dir.join("next"), text).unwrap();
            std::fs::rename(scene.dir.join("next"), registry_file(&scene)).unwrap();
            daemon.signal("HUP");
            await_true("the changed registry is in force", SOON, || (digest(&daemon) - before).abs() > 0.5);
        }
        phases.push(Instant::now());
        std::thread::sleep(Duration::from_secs(6));
        phases.push(Instant::now());
        drop(ending);
        let sent = producing.join().unwrap();
        receiver.wait_for(sent.len(), SOON);
        let latencies = by_phase(&phases, &sent, &receiver.requests(), |request| request.id().parse().unwrap());
        println!("{} events while three reloads took {:?}", latencies[1].len(), phases[2] - phases[1]);
        let [before, reloading, after] = latencies.map(p99);
        (before.max(after), reloading)
    });
    println!("p99 {quiet:.1} ms quiet, {busy:.1} ms while reloading; at most {} MiB", daemon.peak_mib());
    // Reading takes a whole core for seconds here, beside broker and receiver on the same machine: 50 ms for that, where an engine that stood
    // still for each reload would be behind by as long as the reload takes.
    assert!(busy <= (2.0 * quiet).max(quiet + 50.0), "p99 {busy:.1} ms while reloading, {quiet:.1} ms without");
    assert!(daemon.peak_mib() < 640, "{} MiB", daemon.peak_mib());
    scene.wait_committed_to_the_end();
    assert!(scene.dead_letters().is_empty());
    daemon.stop();
}
