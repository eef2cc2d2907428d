//! What a template of an app config file may name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ClusterName, Epoch, SiteName};

/// The variables of a template. No secrets: they are written into files, plans and the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateVars {
    /// The epoch under which the file is written (S8).
    pub epoch: Epoch,
    /// The cluster's name.
    pub cluster: ClusterName,
    /// The site where the file lies.
    pub site: SiteName,
    /// The node that takes writes.
    pub primary: TemplateNode,
    /// The nodes that follow it.
    pub standbys: Vec<TemplateNode>,
    /// The healthy servers of each upstream, by its name.
    pub upstreams: BTreeMap<String, Vec<TemplateUpstream>>,
}

/// A database node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateNode {
    /// Its site.
    pub site: SiteName,
    /// Where it listens.
    pub host: String,
    /// Where it listens.
    pub port: u16,
}

/// One healthy server of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateUpstream {
    /// Its address, as the settings have it: `host:port`.
    pub name: String,
    /// Where it listens.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// Only to be used when no other one is left.
    pub backup: bool,
}
