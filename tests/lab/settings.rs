//! What members and nodes of a round are told: their `agent.toml` and their server settings.

use std::fmt::Write as _;

use super::delay::Delays;
use super::lab::{Lab, MEMBER_PORT, NODE_PORT};
use super::support::programs::bin_dir;
use super::wires::{HOSTS, Host, SITES};

/// Who may come from where: anybody of the lab.
pub const HBA: &str =
    "host all all 10.231.0.0/24 trust\nhost replication all 10.231.0.0/24 trust\n";

/// What differs between rounds.
#[derive(Debug)]
pub struct Settings {
    pub ttl: &'static str,
    /// Of the disk under the data directory: filled at once, and enough for a round.
    pub data_disk: &'static str,
    /// Every way between hosts leads through them, if there are any.
    pub delays: Option<Delays>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: "2s",
            data_disk: "160m",
            delays: None,
        }
    }
}

/// Every port that hosts offer each other.
pub const OFFERED: [(Host, u16); 5] = [
    (Host::Fra, MEMBER_PORT),
    (Host::Ams, MEMBER_PORT),
    (Host::Witness, MEMBER_PORT),
    (Host::Fra, NODE_PORT),
    (Host::Ams, NODE_PORT),
];

impl Settings {
    fn reach(&self, from: Host, to: Host, port: u16) -> (&'static str, u16) {
        let late = self.delays.as_ref();
        let late = late.and_then(|delays| delays.address(from, to, port));
        late.unwrap_or((to.address(), port))
    }

    /// `agent.toml` of a host's member.
    pub fn member(&self, lab: &Lab, own: Host) -> String {
        let mut text = format!(
            "cluster = \"lab\"\nsite = \"{site}\"\nstate_dir = \"{state}\"\nsocket = \"{dir}/agent.sock\"\n\
             [peer]\nsecret = \"the secret of the lab's members\"\ninsecure = true\n\
             [lease]\nttl = \"{ttl}\"\n\
             [database]\nuser = \"agent\"\ntls = \"off\"\ninterval = \"500ms\"\ntimeout = \"1s\"\n\
             fast_interval = \"100ms\"\nfall = 2\nfresh_interval = \"2s\"\n",
            // The witness ignores it.
            site = if own == Host::Witness {
                "fra"
            } else {
                own.name()
            },
            state = lab.state_dir(own).display(),
            dir = lab.run_dir(own).display(),
            ttl = self.ttl,
        );
        for host in HOSTS {
            let (address, port) = self.reach(own, host, MEMBER_PORT);
            let section = match host {
                Host::Witness => "witness".to_owned(),
                Host::Fra | Host::Ams => format!("sites.{}", host.name()),
            };
            writeln!(text, "[{section}]\naddress = \"{address}:{port}\"").unwrap();
        }
        for site in SITES {
            let (address, port) = self.reach(own, site, NODE_PORT);
            writeln!(
                text,
                "[sites.{}.database]\nhost = \"{address}\"\nport = {port}\n\
                 data_dir = \"{}\"\nbin_dir = \"{}\"",
                site.name(),
                lab.data_dir(site).display(),
                bin_dir().display(),
            )
            .unwrap();
        }
        text
    }

    /// Server settings of a site's node.
    pub fn node(&self, lab: &Lab, site: Host) -> String {
        let other = match site {
            Host::Fra => Host::Ams,
            Host::Ams | Host::Witness => Host::Fra,
        };
        let (address, port) = self.reach(site, other, NODE_PORT);
        format!(
            "listen_addresses = '{own}'\nport = {NODE_PORT}\nunix_socket_directories = '{run}'\n\
             primary_conninfo = 'host={address} port={port} user=postgres \
             application_name={name}'\nhot_standby = on\nwal_log_hints = on\n\
             max_connections = 40\nshared_buffers = 16MB\nmax_wal_senders = 8\n\
             wal_keep_size = 64MB\nmax_wal_size = 64MB\nmin_wal_size = 32MB\n\
             wal_retrieve_retry_interval = 200ms\nlog_min_messages = log\n",
            own = site.address(),
            run = lab.run_dir(site).display(),
            name = site.name(),
        )
    }
}
