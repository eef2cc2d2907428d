//! Tells the audience: one line after the other, with the time since the fault.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use anstyle::{AnsiColor, Style};

use crate::effects::clock::boottime;
use crate::model::{Moment, Timestamp};

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const SEEN: Style = AnsiColor::Yellow.on_default();

/// Where lines go.
pub type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// What kind of news a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Fault,
    Sees,
    Plans,
    Done,
    Fails,
    Ends,
    Writes,
    Returns,
}

impl Verb {
    fn shown(self) -> (Style, &'static str) {
        match self {
            Self::Fault => (BAD, "FAULT"),
            Self::Sees => (SEEN, "sees"),
            Self::Plans => (BOLD, "plans"),
            Self::Done => (GOOD, "did"),
            Self::Fails => (BAD, "failed"),
            Self::Ends => (DIM, "ends"),
            Self::Writes => (GOOD, "writes"),
            Self::Returns => (DIM, "back"),
        }
    }
}

/// The narrator's voice. Cheap to clone.
#[derive(Clone)]
pub(super) struct Voice {
    listener: Listener,
    began: Moment,
    fault: Arc<Mutex<Option<Timestamp>>>,
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Voice").finish_non_exhaustive()
    }
}

impl Voice {
    pub(super) fn new(listener: Listener) -> Self {
        Self {
            listener,
            began: boottime(),
            fault: Arc::default(),
        }
    }

    /// A line as it is.
    pub(super) fn line(&self, text: &str) {
        (self.listener)(text);
    }

    /// A step of the preparation, with the time since the beginning.
    pub(super) fn step(&self, text: &str) {
        let since = boottime().since(self.began).as_millis();
        let time = format!("[{:>2}.{} s]", since / 1000, since % 1000 / 100);
        self.line(&format!("{DIM}{time}{DIM:#} {text}"));
    }

    /// From now on times are told relative to this moment.
    pub(super) fn set_fault(&self, at: Timestamp) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// Something happened somewhere.
    pub(super) fn news(&self, at: Timestamp, whom: &str, verb: Verb, text: &str) {
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let time = match fault {
            Some(fault) => format!("{:+} ms", at.0 - fault.0),
            // The time of day, out of RFC 3339.
            None => at.to_string().chars().skip(11).take(8).collect(),
        };
        let (style, word) = verb.shown();
        self.line(&format!(
            "{DIM}{time:>10}{DIM:#}  {whom:<5} {style}{word:<6}{style:#} {text}"
        ));
    }
}
