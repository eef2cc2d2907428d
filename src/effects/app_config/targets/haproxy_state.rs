//! What HAProxy says of its servers, and what its file says of them. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// A server of a backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerName {
    /// The backend, or the section `listen` that is one.
    pub backend: String,
    /// The server in it.
    pub server: String,
}

impl std::fmt::Display for ServerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.backend, self.server)
    }
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// `None` when a name is written there: what it means is HAProxy's to find out.
    pub ip: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

impl ServerAddress {
    /// Whether a server that is at `self` is where `wanted` says.
    #[must_use]
    pub fn serves(&self, wanted: &Self) -> bool {
        self.port == wanted.port && (wanted.ip.is_none() || self.ip == wanted.ip)
    }
}

/// Sections whose servers, if they have any, take no traffic.
/// Source: HAProxy configuration manual, 2.1, 3, 5.3, 10, 11.
const OTHER_SECTIONS: [&str; 14] = [
    "global",
    "defaults",
    "frontend",
    "peers",
    "resolvers",
    "userlist",
    "mailers",
    "program",
    "cache",
    "ring",
    "http-errors",
    "fcgi-app",
    "log-forward",
    "traces",
];

/// Servers and where they are.
pub type Servers = BTreeMap<ServerName, ServerAddress>;

/// The servers that a file names, those behind sockets and those without a port left out.
/// Source: HAProxy configuration manual, 2.2 quoting, 4.2 `server`.
#[must_use]
pub fn servers_in_file(text: &str) -> Servers {
    let mut backend = None;
    let mut servers = Servers::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        let second = words.next().unwrap_or_default();
        match first {
            "backend" | "listen" => backend = Some(second.to_owned()),
            "server" => {
                let address = words.next().and_then(address);
                if let (Some(backend), Some(address)) = (&backend, address) {
                    let name = ServerName {
                        backend: backend.clone(),
                        server: second.to_owned(),
                    };
                    servers.insert(name, address);
                }
            }
            _ if OTHER_SECTIONS.contains(&first) => backend = None,
            _ => {}
        }
    }
    servers
}

/// `10.0.0.1:5432`, `ipv4@10.0.0.1:5432`, `[2001:db8::1]:5432`, `db.example.com:5432`.
fn address(text: &str) -> Option<ServerAddress> {
    let text = text
        .strip_prefix("ipv4@")
        .or_else(|| text.strip_prefix("ipv6@"))
        .unwrap_or(text);
    if text.contains(['@', '/', '$', '"']) {
        return None;
    }
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(ServerAddress {
        ip: host.parse().ok(),
        port: port.parse().ok()?,
    })
}

/// The answer to `show servers state`; `None` when it is none.
/// Source: HAProxy management guide, 9.3 `show servers state`: a version, a line that names the
/// columns, and a line for each server.
#[must_use]
pub fn servers_in_state(text: &str) -> Option<Servers> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("# "));
    let columns: Vec<&str> = lines.next()?.split_whitespace().skip(1).collect();
    let at = |name: &str| columns.iter().position(|column| *column == name);
    let (backend, server) = (at("be_name")?, at("srv_name")?);
    let (ip, port) = (at("srv_addr")?, at("srv_port")?);
    let mut servers = Servers::new();
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let field = |index: usize| fields.get(index).copied();
        let (Some(backend), Some(server)) = (field(backend), field(server)) else {
            continue;
        };
        let address = ServerAddress {
            ip: field(ip).and_then(|ip| ip.parse().ok()),
            port: field(port).and_then(|port| port.parse().ok()).unwrap_or(0),
        };
        let name = ServerName {
            backend: backend.to_owned(),
            server: server.to_owned(),
        };
        servers.insert(name, address);
    }
    Some(servers)
}

/// The commands that put the servers that run where the file says. A server that does not run yet
/// comes with the reload.
/// Source: HAProxy management guide, 9.3 `set server <b>/<s> addr <ip> port <port>`.
#[must_use]
pub fn moves(running: &Servers, wanted: &Servers) -> Vec<String> {
    wanted
        .iter()
        .filter_map(|(name, wanted)| {
            let now = running.get(name)?;
            let ip = wanted.ip?;
            let moved = !now.serves(wanted);
            moved.then(|| format!("set server {name} addr {ip} port {}", wanted.port))
        })
        .collect()
}

/// Servers of the file that do not run where it says.
#[must_use]
pub fn elsewhere(running: &Servers, wanted: &Servers) -> Vec<ServerName> {
    wanted
        .iter()
        .filter(|(name, wanted)| !running.get(*name).is_some_and(|now| now.serves(wanted)))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "global\n  maxconn 10\n\nlisten app\n  bind :5000\n  \
                        server one 10.0.0.1:5432 check\n  server two ipv4@10.0.0.2:5432\n\
                        backend web\n  server six [2001:db8::1]:80 # the old one\n  \
                        server name db.example.com:5432\n  server sock /run/x.sock\n\
                        frontend f\n  bind :80\n  default_backend web\n";

    const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_port\n\
                         2 app 1 one 10.0.0.9 2 5432\n2 app 2 two 10.0.0.2 2 5432\n\
                         3 web 1 six 2001:db8::1 2 80\n3 web 2 name 10.0.0.7 2 5432\n\n";

    #[test]
    fn only_what_is_elsewhere_is_moved() {
        let (file, state) = (servers_in_file(FILE), servers_in_state(STATE).unwrap());
        assert_eq!(file.len(), 4);
        assert_eq!(
            moves(&state, &file),
            ["set server app/one addr 10.0.0.1 port 5432"]
        );
        let names: Vec<String> = elsewhere(&state, &file)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["app/one"]);
    }

    #[test]
    fn server_that_does_not_run_yet_is_elsewhere_and_not_moved() {
        let file = servers_in_file("backend b\n  server new 10.0.0.1:1\n");
        let state = servers_in_state(STATE).unwrap();
        assert_eq!(moves(&state, &file), Vec::<String>::new());
        assert_eq!(elsewhere(&state, &file).len(), 1);
    }

    #[test]
    fn other_answers_are_no_state() {
        assert_eq!(servers_in_state("Permission denied\n"), None);
    }
}
