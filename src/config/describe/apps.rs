//! Files of apps in plain words.

use super::super::settings::{AppConfig, AppConfigFile, AppConfigValue};
use super::super::units::show_duration;
use super::push;

/// Which files of an app follow the primary, and how.
pub(super) fn rewrites(app: &AppConfig) -> String {
    let place = match &app.site {
        Some(site) => format!("at {site}"),
        None => "at both sites".to_owned(),
    };
    let files: Vec<_> = app
        .files
        .iter()
        .map(|file| format!("{} {place}: {}", file.path.display(), edits(file)))
        .collect();
    let mut text = match files.as_slice() {
        [one] => format!("Rewrites {one}"),
        several => format!("Rewrites, all or none, {}", several.join("; and ")),
    };
    taken(&mut text, app);
    push(
        &mut text,
        format_args!(" Keeps {} older versions.", app.keep),
    );
    text
}

/// How a change of files is checked, told and proved.
pub(super) fn taken(text: &mut String, app: &AppConfig) {
    if let Some(command) = &app.validate {
        let (command, most) = (command.join(" "), show_duration(app.validate_timeout));
        let format = format_args!("; only if `{command}` says within {most} that they are right");
        push(text, format);
    }
    match &app.reload {
        Some(command) => push(
            text,
            format_args!(
                "; then runs `{}` for at most {}.",
                command.join(" "),
                show_duration(app.reload_timeout)
            ),
        ),
        None => match &app.target {
            Some(target) => push(text, format_args!("; {}", target.words())),
            None => text.push_str("; nothing is reloaded."),
        },
    }
    if let Some(command) = &app.verify {
        let (command, most) = (command.join(" "), show_duration(app.verify_timeout));
        let format = format_args!(
            " If that fails, or `{command}` does not succeed within {most}, the previous version \
             comes back."
        );
        push(text, format);
    }
}

fn edits(file: &AppConfigFile) -> String {
    if let Some(template) = &file.template {
        return format!("all of it, rendered from {}", template.path.display());
    }
    let edits: Vec<_> = file
        .edits
        .iter()
        .map(|edit| match &edit.value {
            AppConfigValue::Text(text) => format!("{} = {text}", edit.key),
            AppConfigValue::UrlAuthority => format!("host and port in {}", edit.key),
            AppConfigValue::Field { name, text } => format!("{name} in {} = {text}", edit.key),
        })
        .collect();
    edits.join(", ")
}
