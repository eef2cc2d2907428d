//! App servers, a real nginx in front of them, and the agent's task for one group.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use failover_agent::config::{self, Config, MemberRole};
use failover_agent::effects::probes::resolve::Resolver;
use failover_agent::model::event::Event;
use failover_agent::runtime::upstreams::{self, UpstreamStatus};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::PATIENT;
use crate::support::endpoint::read_head;
use crate::support::ports::free_port;
use crate::support::wait_until;

/// So many requests in a row reach every member that nginx knows, one after the other.
const REQUESTS: usize = 12;

/// An app server that says who it is.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) address: String,
    bind: String,
    serving: Option<JoinHandle<()>>,
}

impl Backend {
    pub(crate) fn new() -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        Self {
            bind: address.clone(),
            address,
            serving: None,
        }
    }

    /// It serves at every address of this host.
    pub(crate) fn everywhere() -> Self {
        let port = free_port();
        Self {
            address: format!("127.0.0.1:{port}"),
            bind: format!("0.0.0.0:{port}"),
            serving: None,
        }
    }

    pub(crate) async fn start(&mut self) {
        let listener = TcpListener::bind(&self.bind)
            .await
            .expect("the port is ours");
        let name = self.address.clone();
        self.serving = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, name.clone()));
            }
        }));
    }

    /// From here on connections are refused.
    pub(crate) async fn stop(&mut self) {
        let serving = self.serving.take().expect("it serves");
        serving.abort();
        serving.await.expect_err("it was aborted");
    }
}

async fn answer(mut stream: TcpStream, name: String) {
    read_head(&mut stream).await;
    let head = "HTTP/1.1 200 OK\r\nConnection: close";
    let text = format!("{head}\r\nContent-Length: {}\r\n\r\n{name}", name.len());
    stream.write_all(text.as_bytes()).await.ok();
}

/// A group's members as settings.
pub(crate) fn member_list(addresses: &[String], extra: &str) -> String {
    let members = addresses.iter();
    let members = members.map(|address| format!("  {{ address = \"{address}\"{extra} }},\n"));
    format!("members = [\n{}]\n", members.collect::<String>())
}

