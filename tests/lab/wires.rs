//! Three hosts as network namespaces, joined by veths and a bridge in a fourth one.
//!
//! Nothing of it is seen from outside: addresses, bridge and rules live in namespaces that the lab
//! makes and removes. Every packet is judged where it arrives, by its sender, so that each
//! direction of each pair of hosts can be broken on its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::support::programs::run;

/// A host of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    Fra,
    Ams,
    Witness,
}

pub const HOSTS: [Host; 3] = [Host::Fra, Host::Ams, Host::Witness];
/// The hosts with a node; the primary begins at the first.
pub const SITES: [Host; 2] = [Host::Fra, Host::Ams];

impl Host {
    pub fn name(self) -> &'static str {
        match self {
            Self::Fra => "fra",
            Self::Ams => "ams",
            Self::Witness => "witness",
        }
    }

    pub fn index(self) -> usize {
        self as usize
    }

    pub fn address(self) -> &'static str {
        match self {
            Self::Fra => "10.231.0.1",
            Self::Ams => "10.231.0.2",
            Self::Witness => "10.231.0.3",
        }
    }

    pub fn others(self) -> impl Iterator<Item = Self> {
        HOSTS.into_iter().filter(move |other| *other != self)
    }
}

/// What happens to packets on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// They vanish.
    Drop,
    /// The sender is told that nobody wants them.
    Reject,
    /// So many of a hundred vanish.
    Lose(u8),
}

/// One direction between two hosts, in trouble. The number says whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub owner: usize,
    pub from: Host,
    pub to: Host,
    pub trouble: Trouble,
}

impl Rule {
    fn text(self) -> String {
        let from = self.from.address();
        match self.trouble {
            Trouble::Drop => format!("ip saddr {from} drop"),
            Trouble::Reject => format!(
                "ip saddr {from} meta l4proto tcp reject with tcp reset\n\
                 add rule inet lab input ip saddr {from} reject"
            ),
            Trouble::Lose(share) => {
                format!("ip saddr {from} numgen random mod 100 < {share} drop")
            }
        }
    }
}

/// The hosts and what joins them.
#[derive(Debug)]
pub struct Wires {
    tag: String,
    rules: Mutex<Vec<Rule>>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Why there can be no lab here, if there can be none.
pub fn forbidden() -> Option<String> {
    for tool in [["ip", "-V"], ["nft", "-v"], ["nsenter", "-V"]] {
        if Command::new(tool[0]).arg(tool[1]).output().is_err() {
            return Some(format!("there is no `{}`: run `make setup`", tool[0]));
        }
    }
    let probe = format!("lab{}-probe", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &probe]).output();
    drop(Command::new("ip").args(["netns", "del", &probe]).output());
    match made {
        Ok(made) if made.status.success() => None,
        Ok(made) => Some(String::from_utf8_lossy(&made.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

impl Wires {
    /// A tag that no other lab on this machine has.
    pub fn tag() -> String {
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("lab{}-{count}", std::process::id())
    }

    /// Makes the namespaces. Whoever calls has arranged for their end already.
    pub fn lay(tag: &str) -> Self {
        let wires = Self {
            tag: tag.to_owned(),
            rules: Mutex::default(),
        };
        let middle = format!("{tag}-wire");
        ip(&["netns", "add", &middle]);
        ip(&["-n", &middle, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &middle, "link", "set", "br0", "up"]);
        for host in HOSTS {
            let (name, space) = (host.name(), wires.space(host));
            ip(&["netns", "add", &space]);
            ip(&[
                "-n", &middle, "link", "add", name, "type", "veth", "peer", "name", "eth0",
                "netns", &space,
            ]);
            ip(&["-n", &middle, "link", "set", name, "master", "br0", "up"]);
            let address = format!("{}/24", host.address());
            ip(&["-n", &space, "address", "add", &address, "dev", "eth0"]);
            ip(&["-n", &space, "link", "set", "eth0", "up"]);
            ip(&["-n", &space, "link", "set", "lo", "up"]);
        }
        wires.apply();
        wires
    }

    fn space(&self, host: Host) -> String {
        format!("{}-{}", self.tag, host.name())
    }

    /// Where the namespace can be entered.
    pub fn path(&self, host: Host) -> String {
        format!("/run/netns/{}", self.space(host))
    }

    /// A program in the namespace of a host.
    pub fn command(&self, host: Host, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path(host)))
            .arg("--")
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Every process in the namespace of a host.
    pub fn processes(&self, host: Host) -> Vec<u32> {
        let space = self.space(host);
        let listed = run(Command::new("ip").args(["netns", "pids", &space]));
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Puts these directions in trouble.
    pub fn trouble(&self, rules: impl IntoIterator<Item = Rule>) {
        self.rules.lock().unwrap().extend(rules);
        self.apply();
    }

    /// Ends the troubles of one owner.
    pub fn mend(&self, owner: usize) {
        self.rules
            .lock()
            .unwrap()
            .retain(|rule| rule.owner != owner);
        self.apply();
    }

    /// Ends all troubles.
    pub fn mend_all(&self) {
        self.rules.lock().unwrap().clear();
        self.apply();
    }

    /// One transaction in each host: no packet sees half of the rules.
    fn apply(&self) {
        let rules = self.rules.lock().unwrap().clone();
        for host in HOSTS {
            let mut text = "add table inet lab\nflush table inet lab\n\
                            add chain inet lab input { type filter hook input priority 0; }\n"
                .to_owned();
            // Losses first: what they leave must still meet a cut.
            let lossy = |rule: &Rule| matches!(rule.trouble, Trouble::Lose(_));
            let mut here: Vec<_> = rules.iter().filter(|rule| rule.to == host).collect();
            here.sort_by_key(|rule| !lossy(rule));
            for rule in here {
                writeln!(text, "add rule inet lab input {}", rule.text()).unwrap();
            }
            let mut nft = self.command(host, Path::new("nft"));
            let mut child = nft
                .args(["-f", "-"])
                .stdin(Stdio::piped())
                .spawn()
                .expect("nft can be run");
            let mut input = child.stdin.take().expect("it was asked for");
            input.write_all(text.as_bytes()).expect("nft reads");
            drop(input);
            assert!(child.wait().expect("nft ends").success(), "nft: {text}");
        }
    }
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}
