//! Where the lease is kept: with the voters, or in an etcd cluster.

use std::path::PathBuf;

use super::file::existing_file;
use super::problem::Refusal;
use super::reader::Table;
use super::secret::Secret;
use super::settings::Etcd;
use super::{MemberRole, defaults, keys, secret_source, syntax};
use crate::model::lease::LeaseStore;

const STORES: [LeaseStore; 3] = [LeaseStore::Quorum, LeaseStore::Etcd, LeaseStore::Pair];

/// More members than this, no etcd cluster has. Source: etcd FAQ, "What is maximum cluster size?".
const ENDPOINTS_MAX: usize = 9;

/// The store and the etcd cluster; no store only after an error was reported.
pub(super) fn read(
    root: &Table<'_>,
    table: &Table<'_>,
    role: MemberRole,
) -> (Option<LeaseStore>, Option<Etcd>) {
    let store = store(root, table);
    if store == Some(LeaseStore::Pair) && role == MemberRole::Agent {
        let what = "missing: a silent site is never failed over automatically";
        let hint = "only a handover is; run `agent witness` at a third place";
        root.warning("witness", Refusal::new(what).hint(hint));
    }
    let etcd = table
        .table("etcd", &keys::ETCD)
        .and_then(|etcd| self::etcd(&etcd, role));
    if store == Some(LeaseStore::Etcd) && !table.has("etcd") {
        let refusal = Refusal::new("missing: where is etcd?");
        table.error("etcd", refusal.hint("[lease.etcd] endpoints = [\"…\"]"));
    }
    (store, etcd)
}

fn store(root: &Table<'_>, table: &Table<'_>) -> Option<LeaseStore> {
    // A witness that cannot be read is reported elsewhere.
    let has_witness = root.has("witness");
    if !table.has("store") {
        // As it always was: who has a third vote, uses it.
        let default = if has_witness {
            LeaseStore::Quorum
        } else {
            LeaseStore::Pair
        };
        return Some(default);
    }
    let name = table.choice("store", &STORES.map(LeaseStore::name))?;
    let store = STORES.into_iter().find(|store| store.name() == name)?;
    let refusal = match store {
        LeaseStore::Quorum if !has_witness => {
            Refusal::new("a quorum needs a third vote, and there is no witness")
                .hint("run `agent witness` at a third place; or store = \"pair\" or \"etcd\"")
        }
        LeaseStore::Pair if has_witness => {
            Refusal::new("a pair has no third vote, and there is a witness")
                .hint("store = \"quorum\", or take [witness] away")
        }
        LeaseStore::Quorum | LeaseStore::Pair | LeaseStore::Etcd => return Some(store),
    };
    table.error("store", refusal);
    None
}

fn etcd(table: &Table<'_>, role: MemberRole) -> Option<Etcd> {
    table.need("endpoints", "the client URLs of etcd's members");
    let endpoints = endpoints(table);
    let prefix = table.parsed("prefix", prefix);
    // The witness does not ask etcd: it needs neither files nor password.
    let (ca, identity) = match role {
        MemberRole::Agent => (existing_file(table, "ca"), identity(table)),
        MemberRole::Witness => (None, None),
    };
    let login = login(table, role);
    Some(Etcd {
        endpoints: endpoints?,
        prefix: prefix.unwrap_or_else(|| defaults::ETCD_PREFIX.to_owned()),
        ca,
        identity,
        login,
    })
}

fn endpoints(table: &Table<'_>) -> Option<Vec<String>> {
    let texts = table.texts("endpoints")?;
    if texts.is_empty() || texts.len() > ENDPOINTS_MAX {
        let what = format!("must be from 1 to {ENDPOINTS_MAX} URLs");
        table.error("endpoints", Refusal::new(what));
        return None;
    }
    let logs_in = table.has("user");
    let mut endpoints = Vec::new();
    for (text, spot) in &texts {
        match endpoint(text, logs_in) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(refusal) => table.reader.error(spot, refusal),
        }
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        if endpoints.iter().take(index).any(|other| other == endpoint) {
            table.error(
                "endpoints",
                Refusal::new(format!("{endpoint} is there twice")),
            );
        }
    }
    (endpoints.len() == texts.len()).then_some(endpoints)
}

/// One member's client URL: scheme, host and port.
fn endpoint(text: &str, logs_in: bool) -> Result<String, Refusal> {
    let hint = "e.g. \"https://10.0.0.5:2379\"";
    let url = syntax::url(text).map_err(|refusal| Refusal::new(refusal.what).hint(hint))?;
    let base = text.trim_end_matches('/');
    let after_scheme = base.split_once("://").map_or("", |(_, rest)| rest);
    if after_scheme.contains(['/', '?', '#']) {
        return Err(Refusal::new("not a member's URL: it has a path").hint(hint));
    }
    if logs_in && !url.https && !syntax::is_loopback(&url.host) {
        return Err(Refusal::new("the password would be sent in plain text").hint("use https"));
    }
    Ok(base.to_owned())
}

/// Keys are compared as bytes: a slash too many is another key.
fn prefix(text: &str) -> Result<String, Refusal> {
    let plain = |c: char| c.is_ascii_graphic();
    if text.starts_with('/') && !text.ends_with('/') && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new("must begin with a slash and not end with one")
        .hint("e.g. \"/failover-agent\""))
}

fn identity(table: &Table<'_>) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (existing_file(table, "cert"), existing_file(table, "key"));
    for (has, lacks) in [("cert", "key"), ("key", "cert")] {
        if table.has(has) && !table.has(lacks) {
            let what = format!("missing, and {has} is given");
            table.error(lacks, Refusal::new(what).hint("they belong together"));
        }
    }
    Some((cert?, key?))
}

fn login(table: &Table<'_>, role: MemberRole) -> Option<(String, Secret)> {
    let user = table.text("user");
    let password = match role {
        MemberRole::Agent => secret_source::read(table, &keys::ETCD_PASSWORD),
        MemberRole::Witness => return None,
    };
    let named = secret_source::named(table, &keys::ETCD_PASSWORD);
    let has_password = table.has(named);
    if user.is_some() && !has_password {
        let refusal = Refusal::new("missing, and user is given");
        table.error(named, refusal.hint("a file that only the agent may read"));
    }
    if user.is_none() && has_password {
        table.error(
            "user",
            Refusal::new(format!("missing, and {named} is given")),
        );
    }
    Some((user?.to_owned(), password?))
}
