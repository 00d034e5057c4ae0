//! The metrics port under attack: slow requests, endless ones, nonsense, and connections by the thousand. Probes are answered and deliveries
//! go on.

use crate::harness::daemon::Daemon;
use crate::harness::receiver::Receiver;
use crate::harness::scene::{Scene, event, simple_registry};
use crate::harness::{Over, SOON};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What attackers write, on a connection each, again and again.
const NONSENSE: [&[u8]; 6] = [
    b"GET /metrics HTTP/1.1\r\nx: ",
    b"\0\x01\x02\xff\r\n\r\n",
    b"GET /metrics HTTP/9.9\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

fn connect(daemon: &Daemon) -> Option<TcpStream> {
    let tcp = TcpStream::connect(("127.0.0.1", daemon.port)).ok()?;
    tcp.set_write_timeout(Some(Duration::from_secs(1))).ok()?;
    tcp.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    Some(tcp)
}

#[test]
fn floods_at_the_metrics_port_keep_neither_probes_nor_deliveries_waiting() {
    const EVENTS: usize = 200;
    let receiver = Receiver::agreeable();
    let mut scene = Scene::new("floods", 2);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "");
    let mut daemon = scene.start();
    let before = daemon.peak_mib();
    let (over, attacks, slowest) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        let ending = Over(&over);
        // Slow: all places and more, a byte now and then; five hundred new ones a second.
        threads.spawn(|| {
            let mut held: Vec<TcpStream> = Vec::new();
            while !over.load(Ordering::Relaxed) {
                held.retain_mut(|tcp| tcp.write_all(b"x").is_ok());
                let more = 200_usize.saturating_sub(held.len()).min(10);
                held.extend((0..more).filter_map(|_| connect(&daemon)));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        // Valid, and without end: twenty connections that ask a hundred times each before they read.
        for _ in 0..20 {
            let (daemon, over, attacks) = (&daemon, &over, &attacks);
            threads.spawn(move || {
                let many = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(100);
                while !over.load(Ordering::Relaxed) {
                    let Some(mut tcp) = connect(daemon) else { continue };
                    let _ = tcp.write_all(&many);
                    while tcp.read(&mut [0; 16 * 1024]).is_ok_and(|n| n > 0) {}
                    attacks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Endless, or no HTTP at all.
        for bytes in NONSENSE {
            let (daemon, over, attacks) = (&daemon, &over, &attacks);
            threads.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let Some(mut tcp) = connect(daemon) else { continue };
                    let _ = tcp.write_all(bytes);
                    for _ in 0..64 {
                        if tcp.write_all(&[b'y'; 4096]).is_err() {
                            break;
                        }
                    }
                    let _ = tcp.read(&mut [0; 512]);
                    attacks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while attacks.load(Ordering::Relaxed) < 50 {
            std::thread::sleep(Duration::from_millis(10));
        }
        for number in 0..EVENTS {
            scene.produce(&[event("shop.example", number)]);
            if number % 10 == 0 {
                let start = Instant::now();
                let answers = [daemon.livez(), daemon.readyz()];
                assert!(answers.iter().flatten().filter(|(status, _)| *status == 200).count() == 2, "{answers:?}");
                slowest.fetch_max(usize::try_from(start.elapsed().as_millis()).unwrap(), Ordering::Relaxed);
            }
        }
        receiver.wait_for(EVENTS, SOON);
        drop(ending);
    });
    let (slowest, after) = (slowest.into_inner(), daemon.peak_mib());
    println!("{} attacks, the slowest two probes took {slowest} ms, memory {before} to {after} MiB", attacks.into_inner());
    assert!(slowest < 5000, "{slowest} ms for two probes");
    assert!(after <= before + 32, "{before} to {after} MiB");
    assert_eq!(receiver.count(), EVENTS);
    daemon.stop();
}
