//! The binary as nobody, without capabilities, on a root that cannot be written: it delivers, ends as it should, and listens nowhere but where
//! its configuration says.

use crate::harness::SOON;
use crate::harness::receiver::Receiver;
use crate::harness::scene::{Scene, event, simple_registry};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// Run before the daemon, in its process: a mount namespace of its own whose root is read-only; then nobody, with no capability to be had back.
const CONFINED: &str = r#"exec unshare -m sh -ec '
mount --make-rprivate /
mount -o remount,bind,ro /
exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$0" "$@"' "$0" "$@""#;

/// As root of a user namespace, where that is all one may be: no capability counts outside of it.
const CONFINED_BY_A_USER: &str = r#"exec unshare -rm sh -ec '
mount --make-rprivate /
mount -o remount,bind,ro /
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$0" "$@"' "$0" "$@""#;

/// A field of `/proc/<id>/status`.
fn status(id: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().to_owned()
}

/// The local ports on which the process listens.
fn listening(id: u32) -> HashSet<u16> {
    let of_process: HashSet<String> = fs::read_dir(format!("/proc/{id}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut ports = HashSet::new();
    for table in ["tcp", "tcp6"] {
        for line in fs::read_to_string(format!("/proc/{id}/net/{table}")).unwrap_or_default().lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            // 0A: it listens.
            if words[3] == "0A" && of_process.contains(words[9]) {
                ports.insert(u16::from_str_radix(words[1].rsplit(':').next().unwrap(), 16).unwrap());
            }
        }
    }
    ports
}

#[test]
fn as_nobody_on_a_read_only_root_it_delivers_and_listens_only_where_configured() {
    const EVENTS: usize = 50;
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("nobody", 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    scene.limits = (if root { CONFINED } else { CONFINED_BY_A_USER }).to_owned();
    let mut daemon = scene.start();

    let id = daemon.id();
    assert!(!root || status(id, "Uid") == "65534");
    assert_eq!((status(id, "CapBnd"), status(id, "NoNewPrivs")), ("0000000000000000".to_owned(), "1".to_owned()));
    assert!(!root || status(id, "CapEff") == "0000000000000000");
    let mounts = fs::read_to_string(format!("/proc/{id}/mountinfo")).unwrap();
    let root_mount = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root_mount.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root_mount}");

    let events: Vec<String> = (0..EVENTS).map(|number| event("shop.example", number)).collect();
    scene.produce(&events);
    receiver.wait_for(EVENTS, SOON);
    scene.wait_committed_to_the_end();
    assert_eq!(listening(id), HashSet::from([daemon.port]));
    // A file of its own it has none: what it holds open to write is where its output goes.
    for entry in fs::read_dir(format!("/proc/{id}/fd")).unwrap().flatten() {
        let path = fs::read_link(entry.path()).unwrap();
        assert!(!path.is_absolute() || path == daemon.log_file || path.starts_with("/dev") || !Path::new(&path).is_file(), "{path:?}");
    }
    daemon.stop();
}
