//! Files of apps that follow the primary.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::SiteName;

/// A file of an app that names the primary.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// Its name.
    pub name: String,
    /// The site where the file lies; `None`: on both.
    pub site: Option<SiteName>,
    /// Where.
    pub path: PathBuf,
    /// Which keys follow the primary.
    pub edits: Vec<AppConfigEdit>,
    /// Run after a change: program and arguments.
    pub reload: Option<Vec<String>>,
    /// Bound on `reload`.
    pub reload_timeout: Duration,
    /// How many previous versions are kept.
    pub keep: u32,
}

/// One key that follows the primary.
#[derive(Debug, Clone)]
pub struct AppConfigEdit {
    /// The key.
    pub key: String,
    /// What its value becomes.
    pub value: AppConfigValue,
}

/// What a value becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppConfigValue {
    /// This text, with `{host}`, `{port}` and `{site}` of the primary replaced.
    Text(String),
    /// The URL it is, with host and port replaced by the primary's.
    UrlAuthority,
}
