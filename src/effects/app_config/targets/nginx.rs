//! nginx: `-t` over all of its files, HUP, new workers, no new `[emerg]`, a marker through it.
//!
//! The proof that it took the reload is that of `nginx_reload`.
//!
//! The check is made in place: a copy of the tree would be another tree wherever a file includes
//! another by its full path, as Debian's do.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Url;
use rustix::process::Signal;

use super::nginx_reload::{Before, Look};
use super::process::Running;
use super::{Check, Place, Target, time_to_look};
use crate::config::settings::NginxTarget;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::exec::CommandSpec;
use crate::effects::http_client;
use crate::model::Moment;

/// Names that are told at most: a file of a thousand members would say the same a thousand times.
const NAMES_TOLD_MAX: usize = 3;

/// One change of a file of nginx.
#[derive(Debug)]
pub struct Nginx {
    settings: NginxTarget,
    place: Place,
    /// nginx as it was right before it was told.
    told: Option<Arc<Before>>,
}

impl Nginx {
    pub(super) fn new(settings: NginxTarget, place: Place) -> Self {
        Self {
            settings,
            place,
            told: None,
        }
    }

    /// Waits until only workers serve that were not there before.
    async fn wait_for_workers(
        &self,
        told: &Arc<Before>,
        deadline: Moment,
    ) -> Result<usize, EffectError> {
        loop {
            let before = Arc::clone(told);
            match self.place.apart(move |_| Ok(before.look())).await? {
                Look::Taken { workers } => return Ok(workers),
                Look::NotYet => {}
                Look::Refused { line } => {
                    let what = format!("nginx keeps the old configuration: {line}");
                    return Err(EffectError::permanent(self.place.says(what)));
                }
                Look::Ended => {
                    let what = self.place.says("nginx ended when it was told to reload");
                    return Err(
                        EffectError::permanent(what).hint("see its error log, and start it")
                    );
                }
            }
            if !time_to_look(deadline).await {
                let what =
                    "nginx has not replaced its workers in time: it keeps the old configuration";
                return Err(EffectError::retryable(self.place.says(what))
                    .hint("its error log says why; is error_log the file that it writes?"));
            }
        }
    }

    /// Asks through nginx until the answer has the marker.
    async fn wait_for_marker(&self, url: &str, deadline: Moment) -> Result<(), EffectError> {
        let bad = |_| EffectError::permanent(self.place.says("verify_url is no URL"));
        let url = Url::parse(url).map_err(bad)?;
        let wanted = self.settings.verify_text.as_deref().unwrap_or_default();
        let mut seen = None;
        loop {
            let client = http_client::client(&url, boottime().until(deadline))?;
            match http_client::send(client.get(url.clone())).await {
                Ok(answer) if !answer.status.is_success() => {
                    seen = Some(format!("status {}", answer.status));
                }
                Ok(answer) if !String::from_utf8_lossy(&answer.body).contains(wanted) => {
                    seen = Some("an answer without verify_text".to_owned());
                }
                Ok(_) => return Ok(()),
                Err(error) => seen = seen.or(Some(error.to_string())),
            }
            if !time_to_look(deadline).await {
                let seen = seen.unwrap_or_default();
                let what = format!("nginx has the file, but verify_url gives {seen}");
                return Err(EffectError::retryable(self.place.says(what)));
            }
        }
    }
}

#[async_trait]
impl Target for Nginx {
    fn check(&self) -> Check {
        Check::InPlace
    }

    async fn before(&mut self, _deadline: Moment) -> Result<(), EffectError> {
        let settings = self.settings.clone();
        let find = move |place: &Place| find(place, &settings).map(|_main| ());
        self.place.apart(find).await
    }

    async fn validate(
        &mut self,
        files: &[PathBuf],
        deadline: Moment,
    ) -> Result<Vec<String>, EffectError> {
        let names = self.place.read_all(files, |text, _| Ok(names_in(text)));
        let names = names.await?;
        let names: BTreeSet<String> = names.into_iter().flatten().collect();
        let command = CommandSpec::new(&self.settings.program, boottime().until(deadline));
        let command = command.arg("-t").arg("-q").arg("-c");
        let command = command.arg(&self.settings.config);
        let hint = match names.is_empty() {
            true => "run nginx -t by hand as the agent's user",
            false => "it names hosts, which need DNS at every reload: write addresses",
        };
        self.place.checked(command, deadline, hint).await?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let shown: Vec<&str> = names
            .iter()
            .take(NAMES_TOLD_MAX)
            .map(String::as_str)
            .collect();
        Ok(vec![format!(
            "nginx looks up {} when it reloads, and keeps the old configuration while DNS fails: \
             write addresses",
            shown.join(", ")
        )])
    }

    async fn apply(&mut self, _deadline: Moment) -> Result<(), EffectError> {
        let settings = self.settings.clone();
        let tell = move |place: &Place| {
            let main = find(place, &settings)?;
            let before = Before::of(main, &settings.error_log);
            main.signal(place, Signal::HUP).map(|()| before)
        };
        self.told = Some(Arc::new(self.place.apart(tell).await?));
        Ok(())
    }

    async fn verify(&mut self, deadline: Moment) -> Result<String, EffectError> {
        let Some(told) = &self.told else {
            return Err(EffectError::permanent(
                self.place.says("nginx was not told to reload"),
            ));
        };
        let new = self.wait_for_workers(told, deadline).await?;
        let mut proof = format!("nginx has {new} new workers, {}", told.log_words());
        if let Some(url) = &self.settings.verify_url {
            self.wait_for_marker(url, deadline).await?;
            proof.push_str(", and verify_url answers as it should");
        }
        Ok(proof)
    }
}

/// The main process that the pid file names.
fn find(place: &Place, settings: &NginxTarget) -> Result<Running, EffectError> {
    let program = settings.program.file_name().unwrap_or_default();
    Running::find(place, &settings.pid_file, &program.to_string_lossy())
}

/// Host names that `server` and `proxy_pass` lines make nginx look up at every reload.
/// Source: ngx_http_upstream_module, `server`: an address, a name, or a path after `unix:`.
#[must_use]
pub fn names_in(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next().unwrap_or_default().trim_start();
            let mut words = line.split([' ', '\t', ';']).filter(|word| !word.is_empty());
            let directive = words.next()?;
            let address = words.next()?;
            let host = match directive {
                "server" => address,
                "proxy_pass" => address.split_once("://").map_or(address, |(_, rest)| rest),
                _ => return None,
            };
            name_of(host)
        })
        .collect()
}

/// The host's name, unless it is an address, a socket, a variable, or the block `server {`.
fn name_of(address: &str) -> Option<String> {
    let host = address.split('/').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(['[', '{', '$']) || host.starts_with("unix:") {
        return None;
    }
    let host = host.split(':').next().unwrap_or_default();
    // A word without a dot is the name of an upstream block as a rule.
    let name = host.contains('.') && host.parse::<IpAddr>().is_err();
    name.then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_addresses_are_not() {
        let text = "upstream shop {\n  server 10.0.0.1:80;\n  server [2001:db8::1]:80;\n  \
                    server unix:/run/shop.sock;\n  server web.example.com:80 max_fails=1;\n  \
                    # server old.example.com;\n}\nserver {\n  location / {\n    \
                    proxy_pass http://api.example.com:8080/v1;\n    proxy_pass http://shop;\n  \
                    }\n}\n";
        let names: Vec<String> = names_in(text).into_iter().collect();
        assert_eq!(names, ["api.example.com", "web.example.com"]);
    }
}
