//! Editing app config files of every format: what changes, what stays, what is refused. Pure, no
//! files. Start reading at [`contract`], which every format has to fulfil.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

mod conninfo;
mod contract;
mod dotenv;
mod ini;
mod json;
mod properties;
mod template;
mod toml;
mod url;
mod yaml;

use failover_agent::effects::app_config::format::{ConfigFormat, EditError};
use failover_agent::model::plan::{ConfigEdit, EditValue};

fn text_edit(key: &str, value: &str) -> ConfigEdit {
    ConfigEdit {
        key: key.to_owned(),
        to: EditValue::Text(value.to_owned()),
    }
}

fn url_edit(key: &str, host: &str) -> ConfigEdit {
    ConfigEdit {
        key: key.to_owned(),
        to: EditValue::UrlAuthority {
            host: host.to_owned(),
            port: 5433,
        },
    }
}

fn field_edit(key: &str, name: &str, text: &str) -> ConfigEdit {
    ConfigEdit {
        key: key.to_owned(),
        to: EditValue::Field {
            name: name.to_owned(),
            text: text.to_owned(),
        },
    }
}

fn edited(
    format: &dyn ConfigFormat,
    text: &str,
    edits: &[ConfigEdit],
) -> Result<String, EditError> {
    let edited = format.edit(text.as_bytes(), edits)?;
    Ok(String::from_utf8(edited.text).unwrap())
}

/// What became of an edit, without its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Missing,
    Repeated(usize, usize),
    Doubtful(usize),
    Unwritable(usize),
    Unreadable(usize),
    Url(usize),
    Conninfo(usize),
    Other,
}

fn refused(format: &dyn ConfigFormat, text: &str, edit: ConfigEdit) -> Option<Refused> {
    let error = edited(format, text, &[edit]).err()?;
    Some(match error {
        EditError::KeyMissing { .. } => Refused::Missing,
        EditError::KeyRepeated { first, second, .. } => Refused::Repeated(first, second),
        EditError::ValueDoubtful { line, .. } => Refused::Doubtful(line),
        EditError::ValueUnwritable { line, .. } => Refused::Unwritable(line),
        EditError::Unreadable { line, .. } => Refused::Unreadable(line),
        EditError::Url { line, .. } => Refused::Url(line),
        EditError::Conninfo { line, .. } => Refused::Conninfo(line),
        EditError::EditedTwice { .. }
        | EditError::BadKey { .. }
        | EditError::UnclosedQuote { .. }
        | EditError::EpochUnreadable { .. } => Refused::Other,
    })
}
