//! Real servers of DNS that take signed updates: BIND, Knot and PowerDNS, each in a directory of
//! its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::{DnsAccess, DnsRecord, TsigAlgorithm};
use tempfile::TempDir;

use crate::support::ports::free_port;
use crate::support::processes::{state_of, watch};
use crate::support::wait_until_blocking;

pub(super) const ZONE: &str = "example.test";
pub(super) const KEY_NAME: &str = "agent-key";
/// 32 bytes in base64, as `tsig-keygen` prints them.
pub(super) const KEY: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMgISE=";

const SOON: Duration = Duration::from_secs(20);

/// The names that the key may change.
const GRANTED: [&str; 9] = [
    "shop", "text", "six", "alias", "twice", "missing", "a.wild", "both", "*.both",
];

/// Where the epoch of each is kept.
fn note(name: &str) -> String {
    match name.strip_prefix("*.") {
        Some(parent) => format!("_agent-wildcard.{parent}"),
        None => format!("_agent.{name}"),
    }
}

const RECORDS: &str = "\
$TTL 300
@       IN SOA ns hostmaster 1 3600 600 86400 60
@       IN NS  ns
@       IN NS  ns2
ns      IN A   127.0.0.1
ns2     IN A   127.0.0.2
ns2     IN AAAA ::2
shop 45 IN A   192.0.2.1
shop    IN AAAA 2001:db8::1
shop    IN TXT \"v=spf1 -all\"
text    IN TXT \"site=fra\"
six     IN AAAA 2001:db8::1
alias   IN CNAME fra.example.test.
twice   IN A   192.0.2.1
twice   IN A   192.0.2.9
other   IN A   192.0.2.1
*.wild  IN A   192.0.2.1
both    IN A   192.0.2.1
*.both  IN A   192.0.2.1
";

/// The zone's records, with a name that has more of them than a datagram can carry.
fn records() -> String {
    let many = (1..=95).map(|n| format!("many IN A 198.51.100.{n}\n"));
    RECORDS.to_owned() + &many.collect::<String>()
}

/// A server, and how it is started.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    program: &'static str,
    settings: fn(&Path, u16) -> String,
    arguments: fn(&Path) -> Vec<String>,
    /// What has to be done before its first start.
    prepare: fn(&Path),
    /// Its rules can name what a key may change; else a key may change the whole zone.
    pub(super) grants_names: bool,
    /// It says what is wrong with a key; else it refuses without a signature, which proves nothing.
    pub(super) says_what_is_wrong: bool,
}

pub(super) const KINDS: [Kind; 3] = [
    Kind {
        name: "BIND",
        program: "named",
        settings: bind,
        arguments: |settings| vec!["-g".into(), "-c".into(), text(settings)],
        prepare: |_| {},
        grants_names: true,
        says_what_is_wrong: true,
    },
    Kind {
        name: "Knot",
        program: "knotd",
        settings: knot,
        arguments: |settings| vec!["-c".into(), text(settings)],
        prepare: |dir| fs::create_dir(dir.join("db")).unwrap(),
        grants_names: true,
        says_what_is_wrong: true,
    },
    Kind {
        name: "PowerDNS",
        program: "pdns_server",
        settings: powerdns,
        arguments: |settings| {
            let dir = settings.parent().map(text).unwrap_or_default();
            let rest = ["--config-name=", "--daemon=no", "--guardian=no"].map(str::to_owned);
            [vec![format!("--config-dir={dir}")], rest.to_vec()].concat()
        },
        prepare: fill_powerdns,
        grants_names: false,
        says_what_is_wrong: false,
    },
];

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn bind(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    let grants: String = GRANTED
        .iter()
        .map(|name| {
            format!(
                "grant {KEY_NAME} name {name}.{ZONE}. A AAAA CNAME TXT;\n\
                 grant {KEY_NAME} name {}.{ZONE}. TXT;\n",
                note(name)
            )
        })
        .collect();
    format!(
        "options {{ directory \"{dir}\"; listen-on port {port} {{ 127.0.0.1; }};\n\
         listen-on-v6 {{ none; }}; pid-file \"{dir}/pid\"; session-keyfile \"{dir}/session.key\";\n\
         recursion no; dnssec-validation no; }};\n\
         controls {{ }};\n\
         key \"{KEY_NAME}\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n\
         zone \"{ZONE}\" {{ type primary; file \"{dir}/zone\"; update-policy {{\n{grants}}}; }};\n"
    )
}

