//! Edits values of a YAML file in place, line by line.
//!
//! YAML is too large to be edited whole. This reads block mappings and block lists with values on
//! one line, in quotes or without; what else there is (anchors, aliases, tags, flow style, text
//! over several lines) is stepped over where its end is certain and never edited, and the file is
//! refused where it is not.
//!
//! Source: YAML 1.2.2.

use std::ops::Range;

use super::comment::{self, EpochMark, mark_on};
use super::lines::{Line, line_at, lines, part};
use super::tree::{self, Kind, Node, Style, Writing};
use super::yaml_line::{self, Value, Written};
use super::yaml_scalar::{decode, escape, fits, plain_style};
use crate::effects::app_config::format::{ConfigFormat, EditError, Edited};
use crate::model::Epoch;
use crate::model::plan::ConfigEdit;

/// Block mappings and lists of YAML.
#[derive(Debug, Clone, Copy)]
pub struct Yaml;

/// How deep blocks may lie in each other: enough for any file, too little to overrun a stack.
const DEPTH_MAX: usize = 60;

const WRITING: Writing = Writing {
    decode,
    fits,
    escape,
};

impl ConfigFormat for Yaml {
    fn name(&self) -> &'static str {
        "yaml"
    }

    fn edit(&self, text: &[u8], edits: &[ConfigEdit]) -> Result<Edited, EditError> {
        let (root, _) = scan(text)?;
        tree::edit(text, &root, edits, &WRITING)
    }

    fn epoch(&self, text: &[u8]) -> Result<Option<Epoch>, EditError> {
        let (_, marks) = scan(text)?;
        comment::epoch(text, &marks)
    }

    fn with_epoch(&self, text: &[u8], epoch: Epoch) -> Result<Vec<u8>, EditError> {
        let (_, marks) = scan(text)?;
        Ok(comment::with_epoch(text, &marks, "#", epoch))
    }
}

fn scan(text: &[u8]) -> Result<(Node, Vec<EpochMark>), EditError> {
    let unreadable = |offset, why| EditError::Unreadable {
        line: line_at(text, offset),
        why,
    };
    let as_text = str::from_utf8(text).map_err(|error| {
        let at = error.valid_up_to();
        unreadable(at, "it is not UTF-8")
    })?;
    // Line breaks for some version of YAML, or for some reader.
    let breaks = ['\u{85}', '\u{2028}', '\u{2029}'];
    if let Some(at) = as_text.find(breaks) {
        return Err(unreadable(at, "a line break that only some programs know"));
    }
    let lines = lines(text);
    let lone = |line: &&Line| part(text, &line.range).contains(&b'\r');
    if let Some(line) = lines.iter().find(lone) {
        let at = line.range.start;
        return Err(unreadable(
            at,
            "a carriage return in the line, which ends it",
        ));
    }
    let mut reader = Reader {
        text,
        lines,
        next: 0,
        dash_to: None,
        marks: Vec::new(),
    };
    reader.start_of_document()?;
    let root = match reader.peek()? {
        None => Node {
            line: 1,
            kind: Kind::Table(Vec::new()),
            doubt: None,
        },
        Some(content) => reader.block(content.indent, 0)?,
    };
    match reader.peek()? {
        None => Ok((root, reader.marks)),
        Some(content) => Err(content.unreadable("its indentation fits nothing above")),
    }
}

/// The text of a line that is neither blank nor a comment.
#[derive(Debug, Clone)]
struct Content {
    number: usize,
    indent: usize,
    range: Range<usize>,
}

impl Content {
    fn unreadable(&self, why: &'static str) -> EditError {
        EditError::Unreadable {
            line: self.number,
            why,
        }
    }
}

struct Reader<'a> {
    text: &'a [u8],
    lines: Vec<Line>,
    next: usize,
    /// The column in the next line that counts as its start, because a list's dash stands before.
    dash_to: Option<usize>,
    marks: Vec<EpochMark>,
}

