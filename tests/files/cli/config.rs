//! `agent config` as an operator runs it. The agent it asks has the real API and changes real
//! files; in the place of its loop is a journal.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use failover_agent::config::{self, MemberRole};
use failover_agent::model::event::{Answer, Wish};
use failover_agent::model::{Epoch, SiteName};
use failover_agent::runtime::app_desk::AppDesk;
use failover_agent::runtime::dns_desk::DnsDesk;
use failover_agent::runtime::handle::{AgentHandle, Request};
use failover_agent::runtime::status::Snapshot;
use failover_agent::surfaces::api::local::LocalSocket;
use failover_agent::surfaces::api::operator;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{agent, text};

struct Desk {
    dir: tempfile::TempDir,
    agent: Agent,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        for (name, words) in [("peer", "0123456789abcdef"), ("database", "hunter2")] {
            let path = dir.path().join(name);
            fs::write(&path, words).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let settings = format!(
            r#"cluster = "shop"
site = "fra"
state_dir = "{at}/state"
socket = "{at}/socket"
[peer]
secret_file = "peer"
[sites.fra]
address = "127.0.0.1:7101"
[sites.fra.database]
host = "db.fra"
port = 5432
data_dir = "/srv/pg"
[sites.ams]
address = "127.0.0.1:7102"
[sites.ams.database]
host = "db.ams"
port = 5433
data_dir = "/srv/pg"
[database]
user = "agent"
password_file = "database"
tls = "off"
[[app_config]]
name = "shop"
path = "{at}/shop.env"
set = [{{ key = "DB_HOST", value = "{{host}}" }}, {{ key = "DB_URL", url = true }}]
reload = ["touch", "{at}/reloaded"]
[[app_config]]
name = "elsewhere"
site = "ams"
path = "{at}/other.env"
set = [{{ key = "DB_HOST", value = "{{host}}" }}]
"#
        );
        fs::write(dir.path().join("agent.toml"), settings).unwrap();
        let agent = Agent::at(dir.path().join("socket"));
        let desk = Self { dir, agent };
        let env = "SECRET=hunter2\nDB_HOST=db.fra\nDB_URL=postgres://shop:hunter2@db.old:1/shop\n";
        fs::write(desk.env(), env).unwrap();
        desk
    }

    fn env(&self) -> PathBuf {
        self.dir.path().join("shop.env")
    }

    /// Exit code and output, or the complaint if there is none.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let settings = self.dir.path().join("agent.toml").display().to_string();
        let all: Vec<_> = ["--config", &settings, "config"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        let output = agent(&all);
        let (said, complaint) = (text(&output.stdout), text(&output.stderr));
        for shown in [&said, &complaint] {
            assert!(!shown.contains("hunter2"), "a secret is shown: {shown}");
        }
        let said = if said.is_empty() { complaint } else { said };
        (output.status.code(), said)
    }

    /// From now on an agent answers, with this in its picture.
    fn answer(&self, more: &Value) {
        let mut picture = json!({
            "cluster": "shop", "site": "fra", "version": "1.2.3", "at": 1_000_000,
            "phase": "watching", "active": false, "stopped": null,
            "lease": {
                "view": "other", "holder": "ams", "epoch": 7, "fence_in_ms": null,
                "reached": [], "words": "",
            },
            "record": {
                "epoch": 7, "revision": 1, "primary": "ams", "promoting": false,
                "system_id": 1, "timeline": 3, "last_lsn": "0/3000148", "last_failover": null,
            },
            "facts": null, "diagnoses": [], "would_do": "", "refusals": [], "members": [],
            "targets": [], "run": null, "last_run": null, "counters": [], "last_recovery": null,
        });
        for (key, value) in more.as_object().unwrap() {
            picture[key] = value.clone();
        }
        let picture: Snapshot = serde_json::from_value(picture).unwrap();
        let settings = self.dir.path().join("agent.toml");
        let text = fs::read_to_string(&settings).unwrap();
        let parsed = config::parse(&text, &settings, Some("fra"), MemberRole::Agent, &|_| None);
        let config = parsed.unwrap().config;
        self.agent.serve(picture, AppDesk::new(&config));
    }
}

