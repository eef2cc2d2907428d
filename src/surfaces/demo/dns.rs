//! Who serves the demo's name: the stand-in for Cloudflare's API, or a real BIND of the demo's own.

use std::path::Path;

use super::bind::Bind;
use super::cloudflare::{CloudflareStandIn, Record, ZONE_ID};
use super::error::DemoError;
use super::files;

/// The zone of the demo.
pub(super) const ZONE: &str = "demo.example";
/// The record that follows the primary.
pub(super) const RECORD: &str = "shop.demo.example";
/// What the record contains at the stand-in: addresses that exist in documents only (RFC 5737).
const DOCUMENTED: [&str; 2] = ["192.0.2.1", "198.51.100.1"];

/// Who serves the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsServer {
    /// The stand-in for Cloudflare.
    Cloudflare,
    /// BIND, by signed updates; clients resolve the name there.
    Bind,
}

impl DnsServer {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cloudflare, Self::Bind];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloudflare => "cloudflare",
            Self::Bind => "bind",
        }
    }
}

/// The server that runs.
#[derive(Debug)]
pub(super) enum Dns {
    Cloudflare(CloudflareStandIn),
    Bind(Box<Bind>),
}

impl Dns {
    /// Starts it with the name at the first site. `hosts` are the nodes' addresses.
    pub(super) async fn start(
        kind: DnsServer,
        root: &Path,
        token: &str,
        hosts: [&str; 2],
    ) -> Result<Self, DemoError> {
        match kind {
            DnsServer::Cloudflare => {
                files::write_secret(&root.join("cloudflare.token"), token)?;
                let records = vec![Record::new("A", RECORD, DOCUMENTED[0])];
                let stand_in = CloudflareStandIn::start(token, records)
                    .await
                    .map_err(|error| DemoError::io("start the DNS stand-in for", root, error))?;
                Ok(Self::Cloudflare(stand_in))
            }
            DnsServer::Bind => {
                let bind = Bind::start(root, hosts).await?;
                Ok(Self::Bind(Box::new(bind)))
            }
        }
    }

    pub(super) fn bind(&self) -> Option<&Bind> {
        match self {
            Self::Cloudflare(_) => None,
            Self::Bind(bind) => Some(bind),
        }
    }

    /// What it is, for whoever watches.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Cloudflare(stand_in) => format!(
                "DNS goes to a local stand-in for the Cloudflare API, {}; everything else is real",
                stand_in.url()
            ),
            Self::Bind(bind) => format!(
                "DNS is a BIND of its own at {}, by signed updates; nothing is a stand-in",
                bind.address()
            ),
        }
    }

    /// Its part of `agent.toml`.
    pub(super) fn settings(&self, root: &Path, sites: [&str; 2], hosts: [&str; 2]) -> String {
        let (access, [first, second]) = match self {
            Self::Cloudflare(stand_in) => (
                format!(
                    "provider = \"cloudflare\"\nzone_id = \"{ZONE_ID}\"\ntoken_file = {}\n\
                     api_url = \"{}\"\n",
                    files::quoted(&root.join("cloudflare.token")),
                    stand_in.url()
                ),
                DOCUMENTED,
            ),
            Self::Bind(bind) => (bind.access(), hosts),
        };
        format!(
            "[[dns]]\nname = \"shop\"\nrecord = \"{RECORD}\"\n{access}\
             content = {{ {} = \"{first}\", {} = \"{second}\" }}\n",
            sites[0], sites[1]
        )
    }

    /// The agent of this site has moved the name there, and noted under which epoch.
    pub(super) async fn names(&self, index: usize, site: &str, hosts: [&str; 2]) -> bool {
        let (content, note) = match self {
            Self::Cloudflare(stand_in) => {
                let mut records = stand_in.records().into_iter();
                let found = records.find(|record| record.name == RECORD);
                let found = found.map(|it| (it.content, it.comment.unwrap_or_default()));
                let right = DOCUMENTED.get(index).copied();
                let (content, note) = found.unwrap_or_default();
                (right == Some(content.as_str()), note)
            }
            Self::Bind(bind) => {
                let content = bind.address_of(RECORD).await;
                let right = hosts.get(index).copied();
                let note = bind.note_of(RECORD).await.unwrap_or_default();
                (right == content.as_deref(), note)
            }
        };
        content && note.contains("epoch=") && note.contains(site)
    }

    /// An error if it has ended by itself.
    pub(super) fn must_run(&self) -> Result<(), DemoError> {
        match self {
            Self::Cloudflare(_) => Ok(()),
            Self::Bind(bind) => bind.must_run(),
        }
    }
}
