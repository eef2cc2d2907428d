//! A workload of Kubernetes that reads a ConfigMap: replace that, roll the pods, wait for them.
//!
//! Pods keep the environment that they were started with, and a file that is mounted by `subPath`
//! never changes: so the pods are made anew in any case.
//! Source: kubernetes.io, "ConfigMaps", "Mounted ConfigMaps are updated automatically".
//!
//! No shell: the output of `create --dry-run=client` is read whole and is the input of `apply`.

use std::path::PathBuf;

use async_trait::async_trait;

use super::{Check, Place, Target};
use crate::config::settings::KubectlTarget;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::exec::CommandSpec;
use crate::model::Moment;

/// Bound on a manifest. Source: kubernetes.io, "ConfigMaps": at most 1 MiB of data, to which YAML
/// adds indentation and quotes.
const MANIFEST_BYTES_MAX: usize = 4 << 20;

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

    /// `kubectl create configmap`, which only prints what it would create.
    fn create(&self, files: &[PathBuf], deadline: Moment) -> CommandSpec {
        let words = ["create", "configmap", &self.settings.config_map];
        let mut command = self.kubectl(&words, deadline);
        for (live, now) in self.place.files.iter().zip(files) {
            let key = live.file_name().unwrap_or_default().to_string_lossy();
            command = command.arg(format!("--from-file={key}={}", now.display()));
        }
        command.args(["--dry-run=client", "-o", "yaml"])
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
        let command = self.create(files, deadline);
        self.place.checked(command, deadline, hint).await?;
        Ok(Vec::new())
    }

    async fn apply(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let create = self.create(&self.place.files, deadline);
        let create = create.output_max(MANIFEST_BYTES_MAX);
        let made = self.place.run(create, deadline).await?;
        if !made.stdout_whole || made.stdout.is_empty() {
            let what = format!("the manifest is empty or larger than {MANIFEST_BYTES_MAX} bytes");
            return Err(EffectError::permanent(self.place.says(what)));
        }
        let apply = self.kubectl(&["apply", "-f", "-"], deadline);
        self.place.run(apply.input(made.stdout), deadline).await?;
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
