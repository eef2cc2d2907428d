//! Files of apps that follow the primary.

use std::path::PathBuf;
use std::time::Duration;

use super::targets::TargetSettings;
use crate::model::SiteName;

/// Bound on everything of a change that has no setting: locks, files, and the commands of the
/// ready-made targets, there and back.
const FILES_LONGEST: Duration = Duration::from_mins(5);

/// The files of an app that name the primary; they change together.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// Its name.
    pub name: String,
    /// The site where the files lie; `None`: on both.
    pub site: Option<SiteName>,
    /// Which; at least one.
    pub files: Vec<AppConfigFile>,
    /// Asked before a change whether the new files are right: program and arguments.
    pub validate: Option<Vec<String>>,
    /// Bound on `validate`.
    pub validate_timeout: Duration,
    /// The directory of which `validate` gets a copy with the new files in it.
    pub stage: Option<PathBuf>,
    /// Run after a change: program and arguments.
    pub reload: Option<Vec<String>>,
    /// Bound on `reload`.
    pub reload_timeout: Duration,
    /// Asked after the reload whether the running app uses the new values: program and arguments.
    /// If it never says so, the previous files come back.
    pub verify: Option<Vec<String>>,
    /// Until when `verify` is asked again and again.
    pub verify_timeout: Duration,
    /// The program that reads the files, in the place of all three commands.
    pub target: Option<TargetSettings>,
    /// How many previous versions are kept.
    pub keep: u32,
}

impl AppConfig {
    /// The longest that a change takes when each part of it uses up its time: new files, reload and
    /// look, then the previous ones, reload and look.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let ready_made = self.target.is_some();
        let of = |command: &Option<Vec<String>>, within| match ready_made || command.is_some() {
            true => within,
            false => Duration::ZERO,
        };
        let reload = of(&self.reload, self.reload_timeout);
        let look =
            of(&self.validate, self.validate_timeout) + of(&self.verify, self.verify_timeout);
        let waits = self.target.as_ref().map(TargetSettings::waits);
        let there_and_back = (look + reload + waits.unwrap_or_default()) * 2;
        // A ready-made target is prepared before, and let go on after, each within a reload's time.
        let around = if ready_made {
            reload * 2
        } else {
            Duration::ZERO
        };
        FILES_LONGEST + there_and_back + around
    }
}

/// One file.
#[derive(Debug, Clone)]
pub struct AppConfigFile {
    /// Where.
    pub path: PathBuf,
    /// Its format; `None`: the one that its name promises, or for a rendered file none.
    pub format: Option<String>,
    /// Which keys follow the primary; none in a rendered file.
    pub edits: Vec<AppConfigEdit>,
    /// What the whole file is rendered from; `None`: its keys are edited in place.
    pub template: Option<AppConfigTemplate>,
}

/// The template of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppConfigTemplate {
    /// Where its text lies.
    pub path: PathBuf,
    /// The key of `agent.toml` that names it.
    pub key: String,
    /// The line of that key.
    pub line: Option<usize>,
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
    /// The connection string it is (`host=… port=…`), with this field replaced.
    Field {
        /// Which.
        name: String,
        /// Its text, with the variables as above.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::super::targets::ComposeTarget;
    use super::*;

    #[test]
    fn longest_change_counts_what_its_settings_let_it_wait() {
        let second = Duration::from_secs;
        let mut app = AppConfig {
            name: "shop".to_owned(),
            site: None,
            files: Vec::new(),
            validate: None,
            validate_timeout: second(10),
            stage: None,
            reload: None,
            reload_timeout: second(600),
            verify: None,
            verify_timeout: second(300),
            target: None,
            keep: 1,
        };
        assert_eq!(app.longest(), FILES_LONGEST, "nobody is asked");
        app.reload = Some(vec!["true".to_owned()]);
        assert_eq!(app.longest(), FILES_LONGEST + second(2 * 600));
        app.verify = Some(vec!["true".to_owned()]);
        assert_eq!(app.longest(), FILES_LONGEST + second(2 * 900));
        (app.reload, app.verify) = (None, None);
        app.target = Some(TargetSettings::Compose(ComposeTarget {
            program: PathBuf::from("docker"),
            compose_file: PathBuf::from("compose.yaml"),
            service: "web".to_owned(),
        }));
        let (there_and_back, around) = (second(2 * 910), second(2 * 600));
        assert_eq!(app.longest(), FILES_LONGEST + there_and_back + around);
    }
}
