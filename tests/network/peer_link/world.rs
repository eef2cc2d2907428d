//! Receivers, senders, a wire that can be tampered with, and certificates.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use failover_agent::config::secret::Secret;
use failover_agent::config::settings::PeerTls;
use failover_agent::effects::error::EffectError;
use failover_agent::effects::peer::wire::{
    CommandAnswer, LeaseCall, PATH_COMMAND, PATH_LEASE, PATH_REPORT, PeerCommand,
};
use failover_agent::effects::peer::{PeerClient, PeerClientSettings, tls};
use failover_agent::model::lease::{ClusterIdentity, LeaseReply, LeaseRequest, Verdict, VoterView};
use failover_agent::model::peer::PeerReport;
use failover_agent::model::{ClusterName, Epoch, Member, SiteName, Timestamp};
use failover_agent::runtime::peer_server::{
    self, Admission, AdmissionSettings, PeerService, RefusalCounts,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub const SECRET: &str = "correct horse battery staple";
pub const SOON: Duration = Duration::from_secs(5);

pub fn site(name: &str) -> Member {
    Member::Site(SiteName::new(name))
}

pub fn report(from: &str) -> PeerReport {
    PeerReport {
        from: site(from),
        version: "1".to_owned(),
        clock: Timestamp(0),
        epoch: Epoch(1),
        active: false,
        own_database: None,
        sees: Vec::new(),
        diagnoses: Vec::new(),
        site_tripped: false,
        observes: false,
        doing: None,
    }
}

/// Answers as the member `b`; hangs on reports when told to.
#[derive(Default)]
pub struct Answers {
    pub leases: AtomicUsize,
    pub hangs: std::sync::atomic::AtomicBool,
    pub clock_seen: Mutex<Option<Timestamp>>,
}

#[async_trait]
impl PeerService for Answers {
    async fn lease(
        &self,
        _from: Member,
        identity: ClusterIdentity,
        _request: LeaseRequest,
    ) -> LeaseReply {
        self.leases.fetch_add(1, Ordering::SeqCst);
        LeaseReply {
            verdict: match identity.voters_hash.as_str() {
                "same" => Verdict::Ok,
                _ => Verdict::WrongCluster,
            },
            knows: VoterView::default(),
        }
    }

    async fn report(&self, seen: PeerReport) -> PeerReport {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        *self.clock_seen.lock().unwrap() = Some(seen.clock);
        report("b")
    }

    async fn command(&self, from: Member, command: PeerCommand) -> CommandAnswer {
        let PeerCommand::Failover { to, dry_run } = command else {
            return CommandAnswer::Refused {
                text: "no brakes here".to_owned(),
            };
        };
        CommandAnswer::Accepted {
            text: format!("{from} asks for {to}, dry run {dry_run}"),
        }
    }
}

/// A running receiver, stopped when it goes out of scope.
pub struct Receiver {
    pub address: SocketAddr,
    pub answers: Arc<Answers>,
    admission: Arc<Admission>,
    stop: CancellationToken,
    served: Option<tokio::task::JoinHandle<()>>,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0", None).await
    }

    pub async fn start_at(address: &str, tls: Option<&PeerTls>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let secret = Secret::new(SECRET);
        let admission = Admission::new(AdmissionSettings {
            cluster: ClusterName::new("shop"),
            own: site("b"),
            members: vec![site("a"), site("b"), Member::Witness],
            secret: &secret,
        });
        let answers = Arc::new(Answers::default());
        let router = peer_server::router(Arc::clone(&admission), answers.clone());
        let stop = CancellationToken::new();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(peer_server::serve(
            listener,
            router,
            tls.map(|files| tls::server_config(files).unwrap()),
            Arc::clone(&admission),
            stop.clone(),
        ));
        Self {
            address,
            answers,
            admission,
            stop,
            served: Some(served),
        }
    }

    pub fn refusals(&self) -> RefusalCounts {
        self.admission.refusals()
    }

    /// Stops, and starts anew on the same port, as after a restart of the process.
    pub async fn restart(mut self) -> Self {
        self.stop.cancel();
        self.served.take().unwrap().await.unwrap();
        Self::start_at(&self.address.to_string(), None).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A sender; change what matters before `client`.
pub struct Sender {
    pub cluster: &'static str,
    pub own: Member,
    pub peer: Member,
    pub secret: &'static str,
    pub tls: Option<PeerTls>,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            cluster: "shop",
            own: site("a"),
            peer: site("b"),
            secret: SECRET,
            tls: None,
        }
    }
}

impl Sender {
    pub fn client(&self, address: SocketAddr) -> PeerClient {
        self.client_of_name(&address.to_string())
    }

    pub fn client_of_name(&self, address: &str) -> PeerClient {
        PeerClient::new(PeerClientSettings {
            cluster: ClusterName::new(self.cluster),
            own: self.own.clone(),
            peer: self.peer.clone(),
            address: address.to_owned(),
            secret: &Secret::new(self.secret),
            tls: self
                .tls
                .as_ref()
                .map(|files| tls::client_config(files).unwrap()),
        })
        .unwrap()
    }
}

