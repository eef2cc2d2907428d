//! One change of one file in the order that a target asks for, with the old file put back when the
//! program does not take the new one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use failover_agent::config::settings::TargetSettings;
use failover_agent::effects::app_config::targets::{Check, Place, Target, target_of};
use failover_agent::effects::clock::boottime;
use failover_agent::effects::error::EffectError;
use failover_agent::model::Moment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bound on each step of a change.
pub(crate) const STEP: Duration = Duration::from_secs(15);

pub(crate) fn soon() -> Moment {
    boottime() + STEP
}

/// What a change said.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) warnings: Vec<String>,
    pub(crate) proof: String,
}

/// A file, the program that reads it, and a directory of the agent's own.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) settings: TargetSettings,
    pub(crate) dir: PathBuf,
}

impl File {
    pub(crate) fn target(&self) -> Box<dyn Target> {
        let place = Place {
            name: "front".to_owned(),
            files: vec![self.path.clone()],
            dir: self.dir.clone(),
        };
        target_of(&self.settings, place)
    }

    /// Changes the file, each step bounded by `within`.
    pub(crate) async fn change(
        &self,
        text: &str,
        within: Duration,
    ) -> Result<Changed, EffectError> {
        let mut target = self.target();
        let changed = self.change_within(target.as_mut(), text, within).await;
        target.after(soon()).await.expect("it can go on");
        changed
    }

    async fn change_within(
        &self,
        target: &mut dyn Target,
        text: &str,
        within: Duration,
    ) -> Result<Changed, EffectError> {
        let staged = self.path.with_file_name(".staged");
        fs::write(&staged, text).unwrap();
        let mut warnings = Vec::new();
        if target.check() == Check::Staged {
            let files = [staged.clone()];
            warnings = target.validate(&files, boottime() + within).await?;
        }
        target.before(boottime() + within).await?;
        let old = fs::read_to_string(&self.path).unwrap();
        fs::rename(&staged, &self.path).unwrap();
        let new = async {
            if target.check() == Check::InPlace {
                let files = [self.path.clone()];
                warnings = target.validate(&files, boottime() + within).await?;
            }
            target.apply(boottime() + within).await?;
            target.verify(boottime() + within).await
        };
        match new.await {
            Ok(proof) => Ok(Changed { warnings, proof }),
            Err(error) => {
                fs::write(&self.path, old).unwrap();
                target.apply(soon()).await.expect("it takes the old file");
                target.verify(soon()).await.expect("it has the old file");
                Err(error)
            }
        }
    }
}

/// A server of the test, which ends with it.
#[derive(Debug)]
pub(crate) struct Server(pub(crate) Child);

impl Server {
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}; make setup")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        // Both kinds end their workers when they are asked to end.
        drop(Command::new("kill").args(["-s", "TERM", &pid]).status());
        drop(self.0.wait());
    }
}

/// One page that says who it is.
pub(crate) async fn page(text: &'static str) -> u16 {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    let address = crate::support::endpoint::serve_raw(answer.into_bytes(), false).await;
    address.port()
}

/// What comes through a proxy.
pub(crate) async fn body(port: u16) -> String {
    let asking = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = "GET / HTTP/1.0\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some(body.to_owned())
    };
    let answered = tokio::time::timeout(STEP, asking).await;
    answered.expect("an answer in time").unwrap_or_default()
}
