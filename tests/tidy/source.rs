//! Just enough of a Rust lexer: comments and literals are told from code, and paths are read from
//! code with their `{…}` groups taken apart.

use std::collections::BTreeSet;

/// Stands for every character inside a string or character literal, so that nothing in a literal
/// is taken for code, and a line of text still is no blank line.
const FILLER: char = '\u{1}';

/// A Rust file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// From the top of the repository.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// As written, with comments blanked and literals filled.
    pub(crate) code: String,
    /// The code as words and signs.
    pub(crate) tokens: Vec<Token>,
}

/// A word (identifier, keyword or number) or a single sign, and its line, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(is_word_char)
    }
}

/// A path as written in code, `a::b::c`; an import that ends in `*` ends in that segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodePath {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

impl CodePath {
    pub(crate) fn text(&self) -> String {
        self.segments.join("::")
    }

    /// True when the path begins with, or is, these segments.
    pub(crate) fn begins(&self, prefix: &str) -> bool {
        let mut segments = self.segments.iter();
        prefix
            .split("::")
            .all(|wanted| segments.next().is_some_and(|segment| segment == wanted))
    }
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let tokens = tokens(&code);
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            tokens,
        }
    }

    /// The folder under `src/`; nothing for other files and for those directly in `src/`.
    pub(crate) fn layer(&self) -> Option<&str> {
        let (layer, _) = self.path.strip_prefix("src/")?.split_once('/')?;
        Some(layer)
    }

    pub(crate) fn text_at(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &token.text)
    }

    /// True when these signs and words stand at `index`.
    pub(crate) fn stands(&self, index: usize, wanted: &[&str]) -> bool {
        (index..)
            .zip(wanted)
            .all(|(at, wanted)| self.text_at(at) == *wanted)
    }

    /// Every path in the code.
    pub(crate) fn paths(&self) -> Vec<CodePath> {
        let mut paths = Vec::new();
        let mut index = 0;
        while let Some(token) = self.tokens.get(index) {
            if token.is_word() && self.path_begins(index) {
                index = self.read_path(index, &[], &mut paths);
            } else {
                index += 1;
            }
        }
        paths
    }

    fn path_begins(&self, index: usize) -> bool {
        let before = |back: usize| index.checked_sub(back).map_or("", |at| self.text_at(at));
        let method = before(1) == "." && before(2) != ".";
        let continued = before(1) == ":" && before(2) == ":" && before(3) == ">";
        !method && !continued
    }

    /// Reads the path, or the group of paths, at `index`; returns where it ends.
    fn read_path(&self, index: usize, prefix: &[String], paths: &mut Vec<CodePath>) -> usize {
        let Some(first) = self.tokens.get(index) else {
            return index;
        };
        let mut segments = prefix.to_vec();
        segments.push(first.text.clone());
        let mut at = index + 1;
        while self.stands(at, &[":", ":"]) {
            let next = self.text_at(at + 2);
            if next == "{" {
                return self.read_group(at + 3, &segments, paths);
            }
            if next != "*" && !next.starts_with(is_word_char) {
                break;
            }
            segments.push(next.to_owned());
            at += 3;
        }
        paths.push(CodePath {
            segments,
            line: first.line,
        });
        at
    }

    fn read_group(&self, start: usize, prefix: &[String], paths: &mut Vec<CodePath>) -> usize {
        let mut at = start;
        while at < self.tokens.len() && self.text_at(at) != "}" {
            if matches!(self.text_at(at), "," | ":") {
                at += 1;
                continue;
            }
            at = self.read_path(at, prefix, paths);
            if self.text_at(at) == "as" {
                at += 2;
            }
        }
        at + 1
    }

    /// The lines that belong to items under `#[cfg(test)]`.
    pub(crate) fn test_lines(&self) -> BTreeSet<usize> {
        let mut lines = BTreeSet::new();
        for index in 0..self.tokens.len() {
            if self.is_test_attribute(index)
                && let (Some(first), Some(last)) = (
                    self.tokens.get(index),
                    self.tokens.get(self.item_end(index)),
                )
            {
                lines.extend(first.line..=last.line);
            }
        }
        lines
    }

    /// True when an attribute at `index` keeps its item for tests: `#[cfg(test)]` and
    /// `#[cfg(all(test, …))]`, not `#[cfg(not(test))]`.
    pub(crate) fn is_test_attribute(&self, index: usize) -> bool {
        self.stands(index, &["#", "[", "cfg", "(", "test", ")"])
            || self.stands(index, &["#", "[", "cfg", "(", "all", "(", "test"])
    }

    /// Where the item that begins at `index` ends: its closing brace, or its semicolon.
    fn item_end(&self, index: usize) -> usize {
        let mut depth = 0_usize;
        for at in index..self.tokens.len() {
            match self.text_at(at) {
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.saturating_sub(1),
                "}" if depth == 1 => return at,
                "}" => depth = depth.saturating_sub(1),
                ";" if depth == 0 => return at,
                _ => {}
            }
        }
        self.tokens.len().saturating_sub(1)
    }

    /// Every function with a body: its name, its line, and the tokens of its braces.
    pub(crate) fn functions(&self) -> Vec<(&Token, usize, usize)> {
        let mut functions = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            let Some(name) = self.tokens.get(index + 1).filter(|name| name.is_word()) else {
                continue;
            };
            if token.text != "fn" {
                continue;
            }
            let end = self.item_end(index);
            let open = (index..end).find(|&at| self.text_at(at) == "{");
            if let Some(open) = open.filter(|_| self.text_at(end) == "}") {
                functions.push((name, open, end));
            }
        }
        functions
    }

    /// For each line, whether it holds code or a part of a literal.
    pub(crate) fn code_lines(&self) -> Vec<bool> {
        self.code
            .lines()
            .map(|line| line.chars().any(|sign| !sign.is_whitespace()))
            .collect()
    }

    /// The length of each line without what is inside literals, which `cargo fmt` cannot break.
    pub(crate) fn breakable_lengths(&self) -> Vec<usize> {
        self.text
            .lines()
            .zip(self.code.lines())
            .map(|(text, code)| {
                let literal = code.chars().filter(|&sign| sign == FILLER).count();
                text.chars().count() - literal
            })
            .collect()
    }
}

