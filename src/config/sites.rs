//! `[sites.*]`: where each agent and its node are, and how the node is controlled.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::{Refusal, quoted};
use super::reader::{Spot, Table};
use super::settings::{Control, ControlCommands, Node, Site};
use super::syntax::HostPort;
use super::{defaults, keys, suggest, syntax, validate};
use crate::model::SiteName;

/// What control commands may name.
const CONTROL_VARIABLES: [&str; 5] = ["host", "port", "data_dir", "site", "epoch"];

const CONTROL_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);

const PORT: RangeInclusive<u32> = 1..=65_535;

/// What the file says of the sites, the readable and the unreadable.
#[derive(Debug, Default)]
pub(super) struct Sites {
    /// Every name, sorted, with its place.
    pub(super) names: Vec<(String, Spot)>,
    /// Those sites that could be read.
    pub(super) read: Vec<ReadSite>,
}

/// A site, with what is checked against other sections.
#[derive(Debug)]
pub(super) struct ReadSite {
    pub(super) site: Site,
    pub(super) address: HostPort,
    pub(super) address_spot: Spot,
    pub(super) node_spot: Spot,
}

impl Sites {
    /// Exactly two, sorted by name.
    pub(super) fn pair(self) -> Option<[Site; 2]> {
        let sites: Vec<_> = self.read.into_iter().map(|read| read.site).collect();
        sites.try_into().ok()
    }

    /// The site of this name, if there is one.
    pub(super) fn known(&self, name: &str) -> Option<SiteName> {
        let known = self.names.iter().any(|(known, _)| known == name);
        known.then(|| SiteName::new(name))
    }

    /// What to say to somebody who named another.
    pub(super) fn unknown(&self, name: &str) -> Refusal {
        let names: Vec<_> = self.names.iter().map(|(name, _)| name.as_str()).collect();
        let hint = suggest::did_you_mean(name, names.iter().copied())
            .unwrap_or_else(|| format!("known: {}", names.join(", ")));
        Refusal::new(format!("unknown site {}", quoted(name))).hint(hint)
    }
}

/// Reads every site.
pub(super) fn read(root: &Table<'_>) -> Sites {
    let Some(named) = root.named("sites") else {
        if !root.has("sites") {
            root.error(
                "sites",
                Refusal::new("missing").hint("exactly two: [sites.<name>]"),
            );
        }
        return Sites::default();
    };
    let mut sites = Sites::default();
    for (name, spot, value) in named {
        let refused = match syntax::name(name) {
            Ok(_) if name == "witness" => Some(Refusal::new("no site can have this name")),
            Ok(_) => None,
            Err(refusal) => Some(refusal),
        };
        if let Some(refusal) = refused {
            root.reader.error(&spot, refusal);
        }
        sites.names.push((name.to_owned(), spot.clone()));
        let Some(entries) = value.as_table() else {
            root.reader.error(&spot, Refusal::new("expected a table"));
            continue;
        };
        let table = Table::open(root.reader, entries, &keys::SITE, spot);
        sites.read.extend(site(name, &table));
    }
    if sites.names.len() != 2 {
        let names: Vec<_> = sites.names.iter().map(|(name, _)| name.as_str()).collect();
        let what = format!("there must be exactly two, not {}", names.len());
        let refusal = match names.is_empty() {
            true => Refusal::new(what),
            false => Refusal::new(what).hint(format!("found: {}", names.join(", "))),
        };
        root.error("sites", refusal);
    }
    sites
}

fn site(name: &str, table: &Table<'_>) -> Option<ReadSite> {
    table.need("address", "where the others reach the agent, as host:port");
    let address = table.parsed("address", syntax::host_port);
    let listen = table.parsed("listen", syntax::listen);
    let routing = table.parsed("routing", syntax::listen);
    let node_table = table.table_or_empty("database", &keys::NODE)?;
    let node = node(&node_table, address.as_ref());
    let node_port = node.as_ref().map(|node| node.port);
    validate::routing(table, address.as_ref(), listen, routing, node_port);
    let address = address?;
    Some(ReadSite {
        site: Site {
            name: SiteName::new(name),
            address: address.to_string(),
            listen,
            routing,
            node: node?,
        },
        address,
        address_spot: table.spot("address"),
        node_spot: node_table.spot("host"),
    })
}

