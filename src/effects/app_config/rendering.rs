//! A whole file from a template of the operator's: where its text comes from, and what it sees.
//!
//! Owns: reading the template, anew for each rendering, and which upstreams count as healthy: those
//! to which the proxy's file of their group sends requests. So the agent, `agent config` beside it
//! and the next life of both see the same, and a group's minimum, limit and settle time hold for
//! templates, too. Must not know how a rendered file is put into place. Everything here blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::format::{ConfigFormat, format_of};
use super::formats::template::{SOURCE_MAX, render};
use super::upstream::present;
use super::write::{self, FileRead};
use crate::config::settings::{AppConfigFile, Upstream};
use crate::effects::error::EffectError;
use crate::model::plan::PrimaryAt;
use crate::model::template::{TemplateNode, TemplateUpstream, TemplateVars};
use crate::model::upstream::Place;
use crate::model::{ClusterName, Epoch, SiteName};

/// What templates see beside the primary and the epoch.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// The site where the files lie.
    pub site: SiteName,
    /// All nodes.
    pub nodes: Vec<TemplateNode>,
    /// The groups of app servers of that site.
    pub upstreams: Vec<Upstream>,
}

/// Who counts as a healthy server of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Healthy {
    /// To whom the proxy's file sends requests; all of them where it does not say of anybody.
    AsInFile,
    /// Everybody: to try a template where the proxy's file may not be.
    All,
}

/// One file as its template makes it.
#[derive(Debug, Clone)]
pub(super) struct Rendering {
    template: PathBuf,
    primary: Option<PrimaryAt>,
    surroundings: Arc<Surroundings>,
}

impl Rendering {
    /// How the file is rendered once this is the primary; `None`: its keys are edited in place.
    pub(super) fn of(
        file: &AppConfigFile,
        primary: Option<&PrimaryAt>,
        surroundings: &Arc<Surroundings>,
    ) -> Option<Self> {
        Some(Self {
            template: file.template.as_ref()?.path.clone(),
            primary: primary.cloned(),
            surroundings: Arc::clone(surroundings),
        })
    }

    /// The file's text.
    ///
    /// # Errors
    /// Permanent when the template cannot be read or rendered.
    pub(super) fn text(&self, epoch: Epoch) -> Result<String, EffectError> {
        let primary = self.primary.as_ref().ok_or_else(|| {
            let what = "cannot render: the plan does not say where the primary is";
            EffectError::permanent(what).hint("agent config apply renders it now")
        })?;
        let primary = TemplateNode {
            site: primary.site.clone(),
            host: primary.host.clone(),
            port: primary.port,
        };
        rendered(
            &self.template,
            &self.surroundings,
            primary,
            epoch,
            Healthy::AsInFile,
        )
    }

    /// The file as it is. One that is not there is to be made with the template's owner and mode:
    /// who may read it is the operator's decision.
    pub(super) fn read(&self, path: &Path) -> Result<FileRead, EffectError> {
        write::read_or_absent(path, &self.template)
    }
}

/// Whether the text of the file's template names the upstreams, so that it follows their health.
///
/// # Errors
/// When the template cannot be read.
pub(super) fn names_upstreams(file: &AppConfigFile) -> Result<bool, EffectError> {
    match &file.template {
        Some(template) => source(&template.path).map(|text| text.contains("upstreams")),
        None => Ok(false),
    }
}

/// Renders the file for nobody, with each node as the primary and every upstream healthy.
///
/// # Errors
/// When the template cannot be read or rendered, or its text is not of the format that is named.
pub(super) fn rehearse(
    file: &AppConfigFile,
    surroundings: &Surroundings,
) -> Result<(), EffectError> {
    let Some(template) = &file.template else {
        return Ok(());
    };
    let format = file.format.as_deref();
    let format = format.and_then(|name| format_of(Some(name), &file.path));
    for primary in &surroundings.nodes {
        let (epoch, all) = (Epoch(1), Healthy::All);
        let text = rendered(&template.path, surroundings, primary.clone(), epoch, all)?;
        if let Some(format) = format {
            noted(format, text.as_bytes(), epoch).map_err(|error| {
                let path = template.path.display();
                let what = format!(
                    "the text that {path} gives is not {}: {error}",
                    format.name()
                );
                EffectError::permanent(what).hint(error.hint())
            })?;
        }
    }
    Ok(())
}