pub async fn read_lease(client: &PeerClient) -> Result<LeaseReply, EffectError> {
    ask_lease(client, "same", LeaseRequest::Read).await
}

pub async fn ask_lease(
    client: &PeerClient,
    voters_hash: &str,
    request: LeaseRequest,
) -> Result<LeaseReply, EffectError> {
    let call = LeaseCall {
        identity: ClusterIdentity {
            cluster: ClusterName::new("shop"),
            voters_hash: voters_hash.to_owned(),
        },
        request,
    };
    client.call(PATH_LEASE, &call, SOON).await
}

/// As the keeper asks: again on another connection while the first waits.
pub async fn insist_on_lease(
    client: &PeerClient,
    deadline: Duration,
) -> Result<LeaseReply, EffectError> {
    let call = LeaseCall {
        identity: ClusterIdentity {
            cluster: ClusterName::new("shop"),
            voters_hash: "same".to_owned(),
        },
        request: LeaseRequest::Read,
    };
    client.call_repeatable(PATH_LEASE, &call, deadline).await
}

pub async fn send_report(
    client: &PeerClient,
    report: PeerReport,
    deadline: Duration,
) -> Result<PeerReport, EffectError> {
    client.call(PATH_REPORT, &report, deadline).await
}

pub async fn send_command(
    client: &PeerClient,
    command: &PeerCommand,
) -> Result<CommandAnswer, EffectError> {
    client.call(PATH_COMMAND, command, SOON).await
}

/// Waits for what must become true soon.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            // bounded: the timeout around this ends it after SOON
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(SOON, wait).await.is_ok(),
        "never: {what}"
    );
}

/// What the wire does with the bytes on their way to the receiver.
#[derive(Default)]
pub struct Tampering {
    /// Every byte that a sender sent.
    pub sent: Vec<u8>,
    /// Every byte that came back.
    pub received: Vec<u8>,
    pub connections: usize,
    /// Replaced on the way to the receiver.
    pub up: Option<(&'static [u8], &'static [u8])>,
    /// Replaced on the way back.
    pub down: Option<(&'static [u8], &'static [u8])>,
    /// So many of the next connections carry nothing, and stay open.
    pub dead: usize,
    /// Ends the connection as soon as the receiver answers, and forgets the answer.
    pub cut_answers: usize,
}

/// A wire between a sender and a receiver.
pub struct Wire {
    pub address: SocketAddr,
    pub state: Arc<Mutex<Tampering>>,
    forwarding: tokio::task::JoinHandle<()>,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(Tampering::default()));
        let shared = Arc::clone(&state);
        let forwarding = tokio::spawn(async move {
            let mut wires = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let dead = {
                    let mut state = shared.lock().unwrap();
                    state.connections += 1;
                    let dead = state.dead > 0;
                    state.dead = state.dead.saturating_sub(1);
                    dead
                };
                if dead {
                    wires.spawn(async move {
                        let _open = near;
                        std::future::pending::<()>().await;
                    });
                    continue;
                }
                wires.spawn(forward(near, target, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            forwarding,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

async fn forward(mut near: TcpStream, target: SocketAddr, state: Arc<Mutex<Tampering>>) {
    let Ok(mut far) = TcpStream::connect(target).await else {
        return;
    };
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = near.read(&mut up) => {
                let Ok(1..) = read else { return };
                let mut bytes = up[..read.unwrap()].to_vec();
                {
                    let mut state = state.lock().unwrap();
                    state.sent.extend(&bytes);
                    if let Some((from, to)) = state.up {
                        replace(&mut bytes, from, to);
                    }
                }
                if far.write_all(&bytes).await.is_err() { return }
            }
            read = far.read(&mut down) => {
                let Ok(1..) = read else { return };
                let mut bytes = down[..read.unwrap()].to_vec();
                {
                    let mut state = state.lock().unwrap();
                    state.received.extend(&bytes);
                    if state.cut_answers > 0 {
                        state.cut_answers -= 1;
                        return;
                    }
                    if let Some((from, to)) = state.down {
                        replace(&mut bytes, from, to);
                    }
                }
                if near.write_all(&bytes).await.is_err() { return }
            }
        }
    }
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len(), "the length must stay");
    if let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
        bytes[at..at + from.len()].copy_from_slice(to);
    }
}

/// Sends bytes as they are and reads what comes until the end, or until nothing comes any more.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The receiver may close before it has read everything: that is its right.
    let _refused_early = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _kept_open = tokio::time::timeout(Duration::from_millis(500), read).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// An authority that signs members' certificates for 127.0.0.1.
pub struct Authority {
    dir: tempfile::TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let dir = tempfile::tempdir().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(dir.path().join("ca.pem"), pem).unwrap();
        Self {
            dir,
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A member's files with a certificate for `name`.
    pub fn member(&self, name: &str) -> PeerTls {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let (cert_path, key_path) = (
            self.dir.path().join(format!("{name}.pem")),
            self.dir.path().join(format!("{name}.key")),
        );
        std::fs::write(&cert_path, cert.pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        PeerTls {
            cert: cert_path,
            key: key_path,
            ca: self.ca(),
        }
    }
}