fn node(table: &Table<'_>, address: Option<&HostPort>) -> Option<Node> {
    table.need("data_dir", "the node's PGDATA, on the site's own host");
    let host = match table.has("host") {
        true => table.parsed("host", syntax::host),
        // The usual case: the agent runs beside its node.
        false => address.map(|address| address.host.clone()),
    };
    let port = table
        .integer("port", &PORT)
        .and_then(|port| u16::try_from(port).ok());
    let data_dir = table.path("data_dir");
    let bin_dir = table.path("bin_dir");
    let os_user = table.text("os_user").map(str::to_owned);
    let control = control(table);
    Some(Node {
        host: host?,
        port: port.unwrap_or(defaults::DATABASE_PORT),
        data_dir: data_dir?,
        bin_dir,
        os_user,
        control: control?,
    })
}

/// Keys of each kind of control; a key of another kind has no meaning.
const SYSTEMD_KEYS: [&str; 1] = ["unit"];
const COMMANDS_KEYS: [&str; 7] = [
    "start", "stop", "promote", "status", "fence", "fenced", "timeout",
];

fn control(node: &Table<'_>) -> Option<Control> {
    if !node.has("control") {
        return Some(Control::Local);
    }
    let table = node.table("control", &keys::CONTROL)?;
    table.need("kind", "\"local\", \"systemd\" or \"commands\"");
    match table.choice("kind", &["local", "systemd", "commands"])? {
        "systemd" => {
            table.refuse_keys(&COMMANDS_KEYS, "only for kind = \"commands\"");
            table.need("unit", "e.g. \"postgresql@15-main.service\"");
            let unit = table.parsed("unit", unit)?;
            Some(Control::Systemd { unit })
        }
        "commands" => {
            table.refuse_keys(&SYSTEMD_KEYS, "only for kind = \"systemd\"");
            commands(&table).map(|commands| Control::Commands(Box::new(commands)))
        }
        _ => {
            table.refuse_keys(&SYSTEMD_KEYS, "only for kind = \"systemd\"");
            table.refuse_keys(&COMMANDS_KEYS, "only for kind = \"commands\"");
            Some(Control::Local)
        }
    }
}

/// A unit's name. Source: systemd.unit(5): letters, digits and `:-_.\@`.
fn unit(text: &str) -> Result<String, Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if text.starts_with('-') || text.len() > 255 || !text.chars().all(allowed) {
        return Err(Refusal::new("not the name of a systemd unit"));
    }
    Ok(text.to_owned())
}

fn commands(table: &Table<'_>) -> Option<ControlCommands> {
    for (key, what) in [
        ("start", "starts the node"),
        ("stop", "stops it cleanly"),
        ("status", "exit 0: it runs; 3: it does not"),
    ] {
        table.need(key, &format!("a list of program and arguments; {what}"));
    }
    let command = |key| table.command(key, &CONTROL_VARIABLES);
    let (start, stop, status) = (command("start"), command("stop"), command("status"));
    let (promote, fence, fenced) = (command("promote"), command("fence"), command("fenced"));
    let timeout = table.duration("timeout", &CONTROL_TIMEOUT);
    let missing = match (table.has("fence"), table.has("fenced")) {
        (true, true) => None,
        (false, true) => Some("fence"),
        (true, false) => Some("fenced"),
        (false, false) => Some("fence and fenced"),
    };
    if let Some(missing) = missing {
        let what = format!("without {missing} this site is never failed over automatically");
        let hint = "fence: make sure the node cannot commit; fenced: prove it with exit code 0";
        table
            .reader
            .warning(&table.here, Refusal::new(what).hint(hint));
    }
    Some(ControlCommands {
        start: start?,
        stop: stop?,
        promote,
        status: status?,
        fence,
        fenced,
        timeout: timeout.unwrap_or(defaults::CONTROL_TIMEOUT),
    })
}
