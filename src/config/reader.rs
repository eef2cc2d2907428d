//! Reads one TOML table, value by value, and goes on after each mistake.
//!
//! Owns: where a value stands (line and key path), what type it has, which keys are unknown.
//! A getter that returns `None` or a default after a bad value has reported it already; a file
//! with any error never becomes a `Config`, so the default is only there to find further mistakes.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{ALL, Section};
use super::problem::{Problem, Refusal, Severity, quoted};
use super::{suggest, syntax, units};

/// Where a value stands, for people.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) line: Option<usize>,
    pub(super) key: String,
}

impl Spot {
    /// No place in particular: the file as a whole.
    pub(super) fn of_the_file() -> Self {
        Self {
            line: None,
            key: String::new(),
        }
    }
}

/// The file being read, and everything found wrong with it so far.
pub(super) struct Reader<'a> {
    file: String,
    dir: PathBuf,
    env: &'a dyn Fn(&str) -> Option<String>,
    line_starts: Vec<usize>,
    /// Stands in for tables that the file leaves out.
    empty: DeTable<'static>,
    problems: RefCell<Vec<Problem>>,
    /// Every key that was asked for, so that a test can compare it with the known ones.
    #[cfg(test)]
    asked: RefCell<std::collections::BTreeSet<(&'static str, &'static str)>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &str, file: &Path, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let parent = file.parent().unwrap_or(Path::new(""));
        // The process may change its directory later; paths must not change with it.
        let dir = std::path::absolute(Path::new(".").join(parent));
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            file: file.display().to_string(),
            dir: dir.unwrap_or_else(|_| parent.to_path_buf()),
            env,
            line_starts: std::iter::once(0)
                .chain(newlines.map(|(at, _)| at + 1))
                .collect(),
            empty: DeTable::new(),
            problems: RefCell::new(Vec::new()),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// The line of a byte offset, counted from 1.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    pub(super) fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// A path as written in the file, seen from the file's directory.
    pub(super) fn path(&self, written: &str) -> PathBuf {
        self.dir.join(written)
    }

    pub(super) fn error(&self, spot: &Spot, refusal: Refusal) {
        self.report(Severity::Error, spot, refusal);
    }

    pub(super) fn warning(&self, spot: &Spot, refusal: Refusal) {
        self.report(Severity::Warning, spot, refusal);
    }

    fn report(&self, severity: Severity, spot: &Spot, refusal: Refusal) {
        self.problems.borrow_mut().push(Problem {
            file: self.file.clone(),
            line: spot.line,
            key: spot.key.clone(),
            what: refusal.what,
            hint: refusal.hint,
            severity,
        });
    }

    /// True when an error was reported for this key or below it.
    pub(super) fn has_errors_in(&self, key: &str) -> bool {
        self.problems.borrow().iter().any(|problem| {
            problem.severity == Severity::Error
                && problem
                    .key
                    .strip_prefix(key)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Everything, in the file's order.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }

    #[cfg(test)]
    pub(super) fn asked(&self) -> std::collections::BTreeSet<(&'static str, &'static str)> {
        self.asked.borrow().clone()
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A table whose keys are names that the file chooses, with each value's place.
pub(super) type Named<'r> = Vec<(&'r str, Spot, &'r DeValue<'r>)>;

/// One table of the file.
#[derive(Debug)]
pub(super) struct Table<'r> {
    pub(super) reader: &'r Reader<'r>,
    entries: &'r DeTable<'r>,
    section: &'static Section,
    /// The table itself.
    pub(super) here: Spot,
}

impl<'r> Table<'r> {
    /// Opens a table and reports its unknown keys.
    pub(super) fn open(
        reader: &'r Reader<'r>,
        entries: &'r DeTable<'r>,
        section: &'static Section,
        here: Spot,
    ) -> Self {
        let table = Self {
            reader,
            entries,
            section,
            here,
        };
        for key in entries.keys() {
            let name: &str = key.get_ref();
            if !section.keys.contains(&name) {
                let spot = table.spot_of(name, Some(reader.line_of(key.span().start)));
                let hint = unknown_key_hint(name, section);
                reader.error(&spot, Refusal::new("unknown key").hint(hint));
            }
        }
        table
    }

    fn spot_of(&self, key: &str, line: Option<usize>) -> Spot {
        let key = if self.here.key.is_empty() {
            shown_key(key)
        } else {
            format!("{}.{}", self.here.key, shown_key(key))
        };
        Spot { line, key }
    }

    /// Where this key stands; the table's own line if it is not there.
    pub(super) fn spot(&self, key: &str) -> Spot {
        let line = self
            .entries
            .get_key_value(key)
            .map(|(key, _)| self.reader.line_of(key.span().start));
        self.spot_of(key, line.or(self.here.line))
    }

    pub(super) fn error(&self, key: &str, refusal: Refusal) {
        self.reader.error(&self.spot(key), refusal);
    }

    pub(super) fn warning(&self, key: &str, refusal: Refusal) {
        self.reader.warning(&self.spot(key), refusal);
    }

    /// True when the file has this key.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    pub(super) fn value(&self, key: &'static str) -> Option<&'r DeValue<'r>> {
        debug_assert!(self.section.keys.contains(&key), "{key} is not in keys.rs");
        #[cfg(test)]
        self.reader
            .asked
            .borrow_mut()
            .insert((self.section.path, key));
        self.entries.get(key).map(Spanned::get_ref)
    }

    /// Reports a key that must be there and is not.
    pub(super) fn need(&self, key: &'static str, what: &str) {
        if !self.has(key) {
            self.error(key, Refusal::new("missing").hint(what));
        }
    }

    fn wrong_type(&self, key: &str, expected: &str, found: &DeValue<'_>) {
        let what = format!("expected {expected}, found {}", type_of(found));
        self.error(key, Refusal::new(what));
    }

    /// A text that is not empty.
    pub(super) fn text(&self, key: &'static str) -> Option<&'r str> {
        let value = self.value(key)?;
        match value.as_str() {
            Some("") => self.error(key, Refusal::new("must not be empty")),
            Some(text) => return Some(text),
            None => self.wrong_type(key, "a text in quotes", value),
        }
        None
    }

    /// The table's `name` as written, whatever it is; for comparing, it reports nothing.
    pub(super) fn written_name(&self) -> Option<&'r str> {
        self.entries
            .get("name")
            .and_then(|name| name.get_ref().as_str())
    }

    /// A text that `parse` understands.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&'r str) -> Result<T, Refusal>,
    ) -> Option<T> {
        parse(self.text(key)?)
            .map_err(|refusal| self.error(key, refusal))
            .ok()
    }

    /// One of a few words.
    pub(super) fn choice(&self, key: &'static str, known: &[&'static str]) -> Option<&'static str> {
        self.parsed(key, |text| {
            known
                .iter()
                .find(|word| **word == text)
                .copied()
                .ok_or_else(|| {
                    let listed = format!("known: {}", known.join(", "));
                    let hint = suggest::did_you_mean(text, known.iter().copied());
                    Refusal::new(format!("unknown: {}", quoted(text))).hint(hint.unwrap_or(listed))
                })
        })
    }

    /// True when the file has a text here.
    pub(super) fn is_text(&self, key: &'static str) -> bool {
        self.value(key).is_some_and(DeValue::is_str)
    }

    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.value(key) else {
            return default;
        };
        value.as_bool().unwrap_or_else(|| {
            self.wrong_type(key, "true or false", value);
            default
        })
    }

    /// A whole number without a unit: a count or a port.
    pub(super) fn integer(&self, key: &'static str, range: &RangeInclusive<u32>) -> Option<u32> {
        let value = self.value(key)?;
        let Some(written) = value.as_integer() else {
            self.wrong_type(key, "a whole number", value);
            return None;
        };
        let number = i128::from_str_radix(written.as_str(), written.radix()).unwrap_or(i128::MAX);
        let fitting = u32::try_from(number)
            .ok()
            .filter(|number| range.contains(number));
        if fitting.is_none() {
            let what = format!("must be from {} to {}", range.start(), range.end());
            self.error(key, Refusal::new(what));
        }
        fitting
    }

    /// A text with a unit, within bounds.
    fn amount<T: PartialOrd>(
        &self,
        key: &'static str,
        range: &RangeInclusive<T>,
        hint: &str,
        parse: fn(&str) -> Result<T, Refusal>,
        show: fn(&T) -> String,
    ) -> Option<T> {
        let value = self.value(key)?;
        if value.is_integer() || value.is_float() {
            self.error(key, Refusal::new("a plain number has no unit").hint(hint));
            return None;
        }
        let amount = self.parsed(key, parse)?;
        if range.contains(&amount) {
            return Some(amount);
        }
        let (low, high) = (show(range.start()), show(range.end()));
        let what = format!("is {}, must be from {low} to {high}", show(&amount));
        self.error(key, Refusal::new(what));
        None
    }

    pub(super) fn duration(
        &self,
        key: &'static str,
        range: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let show = |duration: &Duration| units::show_duration(*duration);
        self.amount(key, range, units::DURATION_HINT, units::duration, show)
    }

    pub(super) fn size(&self, key: &'static str, range: &RangeInclusive<u64>) -> Option<u64> {
        let show = |bytes: &u64| units::show_size(*bytes);
        self.amount(key, range, units::SIZE_HINT, units::size, show)
    }

    /// A path, absolute from here on.
    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        if text.contains('\0') {
            self.error(key, Refusal::new("not a path"));
            return None;
        }
        Some(self.reader.path(text))
    }

    /// A list of texts, each with its place; `None` when absent or when any of it is bad.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<(&'r str, Spot)>> {
        let value = self.value(key)?;
        let Some(array) = value.as_array() else {
            self.wrong_type(key, "a list in brackets", value);
            return None;
        };
        let mut texts = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let spot = Spot {
                line: Some(self.reader.line_of(item.span().start)),
                key: format!("{}[{}]", self.spot(key).key, index + 1),
            };
            match item.get_ref().as_str() {
                Some("") => self.reader.error(&spot, Refusal::new("must not be empty")),
                Some(text) => texts.push((text, spot)),
                None => {
                    let found = type_of(item.get_ref());
                    let what = format!("expected a text in quotes, found {found}");
                    self.reader.error(&spot, Refusal::new(what));
                }
            }
        }
        let complete = texts.len() == array.len();
        complete.then_some(texts)
    }

    /// A command as program and arguments, whose variables are all known.
    pub(super) fn command(&self, key: &'static str, known: &[&str]) -> Option<Vec<String>> {
        if self.value(key).is_some_and(DeValue::is_str) {
            let refusal = Refusal::new("expected a list of program and arguments, found a text");
            self.error(
                key,
                refusal.hint("e.g. [\"systemctl\", \"reload\", \"nginx\"]"),
            );
            return None;
        }
        let words = self.texts(key)?;
        if words.is_empty() {
            self.error(key, Refusal::new("must not be empty"));
            return None;
        }
        for (word, spot) in &words {
            if let Err(refusal) = syntax::only_variables(word, known) {
                self.reader.error(spot, refusal);
            }
        }
        Some(words.into_iter().map(|(word, _)| word.to_owned()).collect())
    }

    /// A table below this one.
    pub(super) fn table(&self, key: &'static str, section: &'static Section) -> Option<Self> {
        let value = self.value(key)?;
        let Some(entries) = value.as_table() else {
            self.wrong_type(key, "a table", value);
            return None;
        };
        Some(Table::open(self.reader, entries, section, self.spot(key)))
    }

    /// As [`Table::table`]; one that is absent is empty.
    pub(super) fn table_or_empty(
        &self,
        key: &'static str,
        section: &'static Section,
    ) -> Option<Self> {
        if self.has(key) {
            return self.table(key, section);
        }
        let (reader, empty) = (self.reader, &self.reader.empty);
        Some(Table::open(reader, empty, section, self.spot(key)))
    }

    /// A list of tables below this one: `[[key]]`.
    pub(super) fn tables(&self, key: &'static str, section: &'static Section) -> Vec<Self> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(array) = value.as_array() else {
            let hint = format!("write [[{key}]]");
            let what = format!("expected a list of tables, found {}", type_of(value));
            self.error(key, Refusal::new(what).hint(hint));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let mut here = Spot {
                line: Some(self.reader.line_of(item.span().start)),
                key: format!("{}[{}]", self.spot(key).key, index + 1),
            };
            let Some(entries) = item.get_ref().as_table() else {
                let what = format!("expected a table, found {}", type_of(item.get_ref()));
                self.reader.error(&here, Refusal::new(what));
                continue;
            };
            if let Some(name) = entries.get("name").and_then(|name| name.get_ref().as_str()) {
                here.key = format!("{}[{}]", self.spot(key).key, shown_key(name));
            }
            tables.push(Table::open(self.reader, entries, section, here));
        }
        tables
    }

    /// A table below this one whose keys are names of the file's own.
    pub(super) fn named(&self, key: &'static str) -> Option<Named<'r>> {
        let value = self.value(key)?;
        let Some(entries) = value.as_table() else {
            self.wrong_type(key, "a table", value);
            return None;
        };
        let place = self.spot(key).key;
        let named = entries.iter().map(|(name, value)| {
            let spot = Spot {
                line: Some(self.reader.line_of(name.span().start)),
                key: format!("{place}.{}", shown_key(name.get_ref())),
            };
            let name: &str = name.get_ref();
            (name, spot, value.get_ref())
        });
        Some(named.collect())
    }

    /// Reports keys that have no meaning here, because of what another key says.
    pub(super) fn refuse_keys(&self, keys: &[&'static str], why: &str) {
        for key in keys {
            if self.has(key) {
                self.error(key, Refusal::new(why));
            }
        }
    }
}

/// What a value is, in words.
pub(super) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A key as it would have to be written, shortened.
fn shown_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.len() <= 63 && key.chars().all(bare) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

/// The nearest known key, the section that has this one, or the list of what there is.
fn unknown_key_hint(key: &str, section: &Section) -> String {
    if let Some(hint) = suggest::did_you_mean(key, section.keys.iter().copied()) {
        return hint;
    }
    let elsewhere = ALL
        .iter()
        .find(|other| other.path != section.path && other.keys.contains(&key));
    match elsewhere {
        Some(other) if other.path.is_empty() => {
            "it belongs at the top of the file, above the first [table]".to_owned()
        }
        Some(other) => format!("it belongs in [{}]", other.path),
        None => format!("known: {}", section.keys.join(", ")),
    }
}
