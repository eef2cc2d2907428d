//! A real etcd: one member or several, with or without TLS and logins, that a test can break.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::Etcd;
use failover_agent::effects::lease::etcd::EtcdCell;
use failover_agent::model::ClusterName;
use failover_agent::model::cell::CellRequest;

use super::ports::free_port;
use super::processes::{kill_all, watch};
use super::programs::run;
use super::wait_until;

/// The user that a cluster with logins has, and its password.
pub const USER: (&str, &str) = ("agent", "hunter2-of-etcd");

const READY_MAX: Duration = Duration::from_secs(30);

/// Certificates of a cluster with TLS.
#[derive(Debug)]
struct Certificates {
    ca: PathBuf,
    server: (PathBuf, PathBuf),
    client: (PathBuf, PathBuf),
}

#[derive(Debug)]
struct Member {
    child: Option<Child>,
    client_port: u16,
    peer_port: u16,
    dir: PathBuf,
    /// Cleans up when the test process is gone, however it went.
    _watch: Child,
}

/// The cluster.
#[derive(Debug)]
pub struct TestEtcd {
    members: Vec<Member>,
    certificates: Option<Certificates>,
    logins: bool,
    dir: tempfile::TempDir,
}

impl TestEtcd {
    /// Starts that many members and waits until they serve.
    pub async fn start(members: usize) -> Self {
        let mut etcd = Self::prepare(members, false);
        etcd.start_all().await;
        etcd
    }

    /// One member that takes only clients with a certificate and a login.
    pub async fn start_guarded() -> Self {
        let mut etcd = Self::prepare(1, true);
        etcd.start_all().await;
        for words in [
            vec!["user", "add", "root:root-of-etcd"],
            vec!["user", "grant-role", "root", "root"],
            vec!["user", "add", &format!("{}:{}", USER.0, USER.1)],
            vec!["role", "add", "agents"],
            vec![
                "role",
                "grant-permission",
                "agents",
                "--prefix=true",
                "readwrite",
                "/guarded/",
            ],
            vec!["user", "grant-role", USER.0, "agents"],
            vec!["auth", "enable"],
        ] {
            etcd.control(&words);
        }
        etcd.logins = true;
        etcd
    }

