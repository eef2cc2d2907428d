//! A real BIND with one zone, which takes updates that the demo's key has signed.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use super::dns::{RECORD, ZONE};
use super::error::DemoError;
use super::files;
use super::playground::wait_for;
use super::process::Process;

const KEY_NAME: &str = "demo-key";
const KEY_FILE: &str = "tsig.key";
/// Short, so that the demo is: clients keep what they were told for so long.
pub(super) const TTL: Duration = Duration::from_secs(1);
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The running server.
#[derive(Debug)]
pub(super) struct Bind {
    process: Process,
    address: SocketAddr,
    key_file: PathBuf,
    /// Asks it, and keeps nothing.
    looking: TokioResolver,
}

impl Bind {
    /// Starts it with the name at the first of these addresses.
    pub(super) async fn start(root: &Path, hosts: [&str; 2]) -> Result<Self, DemoError> {
        let dir = root.join("dns");
        fs::create_dir_all(&dir).map_err(|error| DemoError::io("create", &dir, error))?;
        // It listens only where the system says that an interface is, so not in a corner of its
        // own of 127.0.0.0/8.
        let address = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| DemoError::io("find a free port for", &dir, error))?;
        let key = STANDARD.encode(rand::random::<[u8; 32]>());
        let key_file = root.join(KEY_FILE);
        files::write_secret(&key_file, &key)?;
        let settings = dir.join("named.conf");
        files::write_secret(&settings, &named_conf(&dir, address, &key))?;
        let zone = dir.join("zone");
        fs::write(&zone, zone_text(hosts[0]))
            .map_err(|error| DemoError::io("write", &zone, error))?;
        // A copy: the system's rules for the installed one keep it to the system's directories.
        let program = dir.join("named");
        let installed = installed()?;
        fs::copy(&installed, &program).map_err(|error| DemoError::io("copy", &installed, error))?;
        let settings = settings.to_string_lossy();
        let arguments = ["-g", "-c", &settings];
        let process = Process::start_program("BIND", &program, &arguments, &dir.join("log"))?;
        let bind = Self {
            process,
            address,
            key_file,
            looking: resolver(address, 0)?,
        };
        let answers = async || {
            bind.must_run()?;
            Ok(bind.address_of(RECORD).await.is_some())
        };
        wait_for("BIND to answer", READY_WITHIN, answers).await?;
        Ok(bind)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn must_run(&self) -> Result<(), DemoError> {
        self.process.must_run()
    }

    /// How agents reach it.
    pub(super) fn access(&self) -> String {
        format!(
            "provider = \"rfc2136\"\nserver = \"{}\"\nzone = \"{ZONE}\"\n\
             key_name = \"{KEY_NAME}\"\nkey_file = {}\n",
            self.address,
            files::quoted(&self.key_file)
        )
    }

    /// What it answers for a name now.
    pub(super) async fn address_of(&self, name: &str) -> Option<String> {
        let found = self.looking.lookup_ip(format!("{name}.")).await.ok()?;
        found.iter().next().map(|ip: IpAddr| ip.to_string())
    }

    /// What the agents noted beside a name.
    pub(super) async fn note_of(&self, name: &str) -> Option<String> {
        let found = self.looking.txt_lookup(format!("_agent.{name}.")).await;
        let found = found.ok()?;
        let records = found.answers().iter();
        Some(records.map(|it| it.data.to_string()).collect())
    }

    /// A resolver as clients have one: it keeps answers for as long as their TTL says.
    pub(super) fn resolver(&self) -> Result<TokioResolver, DemoError> {
        resolver(self.address, 32)
    }
}

fn resolver(server: SocketAddr, cache: u64) -> Result<TokioResolver, DemoError> {
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, provider);
    builder.options_mut().cache_size = cache;
    builder.options_mut().timeout = Duration::from_millis(500);
    builder.build().map_err(|error| DemoError::NoBind {
        why: format!("no resolver for it: {error}"),
    })
}

/// Servers are not in the path of normal users.
fn installed() -> Result<PathBuf, DemoError> {
    let places = ["/usr/sbin/named", "/usr/local/sbin/named", "/usr/bin/named"];
    let mut places = places.map(PathBuf::from).into_iter();
    places
        .find(|path| path.exists())
        .ok_or_else(|| DemoError::NoBind {
            why: "it is not installed (Debian package bind9; `make setup` installs it)".to_owned(),
        })
}

fn named_conf(dir: &Path, address: SocketAddr, key: &str) -> String {
    let dir = dir.display();
    let (ip, port) = (address.ip(), address.port());
    format!(
        "options {{ directory \"{dir}\"; listen-on port {port} {{ {ip}; }};\n\
         listen-on-v6 {{ none; }}; pid-file \"{dir}/pid\"; session-keyfile \"{dir}/session.key\";\n\
         recursion no; dnssec-validation no; }};\n\
         controls {{ }};\n\
         key \"{KEY_NAME}\" {{ algorithm hmac-sha256; secret \"{key}\"; }};\n\
         zone \"{ZONE}\" {{ type primary; file \"{dir}/zone\"; update-policy {{\n\
         grant {KEY_NAME} name {RECORD}. A;\n\
         grant {KEY_NAME} name _agent.{RECORD}. TXT; }}; }};\n"
    )
}

fn zone_text(host: &str) -> String {
    let ttl = TTL.as_secs();
    format!(
        "$TTL {ttl}\n@ IN SOA ns hostmaster 1 3600 600 86400 {ttl}\n@ IN NS ns\nns IN A 127.0.0.1\n\
         {RECORD}. IN A {host}\n"
    )
}
