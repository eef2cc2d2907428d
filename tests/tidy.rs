//! The rules of `CONTRIBUTING.md` that no compiler and no lint knows, as ordinary tests.
//!
//! One file per kind of rule under `tests/tidy/`; each rule also has tests that feed it a bad
//! snippet, so that a rule which no longer sees anything fails too. Exceptions are tables with
//! reasons, and an exception that is no longer needed is a failure. Start reading at
//! [`layers::LAYERS`].

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/size.rs"]
mod size;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/words.rs"]
mod words;

use std::fmt;

use tree::Tree;

/// Something that breaks a rule, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    file: String,
    line: usize,
    what: String,
}

impl Problem {
    pub(crate) fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

fn none(mut problems: Vec<Problem>) {
    problems.sort();
    problems.dedup();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "untidy:\n  {}", lines.join("\n  "));
}

#[test]
fn layers_import_one_way() {
    let tree = Tree::read();
    none(layers::imports(&tree.sources, layers::EXCEPTIONS));
}

#[test]
fn layers_use_only_the_outside_crates_they_may() {
    let tree = Tree::read();
    let dependencies = crates::dependencies(&tree);
    none(layers::outside_crates(&tree.sources, &dependencies));
}

#[test]
fn model_and_decision_are_pure() {
    none(layers::impure(&Tree::read().sources));
}

#[test]
fn files_functions_and_lines_are_short() {
    let tree = Tree::read();
    none(size::check(&tree.sources, &modules::walk(&tree.sources)));
}

#[test]
fn every_source_file_is_reached_by_a_mod_line() {
    none(modules::dead(&Tree::read().sources));
}

#[test]
fn every_source_file_begins_by_saying_what_it_owns() {
    none(modules::without_head(&Tree::read().sources));
}

#[test]
fn no_word_that_blurs_meaning() {
    let tree = Tree::read();
    none(words::blurred(&tree, &crates::dependencies(&tree)));
}

#[test]
fn nothing_unfinished_in_code() {
    none(words::unfinished(&Tree::read().sources));
}

#[test]
fn no_test_sleeps_and_hopes() {
    none(words::sleeps(&Tree::read().sources));
}

#[test]
fn no_path_of_one_machine() {
    none(words::machine_paths(&Tree::read().texts));
}

#[test]
fn no_banned_crate_and_no_foreign_source_in_the_lock_file() {
    none(crates::lock_file(&Tree::read()));
}
