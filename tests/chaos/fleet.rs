//! The replicas: `callbackd run` as processes of one group. Each launch has a number, and a registry file that differs in one header, so that
//! receivers can tell who sent a request.

use super::{Millis, SESSION, now};
use crate::harness::daemon::Daemon;
use crate::harness::scene::Scene;
use std::path::PathBuf;

/// How a launch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By SIGKILL.
    Killed,
    /// After SIGTERM, with this exit code.
    Stopped(i32),
    /// By itself, with this exit code.
    Alone(i32),
}

/// What happened to one launch.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) number: u32,
    /// SIGSTOP to SIGCONT.
    pub(crate) freezes: Vec<(Millis, Millis)>,
    /// SIGTERM.
    pub(crate) asked: Option<Millis>,
    pub(crate) ended: Option<(Millis, End)>,
    /// Moments at which it said that the group went on without it.
    pub(crate) lost: Vec<Millis>,
    /// Moments at which it said that a final commit was not accepted.
    pub(crate) refused: Vec<Millis>,
    /// Moments at which it said that attempts had outlived the grace of a revoke.
    pub(crate) late: Vec<Millis>,
}

impl Life {
    /// The freezes after which others had its partitions.
    pub(crate) fn zombie(&self) -> impl Iterator<Item = &(Millis, Millis)> {
        self.freezes.iter().filter(|(from, to)| to.saturating_sub(*from) >= SESSION - 1_000)
    }
}

struct Replica {
    life: Life,
    daemon: Daemon,
    frozen: bool,
}

/// All launches of a run.
pub(crate) struct Fleet {
    scene: Scene,
    root: PathBuf,
    /// The registry's text but for the replica's number, which stands as `REPLICA`.
    registry: String,
    running: Vec<Replica>,
    over: Vec<Life>,
    launched: u32,
}

impl Fleet {
    /// Of this scene, whose topics exist.
    pub(crate) fn new(scene: Scene) -> Self {
        let (root, registry) = (scene.dir.clone(), scene.registry.clone());
        Self { scene, root, registry, running: Vec::new(), over: Vec::new(), launched: 0 }
    }

    /// Starts one more; its number.
    pub(crate) fn launch(&mut self) -> u32 {
        self.launched += 1;
        let number = self.launched;
        self.scene.dir = self.root.join(format!("replica-{number}"));
        std::fs::create_dir_all(&self.scene.dir).unwrap();
        self.scene.registry = self.registry.replace("REPLICA", &number.to_string());
        let daemon = self.scene.launch();
        self.scene.dir.clone_from(&self.root);
        let life = Life { number, freezes: vec![], asked: None, ended: None, lost: vec![], refused: vec![], late: vec![] };
        self.running.push(Replica { life, daemon, frozen: false });
        number
    }

    pub(crate) fn wait_ready(&mut self) {
        self.running.iter_mut().for_each(|r| r.daemon.wait_ready());
    }

    /// Those that run, are not frozen and were not asked to end.
    pub(crate) fn active(&self) -> Vec<u32> {
        self.running.iter().filter(|r| !r.frozen && r.life.asked.is_none()).map(|r| r.life.number).collect()
    }

    /// Those whose process is there.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.running.iter().map(|r| r.life.number).collect()
    }

    /// How many processes there are.
    pub(crate) fn size(&self) -> usize {
        self.running.len()
    }

    fn find(&mut self, number: u32) -> Option<&mut Replica> {
        self.running.iter_mut().find(|r| r.life.number == number)
    }

    /// The running daemon of this number.
    pub(crate) fn daemon(&mut self, number: u32) -> &mut Daemon {
        &mut self.find(number).unwrap().daemon
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, number: u32) {
        if let Some(replica) = self.find(number) {
            replica.daemon.kill();
            replica.life.ended = Some((now(), End::Killed));
        }
        self.tend();
    }

    /// SIGTERM.
    pub(crate) fn ask_to_end(&mut self, number: u32) {
        if let Some(replica) = self.find(number)
            && replica.daemon.is_running()
        {
            replica.life.asked = Some(now());
            replica.daemon.signal("TERM");
        }
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&mut self, number: u32) {
        if let Some(replica) = self.find(number)
            && replica.daemon.is_running()
        {
            replica.life.freezes.push((now(), Millis::MAX));
            replica.frozen = true;
            replica.daemon.signal("STOP");
        }
    }

    /// SIGCONT.
    pub(crate) fn thaw(&mut self, number: u32) {
        if let Some(replica) = self.find(number)
            && replica.frozen
        {
            replica.frozen = false;
            replica.daemon.signal("CONT");
            if let Some(last) = replica.life.freezes.last_mut() {
                last.1 = now();
            }
        }
    }

    /// Notes who has ended.
    pub(crate) fn tend(&mut self) {
        for mut replica in std::mem::take(&mut self.running) {
            if replica.life.ended.is_none() && !replica.daemon.is_running() {
                let code = replica.daemon.wait_exit(std::time::Duration::ZERO);
                let end = if replica.life.asked.is_some() { End::Stopped(code) } else { End::Alone(code) };
                replica.life.ended = Some((now(), end));
            }
            if replica.life.ended.is_some() {
                self.over.push(told(replica));
            } else {
                self.running.push(replica);
            }
        }
    }

    /// SIGTERM to all, and their ends; what happened to every launch, and the scene.
    pub(crate) fn finish(mut self, patience: std::time::Duration) -> (Vec<Life>, Scene) {
        for number in self.running.iter().map(|r| r.life.number).collect::<Vec<_>>() {
            self.thaw(number);
            self.ask_to_end(number);
        }
        let start = std::time::Instant::now();
        while self.size() > 0 && start.elapsed() < patience {
            self.tend();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        self.over.extend(self.running.drain(..).map(told));
        self.over.sort_by_key(|life| life.number);
        (self.over, self.scene)
    }
}

/// Its life, with what its log says about commits and partitions: nobody else can know.
fn told(replica: Replica) -> Life {
    let mut life = replica.life;
    for line in replica.daemon.log().lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let message = line["message"].as_str().unwrap_or("");
        let at = || line["timestamp"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok()).map_or(0, jiff::Timestamp::as_millisecond);
        if message.starts_with("partitions lost") {
            life.lost.push(at());
        } else if message.starts_with("the final commit") {
            life.refused.push(at());
        } else if message == "partitions revoked" && line["late"].as_u64().is_some_and(|late| late > 0) {
            life.late.push(at());
        }
    }
    life
}
