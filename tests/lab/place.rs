//! One round's running cluster, and what can be done to it.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use failover_agent::runtime::status::Snapshot;
use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::process::{Pid, Signal, kill_process};

use super::delay::Delays;
use super::faults::{Act, Drawn, Need, Sig, Way, Whom};
use super::lab::{AGENT, Disk, Lab, SOON};
use super::settings::{OFFERED, Settings};
use super::support::processes::{is_zombie, processes_in};
use super::support::wait_until_blocking;
use super::wires::{HOSTS, Host, Rule, SITES};

/// Where Debian puts the library that fakes the wall clock.
const FAKETIME: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// A running cluster.
#[derive(Debug)]
pub struct Place<'lab> {
    pub lab: &'lab Lab,
    settings: Settings,
    members: [Option<Child>; 3],
    /// How many faults keep a host without power.
    outages: [u32; 3],
    fake_clock: bool,
}

/// What cannot be broken here, and why.
pub fn missing(lab: &Lab, need: Need) -> Option<&'static str> {
    match need {
        Need::Nothing | Need::Delays => None,
        Need::Guard => {
            let mut guard = lab.wires.command(Host::Fra, Path::new(AGENT));
            let known = guard.args(["guard", "--help"]).output();
            let known = known.is_ok_and(|output| output.status.success());
            (!known).then_some("the agent has no guard yet")
        }
        Need::Faketime => faketime()
            .is_none()
            .then_some("libfaketime is not installed"),
    }
}

fn faketime() -> Option<PathBuf> {
    let mut places = FAKETIME.iter().map(PathBuf::from);
    places.find(|place| place.exists())
}

impl<'lab> Place<'lab> {
    /// A fresh pair, its agents and the witness, all running; fra is primary, ams follows.
    pub async fn start(lab: &'lab Lab, ttl: &'static str, drawn: &[Drawn]) -> Self {
        let needs = |need| drawn.iter().any(|drawn| drawn.fault.need == need);
        let delays = needs(Need::Delays).then(|| Delays::build(&lab.wires, &OFFERED));
        let settings = Settings {
            ttl,
            delays,
            ..Settings::default()
        };
        Self::start_as(lab, settings, needs(Need::Faketime)).await
    }

    /// As [`Self::start`], with settings of the caller's own.
    pub async fn start_as(lab: &'lab Lab, settings: Settings, fake_clock: bool) -> Self {
        lab.reset(&settings);
        let mut place = Self {
            lab,
            settings,
            members: [None, None, None],
            outages: [0; 3],
            fake_clock,
        };
        for host in HOSTS {
            fs::write(place.clock_file(host), "+0").expect("the clock");
        }
        std::thread::scope(|scope| {
            for site in SITES {
                let clock = place.clock_env(site);
                scope.spawn(move || lab.start_node(site, &clock));
            }
        });
        for host in HOSTS {
            place.start_member(host);
        }
        place.wait_settled().await;
        place
    }

