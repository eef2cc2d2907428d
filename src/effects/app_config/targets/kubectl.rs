//! A workload of Kubernetes that reads a ConfigMap: put the files into that, roll the pods, wait
//! for them. What else is in the ConfigMap is somebody else's, and stays.
//!
//! Pods keep the environment that they were started with, and a file that is mounted by `subPath`
//! never changes: so the pods are made anew in any case.
//! Source: kubernetes.io, "ConfigMaps", "Mounted ConfigMaps are updated automatically".
//!
//! No shell, and no value in an argument: the patch is the input of `kubectl patch`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;

use super::{Check, Place, Target};
use crate::config::settings::KubectlTarget;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::exec::CommandSpec;
use crate::model::Moment;

/// Where `kubectl` finds its input by a name: it takes a patch only from a file. Source:
/// kubernetes.io, "kubectl patch", `--patch-file`.
const INPUT: &str = "/dev/stdin";

/// One change of a ConfigMap's file.
#[derive(Debug)]
pub struct Kubectl {
    settings: KubectlTarget,
    place: Place,
}

impl Kubectl {
    pub(super) fn new(settings: KubectlTarget, place: Place) -> Self {
        Self { settings, place }
    }

    fn kubectl(&self, words: &[&str], deadline: Moment) -> CommandSpec {
        let mut command = CommandSpec::new(&self.settings.program, boottime().until(deadline));
        if let Some(path) = &self.settings.kubeconfig {
            command = command.arg("--kubeconfig").arg(path);
        }
        command
            .args(["--namespace", &self.settings.namespace])
            .args(words)
    }

    /// `kubectl patch configmap` with these texts under the names of the files, and nothing else.
    /// Source: RFC 7396: what a merge patch does not name stays as it is.
    async fn patch(
        &self,
        files: &[PathBuf],
        options: &[&str],
        deadline: Moment,
    ) -> Result<CommandSpec, EffectError> {
        let texts = self.place.read_all(files, |text, _| Ok(text.to_owned()));
        let names = self.place.files.iter().map(|live| {
            let name = live.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        });
        let data: BTreeMap<String, String> = names.zip(texts.await?).collect();
        let patch = serde_json::json!({ "data": data }).to_string();
        let words = ["patch", "configmap", &self.settings.config_map];
        let command = self.kubectl(&words, deadline);
        Ok(command
            .args(["--type", "merge", "--patch-file", INPUT])
            .args(options)
            .input(patch))
    }
}

#[async_trait]
impl Target for Kubectl {
    fn check(&self) -> Check {
        Check::Staged
    }

    async fn before(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let words = ["get", &self.settings.workload, "-o", "name"];
        let command = self.kubectl(&words, deadline);
        self.place.run(command, deadline).await.map(|_finished| ())
    }

    async fn validate(
        &mut self,
        files: &[PathBuf],
        deadline: Moment,
    ) -> Result<Vec<String>, EffectError> {
        let hint = "run that command by hand as the agent's user";
        // The API server says whether it would take it, and changes nothing.
        let command = self.patch(files, &["--dry-run=server"], deadline).await?;
        self.place.checked(command, deadline, hint).await?;
        Ok(Vec::new())
    }

    async fn apply(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let patch = self.patch(&self.place.files, &[], deadline).await?;
        self.place.run(patch, deadline).await?;
        let words = ["rollout", "restart", &self.settings.workload];
        let restart = self.kubectl(&words, deadline);
        self.place.run(restart, deadline).await.map(|_finished| ())
    }

    async fn verify(&mut self, deadline: Moment) -> Result<String, EffectError> {
        let workload = &self.settings.workload;
        let timeout = format!("--timeout={}s", boottime().until(deadline).as_secs().max(1));
        let words = ["rollout", "status", workload, "--watch=true", &timeout];
        let command = self.kubectl(&words, deadline);
        self.place.run(command, deadline).await?;
        Ok(format!("every pod of {workload} is a new one"))
    }
}