impl Reader<'_> {
    /// The next line with content, which stays the next one; notes the epochs on the way.
    fn peek(&mut self) -> Result<Option<Content>, EditError> {
        while let Some(line) = self.lines.get(self.next) {
            let bytes = part(self.text, &line.range);
            let skipped = self.dash_to.unwrap_or(0);
            let rest = bytes.get(skipped..).unwrap_or(&[]);
            let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
            let content = Content {
                number: line.number,
                indent: skipped + spaces,
                range: line.range.start + skipped + spaces..line.range.end,
            };
            match part(self.text, &content.range).first() {
                Some(b'\t') => return Err(content.unreadable("a tab in the indentation")),
                None => {}
                Some(b'#') => self.marks.extend(mark_on(self.text, line, b"#")),
                Some(_) => return Ok(Some(content)),
            }
            self.step();
        }
        Ok(None)
    }

    fn step(&mut self) {
        self.next += 1;
        self.dash_to = None;
    }

    /// At most one `---`, at the top; no second document and no directive.
    fn start_of_document(&mut self) -> Result<(), EditError> {
        if let Some(content) = self.peek()?
            && part(self.text, &content.range) == b"---"
            && content.indent == 0
        {
            self.step();
        }
        Ok(())
    }

    /// A mapping, a list or a single value whose lines begin at `indent`.
    fn block(&mut self, indent: usize, depth: usize) -> Result<Node, EditError> {
        let Some(first) = self.peek()? else {
            return Err(EditError::Unreadable {
                line: self.lines.len(),
                why: "it ends where a value should be",
            });
        };
        if depth > DEPTH_MAX {
            return Err(first.unreadable("blocks lie too deep in each other"));
        }
        let kind = if self.is_item(&first) {
            self.list(indent, depth)?
        } else if self.key(&first)?.is_some() {
            self.mapping(indent, depth)?
        } else {
            self.step();
            let value = self.value(&first, first.range.clone())?;
            // Its parent's indentation is not known here: nothing may follow it.
            return self.node(&first, &value, None, depth);
        };
        Ok(Node {
            line: first.number,
            kind,
            doubt: None,
        })
    }

    fn is_item(&self, content: &Content) -> bool {
        matches!(
            part(self.text, &content.range),
            [b'-'] | [b'-', b' ' | b'\t', ..]
        )
    }

    fn key(&self, content: &Content) -> Result<Option<(String, usize)>, EditError> {
        let bytes = part(self.text, &content.range);
        let of_document = bytes.starts_with(b"---") || bytes.starts_with(b"...");
        if content.indent == 0 && (of_document || bytes.starts_with(b"%")) {
            return Err(content.unreadable("a sign between documents, or a directive"));
        }
        yaml_line::key(self.text, &content.range).map_err(|why| content.unreadable(why))
    }

    fn value(&self, content: &Content, range: Range<usize>) -> Result<Value, EditError> {
        yaml_line::value(self.text, &range).map_err(|why| content.unreadable(why))
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Result<Kind, EditError> {
        let mut entries = Vec::new();
        while let Some(content) = self.peek()? {
            if content.indent < indent || (content.indent == indent && self.is_item(&content)) {
                break;
            }
            if content.indent > indent {
                return Err(content.unreadable("its indentation fits nothing above"));
            }
            let Some((name, start)) = self.key(&content)? else {
                return Err(content.unreadable("a key is missing"));
            };
            let value = self.value(&content, start..content.range.end)?;
            self.step();
            let node = self.node(&content, &value, Some((indent, true)), depth)?;
            entries.push((name, node));
        }
        Ok(Kind::Table(entries))
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Kind, EditError> {
        let mut items = Vec::new();
        while let Some(content) = self.peek()? {
            if content.indent < indent || !self.is_item(&content) {
                break;
            }
            if content.indent > indent {
                return Err(content.unreadable("its indentation fits nothing above"));
            }
            let rest = content.range.start + 1..content.range.end;
            if part(self.text, &rest).first() == Some(&b'\t') {
                return Err(content.unreadable("a tab in the indentation"));
            }
            self.dash_to = Some(content.indent + 1);
            let inner = self.peek()?;
            let inner = inner.filter(|inner| inner.number == content.number);
            let holds_block = match &inner {
                Some(inner) => self.is_item(inner) || self.key(inner)?.is_some(),
                None => false,
            };
            if let (Some(inner), true) = (inner, holds_block) {
                items.push(self.block(inner.indent, depth + 1)?);
                continue;
            }
            let value = self.value(&content, rest)?;
            if self.dash_to.is_some() {
                self.step();
            }
            items.push(self.node(&content, &value, Some((indent, false)), depth)?);
        }
        Ok(Kind::List(items))
    }

    /// The value behind a key or dash of the line `content`, whose line was stepped over, with the
    /// lines below that belong to it. `parent` is the indentation of the block it stands in, and
    /// whether that is a mapping.
    fn node(
        &mut self,
        content: &Content,
        value: &Value,
        parent: Option<(usize, bool)>,
        depth: usize,
    ) -> Result<Node, EditError> {
        let mut doubt = value.doubt;
        let mut line = content.number;
        let kind = match &value.written {
            Written::Nothing => match self.block_below(parent, depth)? {
                Some(block) => {
                    line = block.line;
                    doubt = doubt.or(block.doubt);
                    block.kind
                }
                None => Kind::Opaque("it has no value"),
            },
            Written::Block => {
                self.skip_deeper(parent.map(|(indent, _)| indent));
                Kind::Opaque("it is text over several lines")
            }
            Written::Opaque(why) => Kind::Opaque(why),
            Written::Quoted { mark: b'"', inner } => Kind::Scalar(inner.clone(), Style::Double),
            Written::Quoted { inner, .. } => Kind::Scalar(inner.clone(), Style::Single),
            Written::Plain(range) => {
                if self.continues(parent)? {
                    Kind::Opaque("it is text over several lines")
                } else {
                    let raw = str::from_utf8(part(self.text, range)).unwrap_or("");
                    match plain_style(raw) {
                        Ok(style) => Kind::Scalar(range.clone(), style),
                        Err(why) => Kind::Opaque(why),
                    }
                }
            }
        };
        Ok(Node { line, kind, doubt })
    }

    fn block_below(
        &mut self,
        parent: Option<(usize, bool)>,
        depth: usize,
    ) -> Result<Option<Node>, EditError> {
        let (Some(below), Some((indent, in_mapping))) = (self.peek()?, parent) else {
            return Ok(None);
        };
        // A list may stand right below its key, without indentation.
        let list_at_key = in_mapping && below.indent == indent && self.is_item(&below);
        if below.indent > indent || list_at_key {
            return self.block(below.indent, depth + 1).map(Some);
        }
        Ok(None)
    }

    /// Steps over the deeper lines that go on with a text without quotes; true if there are any.
    fn continues(&mut self, parent: Option<(usize, bool)>) -> Result<bool, EditError> {
        let mut any = false;
        while let Some(below) = self.peek()? {
            if parent.is_some_and(|(indent, _)| below.indent <= indent) {
                break;
            }
            any = true;
            self.step();
        }
        Ok(any)
    }

    /// Steps over the lines of a block text, in which nothing is a comment.
    fn skip_deeper(&mut self, indent: Option<usize>) {
        while let Some(line) = self.lines.get(self.next) {
            let bytes = part(self.text, &line.range);
            let spaces = bytes.iter().take_while(|byte| **byte == b' ').count();
            let is_blank = spaces == bytes.len();
            if !is_blank && indent.is_some_and(|indent| spaces <= indent) {
                break;
            }
            self.step();
        }
    }
}