    async fn wait_settled(&self) {
        let settled = || async {
            let fra = self.status(Host::Fra);
            let ams = self.status(Host::Ams);
            fra.is_some_and(|fra| fra.active && fra.run.is_none())
                && ams.is_some_and(|ams| ams.phase == "watching" && ams.lease.view == "other")
                && self.streams().await
        };
        let began = Instant::now();
        while !settled().await {
            if began.elapsed() > SOON {
                let logs = HOSTS.map(|host| fs::read_to_string(self.lab.log(host)));
                panic!("fra is not active, or ams does not follow: {logs:#?}");
            }
            // bounded: by SOON
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether the standby follows without a gap.
    async fn streams(&self) -> bool {
        let Ok(client) = self.lab.connect(Host::Fra).await else {
            return false;
        };
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        let row = client.query_one(sql, &[]).await;
        row.is_ok_and(|row| row.get::<_, i64>(0) == 1)
    }

    /// What `agent status --json` says at a site, if its agent answers.
    pub fn status(&self, site: Host) -> Option<Snapshot> {
        let socket = self.lab.run_dir(site).join("agent.sock");
        let mut ask = self.lab.wires.command(site, Path::new("timeout"));
        ask.args(["3", AGENT, "--json", "status", "--socket"])
            .arg(socket);
        let said = ask.output().ok()?;
        serde_json::from_slice(&said.stdout).ok()
    }

    pub fn postmaster(&self, site: Host) -> Option<u32> {
        let file = self.lab.data_dir(site).join("postmaster.pid");
        let text = fs::read_to_string(file).ok()?;
        let pid = text.lines().next()?.parse().ok()?;
        (is_zombie(pid) == Some(false)).then_some(pid)
    }

    /// Breaks a fault; a note if there was nothing to break.
    pub fn breaks(&mut self, owner: usize, drawn: &Drawn) -> Option<String> {
        if let Some(why) = missing(self.lab, drawn.fault.need) {
            return Some(format!("skipped: {why}"));
        }
        self.act_all(owner, drawn.fault.breaks, drawn.hosts)
    }

    pub fn heals(&mut self, owner: usize, drawn: &Drawn) -> Option<String> {
        self.act_all(owner, drawn.fault.heals, drawn.hosts)
    }

    /// Act by act, not host by host: the power of two hosts fails at once.
    fn act_all(&mut self, owner: usize, acts: &[Act], hosts: &[Host]) -> Option<String> {
        let mut notes = Vec::new();
        for act in acts {
            for host in hosts {
                notes.extend(self.act(owner, *act, *host));
            }
        }
        (!notes.is_empty()).then(|| notes.join(", "))
    }

    fn act(&mut self, owner: usize, act: Act, host: Host) -> Option<String> {
        match act {
            Act::Send(signal, whom) => return self.signal(signal, whom, host),
            Act::StartMember => self.start_member(host),
            Act::PowerOff => {
                self.outages[host.index()] += 1;
                let killed = self.lab.power_off(host);
                if let Some(mut dead) = self.members[host.index()].take() {
                    drop(dead.wait());
                }
                // A host that boots knows nothing of its former processes, dead ones included.
                wait_until_blocking("the dead are reaped", SOON, || {
                    killed.iter().all(|pid| is_zombie(*pid).is_none())
                });
            }
            Act::PowerOn => {
                self.outages[host.index()] -= 1;
                self.start_member(host);
            }
            Act::Trouble(way, trouble) => {
                let rule = |(from, to)| Rule {
                    owner,
                    from,
                    to,
                    trouble,
                };
                self.lab
                    .wires
                    .trouble(ways(way, host).into_iter().map(rule));
            }
            Act::Late(way, millis) => self.late(way, host, Duration::from_millis(millis)),
            Act::Mend => {
                self.lab.wires.mend(owner);
                self.late(Way::All, host, Duration::ZERO);
            }
            Act::Fill(disk) => fill(&self.ballast(host, disk)),
            Act::Free(disk) => drop(fs::remove_file(self.ballast(host, disk))),
            Act::Clock(offset) => {
                fs::write(self.clock_file(host), offset).expect("the clock");
                let off = self.lab.clock_of_node(host);
                return Some(format!("the node's clock is off by {off:?} s"));
            }
        }
        None
    }

    fn late(&self, way: Way, host: Host, late: Duration) {
        if let Some(delays) = &self.settings.delays {
            for (from, to) in ways(way, host) {
                delays.set(from, to, late / 2);
            }
        }
    }

    fn ballast(&self, host: Host, disk: Disk) -> PathBuf {
        self.lab.disk(host, disk).join("ballast")
    }

    fn clock_file(&self, host: Host) -> PathBuf {
        self.lab.dir(host).join("clock")
    }

    /// What makes a program's wall clock follow the host's clock file.
    ///
    /// The agent reads its clocks without libc, which no preloaded library sees; its node does not.
    fn clock_env(&self, host: Host) -> Vec<(&'static str, PathBuf)> {
        let library = faketime().filter(|_| self.fake_clock);
        let Some(library) = library else {
            return Vec::new();
        };
        vec![
            ("LD_PRELOAD", library),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_TIMESTAMP_FILE", self.clock_file(host)),
        ]
    }

    fn signal(&self, signal: Sig, whom: Whom, host: Host) -> Option<String> {
        let pids = self.find(whom, host);
        if pids.is_empty() {
            return Some(format!("no {whom:?} at {}", host.name()));
        }
        let signal = match signal {
            Sig::Kill => Signal::KILL,
            Sig::Stop => Signal::STOP,
            Sig::Cont => Signal::CONT,
        };
        for pid in &pids {
            let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
            // It may have ended meanwhile.
            pid.and_then(|pid| kill_process(pid, signal).ok());
        }
        if signal == Signal::KILL && matches!(whom, Whom::Member | Whom::Guard) {
            // Or its supervisor would take it for running, and not start it again.
            wait_until_blocking("the killed have died", SOON, || {
                pids.iter().all(|pid| is_zombie(*pid) != Some(false))
            });
        }
        None
    }

    fn find(&self, whom: Whom, host: Host) -> Vec<u32> {
        match whom {
            Whom::Postmaster => self.postmaster(host).into_iter().collect(),
            Whom::Postgres => processes_in(&self.lab.data_dir(host)),
            Whom::Member => {
                let child = self.members[host.index()].as_ref();
                let alive = child.map(Child::id);
                alive
                    .filter(|pid| is_zombie(*pid) == Some(false))
                    .into_iter()
                    .collect()
            }
            Whom::Guard => {
                let mut pids = self.lab.wires.processes(host);
                pids.retain(|pid| {
                    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    line.split(|byte| *byte == 0).nth(1) == Some(b"guard")
                });
                pids
            }
        }
    }

    /// Starts the agent or witness of a host, unless it runs or there is no power.
    fn start_member(&mut self, host: Host) {
        let member = &mut self.members[host.index()];
        if let Some(child) = member
            && child.try_wait().is_ok_and(|ended| ended.is_none())
            && is_zombie(child.id()) == Some(false)
        {
            return;
        }
        if self.outages[host.index()] > 0 {
            return;
        }
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.lab.log(host))
            .expect("a log");
        let mut command = self.lab.wires.command(host, Path::new(AGENT));
        let word = if host == Host::Witness {
            "witness"
        } else {
            "run"
        };
        command
            .args([word, "--config"])
            .arg(self.lab.settings_file(host));
        command.env("NO_COLOR", "1").current_dir("/");
        command.envs(self.clock_env(host));
        command
            .stdout(log.try_clone().expect("the same log"))
            .stderr(log);
        self.members[host.index()] = Some(command.spawn().expect("the member starts"));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        for host in HOSTS {
            if !std::thread::panicking() {
                self.lab.power_off(host);
            }
            if let Some(mut member) = self.members[host.index()].take() {
                drop(member.kill());
                drop(member.wait());
            }
        }
    }
}

/// Both ends of every way.
fn ways(way: Way, host: Host) -> Vec<(Host, Host)> {
    let other = match host {
        Host::Fra => Host::Ams,
        Host::Ams | Host::Witness => Host::Fra,
    };
    let all: Vec<Host> = host.others().collect();
    let (out, back): (Vec<Host>, Vec<Host>) = match way {
        Way::All => (all.clone(), all),
        Way::Out => (all, vec![]),
        Way::In => (vec![], all),
        Way::Other => (vec![other], vec![other]),
        Way::OtherOut => (vec![other], vec![]),
        Way::OtherIn => (vec![], vec![other]),
        Way::Witness => (vec![Host::Witness], vec![Host::Witness]),
    };
    let out = out.into_iter().map(|to| (host, to));
    let back = back.into_iter().map(|from| (from, host));
    out.chain(back).filter(|(from, to)| from != to).collect()
}

/// Fills a disk to its last byte.
fn fill(ballast: &Path) {
    let mut file = fs::File::create(ballast).expect("ballast");
    let disk = fstatvfs(&file).expect("the disk tells its size");
    // At once what there is room for, then what others gave back meanwhile.
    fallocate(
        &file,
        FallocateFlags::empty(),
        0,
        disk.f_bavail * disk.f_frsize,
    )
    .ok();
    file.seek(SeekFrom::End(0)).expect("its end");
    let mut piece = vec![0_u8; 1 << 16];
    while !piece.is_empty() {
        if file.write_all(&piece).is_err() {
            let half = piece.len() / 2;
            piece.truncate(half);
        }
    }
}