fn knot(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    let owners: Vec<String> = GRANTED
        .iter()
        .flat_map(|name| [name.to_string(), note(name)])
        .map(|name| format!("\"{name}.{ZONE}.\""))
        .collect();
    let owners = owners.join(", ");
    format!(
        "server:\n    rundir: \"{dir}\"\n    listen: 127.0.0.1@{port}\n\
         log:\n  - target: stderr\n    any: warning\n\
         database:\n    storage: \"{dir}/db\"\n\
         key:\n  - id: {KEY_NAME}\n    algorithm: hmac-sha256\n    secret: {KEY}\n\
         acl:\n  - id: agent\n    action: update\n    key: {KEY_NAME}\n    update-owner: name\n    \
         update-owner-match: equal\n    update-owner-name: [{owners}]\n\
         zone:\n  - domain: {ZONE}\n    storage: \"{dir}\"\n    file: \"zone\"\n    acl: agent\n    \
         zonefile-sync: -1\n    journal-content: changes\n"
    )
}

/// Answers are not cached: the tests look right after a change.
fn powerdns(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "launch=gsqlite3\ngsqlite3-database={dir}/zones\ngsqlite3-pragma-synchronous=0\n\
         local-address=127.0.0.1\nlocal-port={port}\nsocket-dir={dir}\nsecurity-poll-suffix=\n\
         dnsupdate=yes\nallow-dnsupdate-from=127.0.0.0/8\ncache-ttl=0\nquery-cache-ttl=0\n\
         negquery-cache-ttl=0\nzone-cache-refresh-interval=0\n"
    )
}

/// It keeps its zones in a database, and what a key may do beside them.
/// Source: PowerDNS manual, "Dynamic DNS Update (RFC 2136)".
fn fill_powerdns(dir: &Path) {
    fs::copy(dir.join("settings"), dir.join("pdns.conf")).unwrap();
    let run = |program: &mut Command| {
        let output = program.current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{program:?}: {output:?}");
    };
    let schema = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";
    run(Command::new("sqlite3").args(["zones", &format!(".read {schema}")]));
    let config = format!("--config-dir={}", text(dir));
    for arguments in [
        &["load-zone", ZONE, "zone"][..],
        &["import-tsig-key", KEY_NAME, "hmac-sha256", KEY],
        &["set-meta", ZONE, "TSIG-ALLOW-DNSUPDATE", KEY_NAME],
    ] {
        run(Command::new(installed("pdnsutil"))
            .arg(&config)
            .args(arguments));
    }
}

/// A running server.
pub(super) struct Server {
    child: Child,
    /// Ends it when the test process is gone, however it went.
    watch: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Server {
    pub(super) fn start(kind: Kind) -> Self {
        Self::start_with(kind, "")
    }

    /// With these records beside the usual ones.
    pub(super) fn start_with(kind: Kind, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        fs::write(dir.path().join("zone"), records() + more).unwrap();
        let settings = (kind.settings)(dir.path(), port);
        let server = Self::launch(kind, dir, port, &settings);
        wait_until_blocking(kind.name, SOON, || server.dig("ns", "A") == ["127.0.0.1"]);
        server
    }

    /// BIND that has the zone from a primary server, and is not told when it changes there.
    pub(super) fn secondary_of(primary: &Self) -> Self {
        let zone = format!(
            "zone \"{ZONE}\" {{ type secondary; file \"zone\"; notify no; \
             primaries {{ 127.0.0.1 port {}; }}; }};\n",
            primary.address.port()
        );
        let secondary = Self::bind_with("recursion no;", &zone);
        wait_until_blocking("secondary", SOON, || {
            secondary.dig("ns", "A") == ["127.0.0.1"]
        });
        secondary
    }

    /// BIND that resolves, with the zone from this server, and remembers.
    pub(super) fn resolver_of(server: &Self) -> Self {
        let zone = format!(
            "zone \"{ZONE}\" {{ type forward; forward only; \
             forwarders {{ 127.0.0.1 port {}; }}; }};\n",
            server.address.port()
        );
        let resolver = Self::bind_with("recursion yes; allow-recursion { any; };", &zone);
        wait_until_blocking("resolver", SOON, || {
            resolver.dig_with("+recurse", "ns", "A") == ["127.0.0.1"]
        });
        resolver
    }

    fn bind_with(options: &str, zone: &str) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let path = dir.path().display();
        let settings = format!(
            "options {{ directory \"{path}\"; listen-on port {port} {{ 127.0.0.1; }};\n\
             listen-on-v6 {{ none; }}; pid-file \"{path}/pid\"; \
             session-keyfile \"{path}/session.key\";\n\
             dnssec-validation no; {options} }};\ncontrols {{ }};\n{zone}"
        );
        let [bind, ..] = KINDS;
        Self::launch(bind, dir, port, &settings)
    }