/// Where everything of one test lies.
#[derive(Debug)]
pub(crate) struct Ground {
    dir: TempDir,
    mode: &'static str,
    format: &'static str,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        Self {
            dir,
            mode: "act",
            format: "nginx",
        }
    }

    /// With HAProxy in the place of nginx.
    pub(crate) fn of_haproxy() -> Self {
        Self {
            format: "haproxy",
            ..Self::new()
        }
    }

    pub(crate) fn observing(self) -> Self {
        Self {
            mode: "observe",
            ..self
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The proxy's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("shop.conf")
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.file()).expect("the file is there")
    }

    /// The file as a person would begin it.
    pub(crate) fn write_by_hand(&self, addresses: &[String]) {
        let servers = addresses
            .iter()
            .map(|address| format!("server {address};\n"));
        let text = format!(
            "# agent: upstream shop begins\nupstream shop {{\n{}}}\n# agent: upstream shop ends\n",
            servers.collect::<String>()
        );
        fs::write(self.file(), text).expect("the file can be written");
    }

    pub(crate) fn reloads(&self) -> usize {
        let counted = fs::read_to_string(self.path("reloads")).unwrap_or_default();
        counted.lines().count()
    }

    pub(crate) fn config(&self, group: &str, commands: &str) -> Config {
        let text = format!(
            r#"
mode = "{}"
state_dir = "{}"
[peer]
secret = "a secret of enough bytes"
[sites.fra]
address = "127.0.0.1:7401"
database = {{ data_dir = "/srv/fra" }}
[sites.old]
address = "127.0.0.1:7402"
database = {{ port = 5433, data_dir = "/srv/old" }}
[[upstream]]
name = "shop"
format = "{}"
path = "{}"
{commands}{group}"#,
            self.mode,
            self.path("state").display(),
            self.format,
            self.file().display(),
        );
        let file = Path::new("agent.toml");
        let loaded = config::parse(&text, file, Some("fra"), MemberRole::Agent, &|_| None);
        loaded
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config
    }

    /// Starts the agent's task for the group.
    pub(crate) fn group(&self, group: &str, commands: &str) -> Group {
        let config = self.config(group, commands);
        fs::create_dir_all(&config.state_dir).expect("a directory can be made");
        let (events, received) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let resolver = Resolver::from_system();
        let mut shown = upstreams::start(&config, &resolver, &events, &stop).expect("it starts");
        Group {
            shown: shown.remove(0),
            events: received,
            _stop: stop.drop_guard(),
        }
    }

    /// Starts nginx in front of the group.
    pub(crate) async fn nginx(&self) -> Nginx {
        let port = free_port();
        let dir = self.dir.path().display();
        // Without another try, a request to a dead member fails: that makes it seen.
        let config = format!(
            "daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {dir}/body;\n  \
             proxy_temp_path {dir}/proxy;\n  fastcgi_temp_path {dir}/fastcgi;\n  \
             uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n  \
             include {};\n  server {{\n    listen 127.0.0.1:{port};\n    \
             location / {{ proxy_pass http://shop; proxy_next_upstream off; }}\n  }}\n}}\n",
            self.file().display()
        );
        let file = self.path("nginx.conf");
        fs::write(&file, config).expect("the file can be written");
        let running = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(self.dir.path())
            .arg("-c")
            .arg(&file)
            .arg("-e")
            .arg(self.path("error.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed: packaging/setup");
        let nginx = Nginx {
            running,
            port,
            reload: format!(
                "reload = [\"sh\", \"-c\", \"echo >> {dir}/reloads && nginx -t -q -e {dir}/t.log \
                 -c {dir}/nginx.conf && nginx -s reload -e {dir}/t.log -c {dir}/nginx.conf\"]\n"
            ),
        };
        let pid_file = self.path("nginx.pid");
        wait_until("nginx runs", PATIENT, async || {
            fs::metadata(&pid_file).is_ok_and(|file| file.len() > 0)
                && TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        nginx
    }
}

/// The agent's task for one group; it ends with this.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) shown: watch::Receiver<UpstreamStatus>,
    pub(crate) events: mpsc::Receiver<Event>,
    _stop: tokio_util::sync::DropGuard,
}

impl Group {
    pub(crate) fn status(&self) -> UpstreamStatus {
        self.shown.borrow().clone()
    }
}

/// A running nginx; it ends with this.
#[derive(Debug)]
pub(crate) struct Nginx {
    running: Child,
    port: u16,
    reload: String,
}

impl Nginx {
    /// The settings that reload it and count that.
    pub(crate) fn reload(&self) -> String {
        self.reload.clone()
    }

    /// Waits until requests reach these members, all of them and nobody else.
    pub(crate) async fn wait_for(&self, members: &[&str]) {
        wait_for(self.port, members).await;
    }
}

/// Who answers a request at this port.
async fn ask(port: u16) -> String {
    let mut answer = Vec::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await {
        let request = "GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.ok();
        stream.read_to_end(&mut answer).await.ok();
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    body.to_owned()
}

/// Waits until requests to this port reach these members, all of them and nobody else.
pub(crate) async fn wait_for(port: u16, members: &[&str]) {
    let wanted: BTreeSet<String> = members.iter().map(|name| (*name).to_owned()).collect();
    let what = format!("requests reach only {wanted:?}");
    wait_until(&what, PATIENT, async || {
        let mut reached = BTreeSet::new();
        for _ in 0..REQUESTS {
            reached.insert(ask(port).await);
        }
        reached == wanted
    })
    .await;
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its workers, too.
        let pid = i32::try_from(self.running.id()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        self.running.wait().ok();
    }
}
