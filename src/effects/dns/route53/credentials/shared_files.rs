//! AWS's two shared files, and what they say of a profile.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files" and "Location
//! of the shared files". Where both have the same setting, the credentials file goes first.

use std::collections::HashMap;
use std::io;

use reqsign_core::{Context, Error};

/// By name. The values may be secret.
type Settings = HashMap<String, String>;
type Profiles = HashMap<String, Settings>;

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Credentials,
    Config,
}

impl Which {
    /// Names the file.
    fn variable(self) -> &'static str {
        match self {
            Self::Credentials => "AWS_SHARED_CREDENTIALS_FILE",
            Self::Config => "AWS_CONFIG_FILE",
        }
    }

    fn usual_path(self) -> &'static str {
        match self {
            Self::Credentials => "~/.aws/credentials",
            Self::Config => "~/.aws/config",
        }
    }

    /// The profile that a section is about; `None`: it is about something else.
    fn profile(self, title: &str) -> Option<&str> {
        let title = title.trim();
        if self == Self::Credentials || title == "default" {
            return Some(title);
        }
        let name = title.strip_prefix("profile")?;
        name.starts_with(char::is_whitespace)
            .then(|| name.trim().trim_matches(['"', '\'']))
    }
}

/// Both files. No `Debug`: they have secrets.
pub(super) struct SharedFiles([SharedFile; 2]);

struct SharedFile {
    path: String,
    /// Or why there are none.
    profiles: Result<Profiles, String>,
}

impl SharedFiles {
    /// Reads them. A file that is not there is none; one that cannot be read is an error.
    pub(super) async fn read(context: &Context) -> reqsign_core::Result<Self> {
        Ok(Self([
            SharedFile::read(context, Which::Credentials).await?,
            SharedFile::read(context, Which::Config).await?,
        ]))
    }

    pub(super) fn profile(&self, name: &str) -> Option<Profile> {
        let Self(files) = self;
        let said = files.iter().filter_map(|file| {
            let settings = file.profiles.as_ref().ok()?.get(name)?;
            Some((file.path.clone(), settings.clone()))
        });
        let said: Vec<(String, Settings)> = said.collect();
        (!said.is_empty()).then(|| Profile {
            name: name.to_owned(),
            said,
        })
    }

    /// Why there is no such profile, in words.
    pub(super) fn lack(&self, name: &str) -> String {
        let Self(files) = self;
        let words = files.iter().map(|file| match &file.profiles {
            Ok(_) => format!("{} has no such profile", file.path),
            Err(why) => format!("{}: {why}", file.path),
        });
        let words: Vec<String> = words.collect();
        format!("there is no profile {name}: {}", words.join("; "))
    }
}

impl SharedFile {
    async fn read(context: &Context, which: Which) -> reqsign_core::Result<Self> {
        let named = context.env_var(which.variable());
        let named = named.filter(|path| !path.is_empty());
        let path = named.as_deref().unwrap_or(which.usual_path());
        let Some(path) = context.expand_home_dir(path) else {
            return Ok(Self {
                path: path.to_owned(),
                profiles: Err("no home directory is known".to_owned()),
            });
        };
        let profiles = match super::read(&path).await {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                Ok(profiles(&text, which)
                    .map_err(|why| Error::config_invalid(format!("{path}: {why}")))?)
            }
            Err(error) if is_none(&path, &error, named.is_some()).await => Err(error.to_string()),
            Err(error) => {
                return Err(Error::config_invalid(format!(
                    "cannot read {path}: {error}"
                )));
            }
        };
        Ok(Self { path, profiles })
    }
}

/// True when there is no such file. A home directory that is closed to the agent is no sign of one,
/// unless somebody named the file.
async fn is_none(path: &str, error: &io::Error, named: bool) -> bool {
    let kind = error.kind();
    let missing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&kind);
    let closed = kind == io::ErrorKind::PermissionDenied;
    missing || (closed && !named && tokio::fs::metadata(path).await.is_err())
}

/// What is said of one profile. No `Debug`: it has secrets.
pub(super) struct Profile {
    pub(super) name: String,
    /// By each file that has it.
    said: Vec<(String, Settings)>,
}

/// An access key as a file has it.
pub(super) struct Key {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

impl Profile {
    /// A setting; one without a value is none.
    pub(super) fn get(&self, setting: &str) -> Option<&str> {
        let mut said = self.said.iter();
        said.find_map(|(_, settings)| value_of(settings, setting))
    }