fn noted(
    format: &dyn ConfigFormat,
    text: &[u8],
    epoch: Epoch,
) -> Result<(), super::format::EditError> {
    format.epoch(text)?;
    format.with_epoch(text, epoch).map(|_text| ())
}

fn rendered(
    template: &Path,
    surroundings: &Surroundings,
    primary: TemplateNode,
    epoch: Epoch,
    healthy: Healthy,
) -> Result<String, EffectError> {
    let source = source(template)?;
    let nodes = surroundings.nodes.iter();
    // The files of groups are read only for those who ask.
    let upstreams = match source.contains("upstreams") {
        true => upstreams(surroundings, healthy),
        false => BTreeMap::new(),
    };
    let vars = TemplateVars {
        epoch,
        cluster: surroundings.cluster.clone(),
        site: surroundings.site.clone(),
        standbys: nodes
            .filter(|node| node.site != primary.site)
            .cloned()
            .collect(),
        primary,
        upstreams,
    };
    let text = render(&source, &vars).map_err(|error| {
        let what = format!("cannot render {}", template.display());
        EffectError::permanent(what)
            .hint("correct the template; agent check tries it")
            .caused_by(error)
    })?;
    // No app lives on an empty file, but a template is one while somebody writes it anew.
    if text.trim().is_empty() {
        let what = format!("the template {} gives an empty text", template.display());
        return Err(EffectError::permanent(what)
            .hint("put its text back; a line of comment is enough where nothing is to be said"));
    }
    Ok(text)
}

/// The template's text, bounded.
fn source(template: &Path) -> Result<String, EffectError> {
    let fail = |error| write::failure("read the template", template, error);
    let kind = fs::metadata(template).map_err(fail)?;
    // To open a pipe would wait for somebody who writes into it.
    if !kind.is_file() {
        let what = format!("the template {} is not a regular file", template.display());
        return Err(EffectError::permanent(what));
    }
    let mut text = Vec::new();
    let file = File::open(template).map_err(fail)?;
    // One more byte than allowed, so that the renderer says that it is too large.
    let most = u64::try_from(SOURCE_MAX).unwrap_or(u64::MAX) + 1;
    file.take(most).read_to_end(&mut text).map_err(fail)?;
    String::from_utf8(text).map_err(|error| {
        let what = format!("the template {} is not UTF-8", template.display());
        // The default message of this error shows where, not what.
        EffectError::permanent(what).caused_by(error.utf8_error())
    })
}

fn upstreams(
    surroundings: &Surroundings,
    healthy: Healthy,
) -> BTreeMap<String, Vec<TemplateUpstream>> {
    let groups = surroundings.upstreams.iter();
    let groups = groups.map(|group| {
        let places = match healthy {
            Healthy::AsInFile => in_file(group),
            Healthy::All => None,
        };
        // A block of former members says nothing of those of now: an app needs somebody to ask.
        let places = places.filter(|places| places.contains(&Place::In));
        let places = places.unwrap_or_else(|| vec![Place::In; group.members.len()]);
        let members = group.members.iter().zip(places);
        let members = members.filter(|(_, place)| *place == Place::In);
        let members = members.map(|(member, _)| server(&member.address, member.backup));
        (group.name.clone(), members.collect())
    });
    groups.collect()
}

/// Where the proxy's file has each member; `None`: it does not say. That it cannot be read keeps no
/// app from following the primary; it is logged once, until it can be.
fn in_file(group: &Upstream) -> Option<Vec<Place>> {
    /// The files of groups that could not be read last; no more than the settings have.
    static TOLD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let path = &group.file.path;
    let told = || TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    match present(group) {
        Ok(places) => {
            told().remove(path);
            places
        }
        Err(error) => {
            if told().insert(path.clone()) {
                let group = &group.name;
                tracing::warn!(upstream = group, %error, "templates see all of its members");
            }
            None
        }
    }
}

fn server(address: &str, backup: bool) -> TemplateUpstream {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    TemplateUpstream {
        name: address.to_owned(),
        host: host.trim_matches(['[', ']']).to_owned(),
        // Settings have no address without a port.
        port: port.parse().unwrap_or_default(),
        backup,
    }
}