/// The operator's API over one picture, with a loop that only keeps a journal.
struct Agent {
    runtime: Runtime,
    socket: PathBuf,
    journal: Arc<Mutex<Vec<String>>>,
    /// What the loop answers, one after the other; then it refuses. As the picture says if empty.
    grants: Mutex<Vec<(&'static str, u64)>>,
    /// The file as it was at each wish to change it.
    seen: Arc<Mutex<Vec<String>>>,
    serving: Mutex<Option<CancellationToken>>,
}

impl Agent {
    fn at(socket: PathBuf) -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            socket,
            journal: Arc::default(),
            grants: Mutex::default(),
            seen: Arc::default(),
            serving: Mutex::default(),
        }
    }

    fn serve(&self, picture: Snapshot, apps: AppDesk) {
        let stop = CancellationToken::new();
        if let Some(former) = self.serving.lock().unwrap().replace(stop.clone()) {
            former.cancel();
        }
        drop(fs::remove_file(&self.socket));
        let record = picture.record.clone();
        let by_picture = record
            .filter(|record| !record.promoting)
            .map(|record| (record.primary, record.epoch));
        let script = std::mem::take(&mut *self.grants.lock().unwrap());
        let scripted = !script.is_empty();
        let mut script = script
            .into_iter()
            .map(|(site, epoch)| (SiteName::new(site), Epoch(epoch)));
        let mut next = move || match scripted {
            true => script.next(),
            false => by_picture.clone(),
        };
        let (seen, env) = (
            Arc::clone(&self.seen),
            self.socket.with_file_name("shop.env"),
        );
        let (pictures, status) = watch::channel(Arc::new(picture));
        let (requests, mut asked) = mpsc::channel::<Request>(1);
        let journal = Arc::clone(&self.journal);
        self.runtime.spawn(async move {
            let _pictures = pictures;
            while let Some(Request { wish, answer }) = asked.recv().await {
                let (text, told) = match wish {
                    Wish::Files { what } => {
                        let now = fs::read_to_string(&env).unwrap();
                        seen.lock().unwrap().push(now);
                        let granted = next();
                        let granted = granted
                            .map(|(primary, epoch)| Answer::FilesMayChange { primary, epoch });
                        (what, granted)
                    }
                    Wish::Note { text } => (text, Some(Answer::Noted)),
                    Wish::Failover { .. } | Wish::Brake { .. } | Wish::Converge { .. } => {
                        ("another wish".to_owned(), None)
                    }
                };
                let told = match told {
                    None => Answer::Refused {
                        reasons: vec!["a failover is under way".to_owned()],
                    },
                    Some(told) => {
                        journal.lock().unwrap().push(text);
                        told
                    }
                };
                answer.send(told).ok();
            }
        });
        let (_, recovered) = watch::channel(None);
        let (_, held) = watch::channel(None);
        let handle = AgentHandle {
            status,
            held,
            requests,
            dns: DnsDesk::default(),
            apps,
        };
        let _entered = self.runtime.enter();
        let socket = LocalSocket::bind(&self.socket).unwrap();
        let router = operator::router(handle, recovered);
        self.runtime.spawn(socket.serve(router, stop));
    }
}

