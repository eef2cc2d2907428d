//! The files of the demo: secrets, the apps' `.env`, and one `agent.toml` for each member.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::error::DemoError;
use super::session::DATABASE;

/// What the settings of one member say. They differ only in what cannot be shared on one host.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    pub(super) root: &'a Path,
    pub(super) member: &'a str,
    pub(super) sites: &'a [SiteSettings<'a>; 2],
    pub(super) witness: &'a str,
    pub(super) bin_dir: &'a Path,
    /// Its `[[dns]]` part.
    pub(super) dns: &'a str,
}

/// What the settings say of one site.
#[derive(Debug)]
pub(super) struct SiteSettings<'a> {
    pub(super) name: &'a str,
    pub(super) address: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) data_dir: &'a Path,
    pub(super) env_file: &'a Path,
}

impl Settings<'_> {
    /// The text of `agent.toml`.
    ///
    /// Faster than the defaults: a ttl of 3 s instead of 10 s, and a hung database is found within
    /// a second and a half.
    pub(super) fn text(&self) -> String {
        let root = |name: &str| quoted(&self.root.join(name));
        let member = |name: &str| quoted(&self.root.join(self.member).join(name));
        let mut text = format!(
            "# Settings of the demo's {}.\ncluster = \"demo\"\n",
            self.member
        );
        if self.member != "witness" {
            text += &format!("site = \"{}\"\n", self.member);
        }
        text += &format!(
            "state_dir = {}\nsocket = {}\n\n[peer]\nsecret_file = {}\n\n\
             [lease]\nttl = \"3s\"\nrenew_every = \"300ms\"\n\n\
             [witness]\naddress = \"{}\"\n\n\
             [database]\npassword_file = {}\ntls = \"off\"\n\
             interval = \"300ms\"\ntimeout = \"600ms\"\nfast_interval = \"100ms\"\n\
             fresh_interval = \"500ms\"\n\n",
            member("state"),
            member("agent.sock"),
            root("peer.secret"),
            self.witness,
            root("database.password"),
        );
        text += "[objectives]\nrto = \"10s\"\nrpo = \"2s\"\n\n";
        for site in self.sites {
            text += &format!(
                "[sites.{name}]\naddress = \"{}\"\n\n[sites.{name}.database]\nhost = \"{}\"\n\
                 port = {}\ndata_dir = {}\nbin_dir = {}\n\n",
                site.address,
                site.host,
                site.port,
                quoted(site.data_dir),
                quoted(self.bin_dir),
                name = site.name,
            );
        }
        for site in self.sites {
            text += &format!(
                "[[app_config]]\nname = \"shop-{name}\"\nsite = \"{name}\"\npath = {}\nset = [\n  \
                 {{ key = \"DATABASE_HOST\", value = \"{{host}}\" }},\n  \
                 {{ key = \"DATABASE_PORT\", value = \"{{port}}\" }},\n  \
                 {{ key = \"DATABASE_URL\", url = true }},\n]\n\
                 reload = [\"touch\", {}]\n\n",
                quoted(site.env_file),
                quoted(&site.env_file.with_file_name("reloaded")),
                name = site.name,
            );
        }
        text += self.dns;
        text
    }
}

/// A path as TOML text.
pub(super) fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

/// The app's `.env`, with things around the keys that must stay as they are.
pub(super) fn env_text(site: &str, host: &str, port: u16, password: &str) -> String {
    format!(
        "# Settings of the shop at {site}. The agent keeps the database's place up to date.\n\
         APP_NAME=shop\n\
         DATABASE_HOST={host}   # follows the primary\n\
         DATABASE_PORT={port}\n\
         DATABASE_URL=postgresql://app:{password}@{host}:{port}/{DATABASE}?connect_timeout=2\n\
         LOG_LEVEL=info\n"
    )
}

/// True when all three keys of an app's `.env` name this node.
pub(super) fn names(path: &Path, host: &str, port: u16) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    value("DATABASE_HOST").as_deref() == Some(host)
        && value("DATABASE_PORT") == Some(port.to_string())
        && value("DATABASE_URL").is_some_and(|url| url.contains(&format!("@{host}:{port}/")))
}

/// Writes a file that only its owner may read.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<(), DemoError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| DemoError::io("write", path, error))
}