    fn prepare(count: usize, tls: bool) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().canonicalize().expect("it exists");
        let members = (0..count).map(|index| {
            let dir = root.join(format!("m{index}"));
            fs::create_dir(&dir).expect("a member's directory");
            Member {
                child: None,
                client_port: free_port(),
                peer_port: free_port(),
                _watch: watch(&dir, &dir),
                dir,
            }
        });
        let members = members.collect();
        let certificates = tls.then(|| certificates(&root));
        Self {
            members,
            certificates,
            logins: false,
            dir,
        }
    }

    async fn start_all(&mut self) {
        for index in 0..self.members.len() {
            self.spawn(index);
        }
        self.wait_serving().await;
    }

    fn scheme(&self) -> &'static str {
        if self.certificates.is_some() {
            "https"
        } else {
            "http"
        }
    }

    fn spawn(&mut self, index: usize) {
        let scheme = self.scheme();
        let peer_url = |member: &Member| format!("http://127.0.0.1:{}", member.peer_port);
        let cluster: Vec<String> = self
            .members
            .iter()
            .enumerate()
            .map(|(index, member)| format!("m{index}={}", peer_url(member)))
            .collect();
        let member = &self.members[index];
        let client_url = format!("{scheme}://127.0.0.1:{}", member.client_port);
        let log = fs::File::create(member.dir.join("log")).expect("a log file");
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{index}")])
            .arg("--data-dir")
            .arg(member.dir.join("data"))
            .args(["--listen-client-urls", &client_url])
            .args(["--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url(member)])
            .args(["--initial-advertise-peer-urls", &peer_url(member)])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .current_dir(&member.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(certificates) = &self.certificates {
            command
                .arg("--cert-file")
                .arg(&certificates.server.0)
                .arg("--key-file")
                .arg(&certificates.server.1)
                .arg("--trusted-ca-file")
                .arg(&certificates.ca)
                .arg("--client-cert-auth");
        }
        let child = command
            .spawn()
            .expect("etcd is installed (packaging/setup)");
        self.members[index].child = Some(child);
    }

    /// Kills a member.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Starts a killed member again.
    pub fn restart(&mut self, index: usize) {
        self.kill(index);
        self.spawn(index);
    }

    /// Sends a signal to every member: `STOP`, `CONT`.
    pub fn signal(&self, signal: &str) {
        for child in self
            .members
            .iter()
            .filter_map(|member| member.child.as_ref())
        {
            run(Command::new("kill").args(["-s", signal, &child.id().to_string()]));
        }
    }

    /// Waits until a majority serves.
    pub async fn wait_serving(&self) {
        let cell = self.cell("probe");
        wait_until("etcd serves", READY_MAX, || async {
            let timeout = Duration::from_secs(1);
            let looked = cell.call(&CellRequest::Look, timeout).await;
            // A login that the probed key is not open to is an answer as well.
            looked.is_ok_and(|reply| !reply.written)
        })
        .await;
    }

    /// What an agent is configured with.
    pub fn settings(&self) -> Etcd {
        let certificates = self.certificates.as_ref();
        Etcd {
            endpoints: self.endpoints(),
            prefix: "/guarded".to_owned(),
            ca: certificates.map(|files| files.ca.clone()),
            identity: certificates.map(|files| files.client.clone()),
            login: self
                .logins
                .then(|| (USER.0.to_owned(), Secret::new(USER.1))),
        }
    }

    /// The same as keys of `[lease]`.
    pub fn toml(&self) -> String {
        format!(
            "store = \"etcd\"\n[lease.etcd]\nendpoints = {:?}\n",
            self.endpoints()
        )
    }

    /// The members' client URLs.
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = self.scheme();
        let members = self.members.iter();
        members
            .map(|member| format!("{scheme}://127.0.0.1:{}", member.client_port))
            .collect()
    }

    /// The members' ports for clients.
    pub fn ports(&self) -> Vec<u16> {
        let members = self.members.iter();
        members.map(|member| member.client_port).collect()
    }

    /// The cell of a cluster.
    pub fn cell(&self, cluster: &str) -> EtcdCell {
        let cluster = ClusterName::new(cluster);
        EtcdCell::new(&self.settings(), &cluster, Duration::from_secs(2)).expect("a cell")
    }

    /// Runs etcd's own tool, and gives its output.
    pub fn control(&self, words: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoints().join(",")]);
        if let Some(files) = &self.certificates {
            command.arg("--cacert").arg(&files.ca);
            command.arg("--cert").arg(&files.client.0);
            command.arg("--key").arg(&files.client.1);
        }
        if self.logins {
            command.args(["--user", "root:root-of-etcd"]);
        }
        let output = run(command.args(words));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for TestEtcd {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
            kill_all(&self.members[index].dir);
        }
    }
}

/// A CA, a server's and a client's certificate. The client's has no common name: with logins,
/// etcd's gateway takes no other.
fn certificates(dir: &Path) -> Certificates {
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
        IsCa, Issuer, KeyPair,
    };
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("no names");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(DnType::CommonName, "etcd test authority");
    let ca_file = dir.join("ca.crt");
    let certificate = ca.self_signed(&ca_key).expect("a certificate");
    fs::write(&ca_file, certificate.pem()).expect("a file");
    let issuer = Issuer::new(ca, ca_key);
    let signed = |name: &str| {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = DistinguishedName::new();
        // etcd's gateway calls its own server, and shows it the server's certificate.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let files = (
            dir.join(format!("{name}.crt")),
            dir.join(format!("{name}.key")),
        );
        fs::write(&files.0, certificate.pem()).expect("a file");
        fs::write(&files.1, key.serialize_pem()).expect("a file");
        files
    };
    Certificates {
        ca: ca_file,
        server: signed("server"),
        client: signed("client"),
    }
}