#[test]
fn files_are_shown_changed_and_brought_back() {
    let desk = Desk::new();
    desk.answer(&json!({}));
    let before = fs::read_to_string(desk.env()).unwrap();

    let (code, said) = desk.run(&["diff"]);
    assert_eq!(code, Some(5), "{said}");
    for line in [
        "-DB_HOST=db.fra",
        "+DB_HOST=db.ams",
        "-DB_URL=(another value)",
        "+DB_URL=…@db.ams:5433…",
    ] {
        assert!(said.lines().any(|found| found == line), "{line} in {said}");
    }
    assert!(!said.contains("elsewhere"), "the other site's: {said}");

    let (code, said) = desk.run(&["apply", "--dry-run", "--json"]);
    assert_eq!(code, Some(5), "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["epoch"], 7);
    assert_eq!(
        report["app_configs"][0]["files"][0]["keys"][0]["new"],
        "db.ams"
    );
    assert_eq!(fs::read_to_string(desk.env()).unwrap(), before);

    let (code, said) = desk.run(&["apply", "shop"]);
    assert_eq!(code, Some(0), "{said}");
    let after = fs::read_to_string(desk.env()).unwrap();
    assert!(after.starts_with("# managed-by-agent epoch=7\n"), "{after}");
    assert!(after.contains("DB_HOST=db.ams") && after.contains("hunter2@db.ams:5433/"));
    assert!(desk.dir.path().join("reloaded").exists());
    assert_eq!(desk.run(&["diff"]).0, Some(0));
    // The agent did it, and its journal knew first.
    assert_eq!(
        *desk.agent.seen.lock().unwrap(),
        std::slice::from_ref(&before)
    );
    let journal = desk.agent.journal.lock().unwrap().clone();
    assert!(
        journal[0].starts_with("app config \"shop\" is brought in line"),
        "{journal:?}"
    );
    assert!(
        journal[1].contains("by hand: changed DB_HOST"),
        "{journal:?}"
    );

    let (code, said) = desk.run(&["restore", "shop", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let kept: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(kept[0]["generation"], 1);
    let (code, said) = desk.run(&["restore", "shop", "--generation", "1"]);
    assert_eq!(code, Some(0), "{said}");
    let back = fs::read_to_string(desk.env()).unwrap();
    assert_eq!(back, format!("# managed-by-agent epoch=7\n{before}"));
    assert!(desk.run(&["restore", "shop"]).1.contains("generation"));
    let (code, said) = desk.run(&["restore", "shop", "--generation", "9"]);
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn during_a_failover_nothing_is_changed() {
    let desk = Desk::new();
    let before = fs::read_to_string(desk.env()).unwrap();
    desk.answer(&json!({ "record": {
        "epoch": 7, "revision": 1, "primary": "ams", "promoting": true,
        "system_id": 1, "timeline": 3, "last_lsn": "0/3000148", "last_failover": null,
    } }));
    for arguments in [&["apply"][..], &["restore", "shop", "--generation", "1"]] {
        let (code, said) = desk.run(arguments);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("a failover is under way"), "{said}");
    }
    assert_eq!(fs::read_to_string(desk.env()).unwrap(), before);
    assert_eq!(
        desk.run(&["apply", "--force"]).0,
        Some(2),
        "nobody can insist"
    );
}

/// What the agent published may be older than what it decided last.
#[test]
fn files_name_the_primary_of_the_moment_and_the_first_refusal_is_the_last_change() {
    let desk = Desk::new();
    let settings = fs::read_to_string(desk.dir.path().join("agent.toml")).unwrap();
    let other = |name: &str| {
        let path = desk.dir.path().join(format!("{name}.env"));
        fs::write(&path, "DB_HOST=db.old\n").unwrap();
        format!(
            "[[app_config]]\nname = \"{name}\"\npath = \"{}\"\n\
             set = [{{ key = \"DB_HOST\", value = \"{{host}}\" }}]\n",
            path.display()
        )
    };
    let settings = settings + &other("second") + &other("third");
    fs::write(desk.dir.path().join("agent.toml"), settings).unwrap();
    *desk.agent.grants.lock().unwrap() = vec![("ams", 7), ("fra", 8)];
    desk.answer(&json!({}));
    let (code, said) = desk.run(&["apply"]);
    assert_eq!(code, Some(1), "{said}");
    let text = |name: &str| fs::read_to_string(desk.dir.path().join(name)).unwrap();
    assert!(text("shop.env").contains("DB_HOST=db.ams"), "{said}");
    let second = text("second.env");
    assert!(
        second.contains("epoch=8") && second.contains("DB_HOST=db.fra"),
        "{second}"
    );
    assert_eq!(text("third.env"), "DB_HOST=db.old\n");
    assert!(
        said.contains("not changed: a failover is under way"),
        "{said}"
    );
}

#[test]
fn stale_epoch_changes_nothing_by_hand_either() {
    let desk = Desk::new();
    let newer = "# managed-by-agent epoch=8\nDB_HOST=db.fra\nDB_URL=postgres://db.fra:5432/\n";
    fs::write(desk.env(), newer).unwrap();
    desk.answer(&json!({}));
    let (code, said) = desk.run(&["apply"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("epoch 8"), "{said}");
    assert_eq!(fs::read_to_string(desk.env()).unwrap(), newer);
}

#[test]
fn without_an_agent_that_knows_nothing_is_changed() {
    let desk = Desk::new();
    let before = fs::read_to_string(desk.env()).unwrap();
    assert_eq!(desk.run(&["apply"]).0, Some(4), "no agent");
    desk.answer(&json!({ "record": null }));
    let (code, said) = desk.run(&["apply"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("agent status"), "{said}");
    desk.answer(&json!({ "site": "ams" }));
    assert_eq!(desk.run(&["apply"]).0, Some(3), "another site's agent");
    assert_eq!(desk.run(&["apply", "nothing"]).0, Some(2));
    let journal = desk.agent.journal.lock().unwrap().clone();
    assert!(
        journal.is_empty(),
        "what cannot be done is not announced: {journal:?}"
    );
    assert_eq!(desk.run(&["restore", "elsewhere"]).0, Some(2));
    assert_eq!(fs::read_to_string(desk.env()).unwrap(), before);
}

/// What an operator meets who renders a file: the check, the difference, and the file.
#[test]
fn rendered_file_is_checked_shown_without_its_text_and_made() {
    let desk = Desk::new();
    let at = |name: &str| desk.dir.path().join(name);
    let settings = fs::read_to_string(at("agent.toml")).unwrap();
    let app = "[[app_config]]\nname = \"search\"\npath = \"search.conf\"\n\
               template = \"search.j2\"\n";
    fs::write(at("agent.toml"), format!("{settings}{app}")).unwrap();
    let line = settings.lines().count() + 4;
    let check = || {
        let settings = at("agent.toml").display().to_string();
        let output = agent(&["--config", &settings, "check"]);
        (output.status.code(), text(&output.stderr))
    };
    let (code, said) = check();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&format!("agent.toml:{line}: ")) && said.contains("search.j2"));

    fs::write(
        at("search.j2"),
        "key = hunter2\nhost = {{ primary.hots }}\n",
    )
    .unwrap();
    let (code, said) = check();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("line 2"), "{said}");

    fs::write(
        at("search.j2"),
        "key = hunter2\nhost = {{ primary.host }}\n",
    )
    .unwrap();
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    desk.answer(&json!({}));
    fs::write(at("search.conf"), "key = hunter2\nhost = db.fra\n").unwrap();
    let (code, said) = desk.run(&["diff", "search"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("~line 2, as "), "{said}");
    let (code, said) = desk.run(&["apply", "search"]);
    assert_eq!(code, Some(0), "{said}");
    let rendered = fs::read_to_string(at("search.conf")).unwrap();
    assert_eq!(rendered, "key = hunter2\nhost = db.ams\n");
    assert_eq!(desk.run(&["diff", "search"]).0, Some(0));
}
