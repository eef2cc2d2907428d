//! A file of a program, changed by the product's own transaction: with everything that goes before,
//! between and after, and the old file put back when the program does not take the new one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use failover_agent::config::settings::{AppConfig, AppConfigFile, TargetSettings};
use failover_agent::effects::app_config::replace;
use failover_agent::effects::app_config::targets::{Place, Target, target_of};
use failover_agent::effects::clock::boottime;
use failover_agent::effects::error::EffectError;
use failover_agent::model::{Epoch, Moment};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bound on each step of a change.
pub(crate) const STEP: Duration = Duration::from_secs(15);

const NAME: &str = "front";

/// What the agent writes on top of a file.
pub(crate) const HEAD: &str = "# managed-by-agent epoch=1\n";

pub(crate) fn soon() -> Moment {
    boottime() + STEP
}

/// A file, the program that reads it, and where the agent keeps its things.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) settings: TargetSettings,
    pub(crate) state: PathBuf,
}

impl File {
    pub(crate) fn target(&self) -> Box<dyn Target> {
        let place = Place {
            name: NAME.to_owned(),
            files: vec![self.path.clone()],
            dir: self.dir(),
        };
        target_of(&self.settings, place)
    }

    /// The agent's own directory for it.
    pub(crate) fn dir(&self) -> PathBuf {
        self.state.join("app_config").join(NAME)
    }

    /// As the settings would have it, each step bounded by `within`.
    pub(crate) fn app(&self, within: Duration) -> AppConfig {
        AppConfig {
            name: NAME.to_owned(),
            site: None,
            files: vec![AppConfigFile {
                template: None,
                path: self.path.clone(),
                // Any text is one, and its comments are everybody's here.
                format: Some("properties".to_owned()),
                edits: Vec::new(),
            }],
            validate: None,
            validate_timeout: within,
            stage: None,
            reload: None,
            reload_timeout: within,
            verify: None,
            verify_timeout: within,
            target: Some(self.settings.clone()),
            keep: 2,
        }
    }

    /// Changes the file; what people are told of it.
    pub(crate) async fn change(&self, text: &str, within: Duration) -> Result<String, EffectError> {
        let texts = vec![(self.path.clone(), text.as_bytes().to_vec())];
        let app = self.app(within);
        let applied = replace(&app, texts, Epoch(1), &self.state).await?;
        Ok(applied.note)
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
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