pub(crate) fn is_word_char(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut in_word = false;
        for sign in line.chars() {
            if is_word_char(sign) && in_word {
                if let Some(last) = tokens.last_mut() {
                    last.text.push(sign);
                }
                continue;
            }
            in_word = is_word_char(sign);
            if !sign.is_whitespace() && sign != FILLER {
                tokens.push(Token {
                    text: sign.to_string(),
                    line: number + 1,
                });
            }
        }
    }
    tokens
}

/// Blanks comments and fills literals; every line keeps its length.
fn blank(text: &str) -> String {
    let signs: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&sign) = signs.get(at) {
        let rest = signs.get(at..).unwrap_or_default();
        let after_word = at > 0 && signs.get(at - 1).copied().is_some_and(is_word_char);
        let (end, keep, fill) = if rest.starts_with(&['/', '/']) {
            (line_end(rest), 0, ' ')
        } else if rest.starts_with(&['/', '*']) {
            (block_comment_end(rest), 0, ' ')
        } else if let Some((open, end)) = raw_string(rest).filter(|_| !after_word) {
            (end, open, FILLER)
        } else if sign == '"' {
            (quoted_end(rest, '"'), 1, FILLER)
        } else if sign == '\'' && is_character(rest) {
            (quoted_end(rest, '\''), 1, FILLER)
        } else {
            (1, 1, FILLER)
        };
        for (index, &sign) in rest.iter().take(end).enumerate() {
            let quote = index < keep || (keep > 0 && index + 1 == end);
            code.push(if sign == '\n' || quote { sign } else { fill });
        }
        at += end;
    }
    code
}

fn line_end(rest: &[char]) -> usize {
    let end = rest.iter().position(|&sign| sign == '\n');
    end.unwrap_or(rest.len())
}

fn block_comment_end(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = rest.get(at..).unwrap_or_default();
        if here.starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if here.starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Where the literal ends whose quote is the first character.
fn quoted_end(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while let Some(&sign) = rest.get(at) {
        match sign {
            '\\' => at += 2,
            _ if sign == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn is_character(rest: &[char]) -> bool {
    rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'')
}

/// The length of the opening (`r#"`) and of the whole raw string that begins here, if one does.
fn raw_string(rest: &[char]) -> Option<(usize, usize)> {
    let prefix = match rest {
        ['b' | 'c', 'r', ..] => 2,
        ['r', ..] => 1,
        _ => return None,
    };
    let after = rest.get(prefix..)?;
    let hashes = after.iter().take_while(|&&sign| sign == '#').count();
    if after.get(hashes) != Some(&'"') {
        return None;
    }
    let open = prefix + hashes + 1;
    let mut close = vec!['"'];
    close.resize(hashes + 1, '#');
    let body = rest.get(open..)?;
    let length = body
        .windows(close.len())
        .position(|window| window == close.as_slice())?;
    Some((open, open + length + close.len()))
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = concat!(
        "let a = \"crate::x // y\"; // crate::y\n",
        "let b = r#\"a \" crate::z\"#; /* crate::v /* w */ */ let c = '\"';\n",
        "fn d<'a>(e: &'a str) {} let f = b'\\''; crate::seen();\n",
    );
    let source = Source::new("x.rs", text);
    let seen: Vec<String> = source
        .paths()
        .iter()
        .map(CodePath::text)
        .filter(|path| path.starts_with("crate"))
        .collect();
    assert_eq!(seen, ["crate::seen"]);
    let lengths = |text: &str| text.lines().map(|l| l.chars().count()).collect::<Vec<_>>();
    assert_eq!(lengths(&source.code), lengths(text));
}

#[test]
fn groups_of_imports_are_taken_apart() {
    let source = Source::new(
        "x.rs",
        "use crate::{a::{B as C, self}, d::*,\n e};\nlet f = ::std::fs::read::<u8>(0..std::X);",
    );
    let seen: Vec<(String, usize)> = source
        .paths()
        .iter()
        .map(|path| (path.text(), path.line))
        .filter(|(path, _)| path.contains("::"))
        .collect();
    let wanted = [
        ("crate::a::B", 1),
        ("crate::a::self", 1),
        ("crate::d::*", 1),
        ("crate::e", 2),
        ("std::fs::read", 3),
        ("std::X", 3),
    ];
    assert_eq!(seen, wanted.map(|(path, line)| (path.to_owned(), line)));
}

#[test]
fn only_what_is_under_cfg_test_is_test_code() {
    let source = Source::new(
        "x.rs",
        concat!(
            "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { { } }\n}\n",
            "fn c() {}\n#[cfg(test)]\nuse x;\nfn d() {}\n"
        ),
    );
    let lines: Vec<usize> = source.test_lines().into_iter().collect();
    assert_eq!(lines, [2, 3, 4, 5, 7, 8]);
}