    /// Its own key: all of it is in one file, or parts of two keys would be mixed.
    pub(super) fn key(&self) -> reqsign_core::Result<Option<Key>> {
        for (path, settings) in &self.said {
            let id = value_of(settings, "aws_access_key_id");
            let secret = value_of(settings, "aws_secret_access_key");
            let half = |it: &str| {
                let text = format!("profile {} in {path} has only {it}", self.name);
                Err(Error::config_invalid(text))
            };
            match (id, secret) {
                (Some(id), Some(secret)) => {
                    return Ok(Some(Key {
                        id: id.to_owned(),
                        secret: secret.to_owned(),
                        token: value_of(settings, "aws_session_token").map(str::to_owned),
                    }));
                }
                (Some(_), None) => return half("aws_access_key_id, no aws_secret_access_key"),
                (None, Some(_)) => return half("aws_secret_access_key, no aws_access_key_id"),
                (None, None) => {}
            }
        }
        Ok(None)
    }

    /// Why it gives no credentials.
    pub(super) fn wrong(&self, why: &str) -> Error {
        let paths: Vec<&str> = self.said.iter().map(|(path, _)| path.as_str()).collect();
        let paths = paths.join(" and ");
        Error::config_invalid(format!("profile {} in {paths} {why}", self.name))
    }
}

fn value_of<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    let value = settings.get(name)?;
    (!value.is_empty()).then_some(value)
}

/// The profiles of a file, or which line of it cannot be read. No value is ever told.
fn profiles(text: &str, which: Which) -> Result<Profiles, String> {
    let mut profiles = Profiles::new();
    let mut at: Option<String> = None;
    // How far in the last setting was: what is further in belongs to its value.
    let mut last: Option<usize> = None;
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let inner = line.trim();
        let depth = line.len() - line.trim_start().len();
        let goes_on = last.is_some_and(|last| depth > last);
        if inner.is_empty() || inner.starts_with(['#', ';']) || goes_on {
            continue;
        }
        let wrong = |what: &str| format!("line {} is {what}", index + 1);
        if let Some(title) = inner.strip_prefix('[') {
            let title = title.split_once(']');
            let (title, _) = title.ok_or_else(|| wrong("a section whose name does not end"))?;
            at = which.profile(title).map(str::to_owned);
            last = None;
            if let Some(name) = &at {
                profiles.entry(name.clone()).or_default();
            }
            continue;
        }
        let (name, text) = inner
            .split_once('=')
            .ok_or_else(|| wrong("neither a section nor `name = value`"))?;
        last = Some(depth);
        if let Some(settings) = at.as_ref().and_then(|at| profiles.get_mut(at)) {
            settings.insert(name.trim().to_lowercase(), value(text).to_owned());
        }
    }
    Ok(profiles)
}

/// Without what is remarked behind it, and without quotes.
fn value(text: &str) -> &str {
    let mut blank = false;
    let remark = text.char_indices().find(|(_, c)| {
        let begins = blank && matches!(c, '#' | ';');
        blank = c.is_whitespace();
        begins
    });
    let value = remark.and_then(|(at, _)| text.get(..at)).unwrap_or(text);
    let value = value.trim();
    let inner = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    inner.unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_as_amazon_writes_them() {
        let text = "\u{feff}# all of it\n[default]\nregion = eu-central-1\n\n\
                    [profile dns]  # ours\n  Role_Arn = arn:aws:iam::1:role/a=b ; a remark\n  \
                    ; between\n  s3 =\n    addressing_style = path\n  external_id = \"a#b;c\"\n\
                    [profile \"two words\"]\nregion=\n[sso-session dns]\nexternal_id = other\n\
                    [dns]\nexternal_id = no profile\n[profile dns]\nregion = eu-west-1\n";
        let read = profiles(text, Which::Config).unwrap();
        let mut names: Vec<&str> = read.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["default", "dns", "two words"]);
        let dns = &read["dns"];
        for (name, value) in [
            ("role_arn", Some("arn:aws:iam::1:role/a=b")),
            ("external_id", Some("a#b;c")),
            ("region", Some("eu-west-1")),
            ("s3", None),
            ("addressing_style", None),
        ] {
            assert_eq!(value_of(dns, name), value, "{name}");
        }
        let read = profiles("[dns]\na = b\n[profile x]\n", Which::Credentials).unwrap();
        assert!(read.contains_key("dns") && !read.contains_key("x"));
    }

    #[test]
    fn line_that_cannot_be_read_is_named_without_its_words() {
        for (text, expected) in [
            ("[dns]\nhunter2\n", "line 2 is neither a section nor"),
            ("\n[hunter2\na = b\n", "line 2 is a section whose name does"),
        ] {
            let error = profiles(text, Which::Credentials).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
