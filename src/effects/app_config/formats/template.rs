//! Renders a whole app config file from a template: for formats that cannot be edited in place.
//!
//! Pure. Strict: a name that is not there is an error, never an empty text. There is no include, no
//! macro and no escaping. The template is the operator's own; what bounds there are keep a slip of
//! theirs (a loop too many) from holding up a failover.

use std::io::{self, Write};

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, filters};

use crate::model::template::TemplateVars;

/// No config file that people write comes near it.
pub const SOURCE_MAX: usize = 256 * 1024;
/// No config file that programs read comes near it.
pub const OUTPUT_MAX: usize = 1024 * 1024;
/// Instructions: a line for each of ten thousand upstreams.
const FUEL: u64 = 1_000_000;
/// Calls and expressions in each other.
const RECURSION_MAX: usize = 50;

/// Why a template gives no text. Names and lines only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is larger than [`SOURCE_MAX`].
    #[error("the template is larger than {SOURCE_MAX} bytes")]
    SourceTooLarge,
    /// Its text is no template.
    #[error("line {line}: it is no template: {why}")]
    Syntax {
        /// Counts from 1.
        line: usize,
        /// In minijinja's words.
        why: String,
    },
    /// It uses what is not there.
    #[error("line {line}: it uses a variable, a field or an entry that is not there")]
    Undefined {
        /// Counts from 1.
        line: usize,
    },
    /// It runs for too long.
    #[error("line {line}: it does not come to an end within {FUEL} instructions")]
    TooLong {
        /// Counts from 1.
        line: usize,
    },
    /// Its text grows beyond [`OUTPUT_MAX`].
    #[error("its text is larger than {OUTPUT_MAX} bytes")]
    OutputTooLarge,
    /// Something else in it cannot be done.
    #[error("line {line}: {why}")]
    Failed {
        /// Counts from 1.
        line: usize,
        /// In minijinja's words.
        why: String,
    },
}

/// The text of a template with these variables; its final line end stays as it is.
///
/// # Errors
/// When the template cannot be read, names what is not there, or exceeds a bound.
pub fn render(source: &str, vars: &TemplateVars) -> Result<String, TemplateError> {
    if source.len() > SOURCE_MAX {
        return Err(TemplateError::SourceTooLarge);
    }
    let environment = environment();
    let template = environment
        .template_from_str(source)
        .map_err(|error| explained(&error))?;
    let mut output = Bounded(Vec::new());
    template
        .render_captured_to(vars, &mut output)
        .map_err(|error| explained(&error))?;
    String::from_utf8(output.0).map_err(|_| TemplateError::Failed {
        line: 1,
        why: "its text is not UTF-8".to_owned(),
    })
}

/// Few filters on purpose: each is a promise, and some of minijinja's make text without a bound.
/// `default` is not among them: it would make a misspelt name look right.
fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_keep_trailing_newline(true);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("first", filters::first);
    environment.add_filter("join", filters::join);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("upper", filters::upper);
    environment
}

fn explained(error: &minijinja::Error) -> TemplateError {
    let line = error.line().unwrap_or(1);
    let why = || {
        let detail = error.detail().unwrap_or_default();
        format!("{} {detail}", error.kind()).trim_end().to_owned()
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "minijinja's list of kinds is open"
    )]
    match error.kind() {
        ErrorKind::SyntaxError => TemplateError::Syntax { line, why: why() },
        ErrorKind::UndefinedError => TemplateError::Undefined { line },
        ErrorKind::OutOfFuel => TemplateError::TooLong { line },
        ErrorKind::WriteFailure => TemplateError::OutputTooLarge,
        _ => TemplateError::Failed { line, why: why() },
    }
}

/// Takes [`OUTPUT_MAX`] bytes, then fails.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > OUTPUT_MAX.saturating_sub(self.0.len()) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