    /// Tells a secondary that its zone has changed, as its primary would (RFC 1996).
    pub(super) fn notify(&self) {
        let told = Command::new("dig")
            .args(["+opcode=notify", "+norecurse", "+tries=1", "+time=2"])
            .args(["@127.0.0.1", "-p", &self.address.port().to_string()])
            .args([ZONE, "SOA"])
            .output()
            .unwrap();
        assert!(told.status.success(), "{told:?}");
    }

    fn launch(kind: Kind, dir: TempDir, port: u16, text: &str) -> Self {
        let settings = dir.path().join("settings");
        fs::write(&settings, text).unwrap();
        (kind.prepare)(dir.path());
        // A copy: the system's rules for the installed program keep it to the system's directories.
        let program = dir.path().join(kind.program);
        fs::copy(installed(kind.program), &program).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        // Before the server: should it not come up, nobody is left behind.
        let watch = watch(dir.path(), dir.path());
        let child = Command::new(program)
            .args((kind.arguments)(&settings))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            child,
            watch,
            address,
            dir,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client is answered, in order.
    pub(super) fn dig(&self, name: &str, kind: &str) -> Vec<String> {
        self.dig_with("+norecurse", name, kind)
    }

    /// The same, asked as this option says.
    pub(super) fn dig_with(&self, option: &str, name: &str, kind: &str) -> Vec<String> {
        let output = Command::new("dig")
            .args(["+short", "+tries=1", "+time=2", option, "@127.0.0.1"])
            .args(["-p", &self.address.port().to_string()])
            .args([&format!("{name}.{ZONE}"), kind])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    pub(super) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// Sends a signal; one that stops has stopped every thread when this returns.
pub(super) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    if name == "STOP" {
        wait_until_blocking("every thread is stopped", SOON, || stopped(pid));
    }
}

fn stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut threads = threads.map(|thread| thread.unwrap().file_name().into_string().unwrap());
    threads.all(|thread| state_of(thread.parse().unwrap()) == Some('T'))
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in [&mut self.child, &mut self.watch] {
            process.kill().ok();
            process.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// Servers are not in the path of normal users.
fn installed(program: &str) -> PathBuf {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let mut places = places
        .map(|place| Path::new(place).join(program))
        .into_iter();
    let found = places.find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{program} is installed by `make setup`"))
}

/// A record at this server, with the right key.
pub(super) fn settings(server: SocketAddr, name: &str, kind: &str) -> DnsRecord {
    DnsRecord {
        name: "public".to_owned(),
        record: format!("{name}.{ZONE}"),
        kind: kind.to_owned(),
        access: DnsAccess::Rfc2136 {
            server,
            zone: ZONE.to_owned(),
            key_name: KEY_NAME.to_owned(),
            algorithm: TsigAlgorithm::HmacSha256,
            key: Secret::new(KEY),
        },
        timeout: Duration::from_secs(20),
        contents: [Vec::new(), Vec::new()],
    }
}
