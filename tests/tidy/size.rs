//! How long files, functions and lines may be.

use crate::Problem;
use crate::modules::Reached;
use crate::source::Source;

/// Lines of code in a file: comments, blank lines and `#[cfg(test)]` items are not counted.
const FILE_LINES_MAX: usize = 400;

/// Lines of code between a function's braces, as clippy's `too_many_lines` counts them.
const FUNCTION_LINES_MAX: usize = 70;

/// Characters in a line.
const LINE_LENGTH_MAX: usize = 100;

/// Files, functions and lines that are too long.
pub(crate) fn check(sources: &[Source], reached: &Reached) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in sources {
        if !reached.is_test(&source.path) {
            problems.extend(long_file(source));
        }
        problems.extend(long_functions(source));
        problems.extend(long_lines(source));
    }
    problems
}

fn long_file(source: &Source) -> Option<Problem> {
    let tests = source.test_lines();
    let numbered = (1..).zip(source.code_lines());
    let count = numbered
        .filter(|(line, code)| *code && !tests.contains(line))
        .count();
    (count > FILE_LINES_MAX).then(|| {
        let what = format!(
            "{count} lines of code, {FILE_LINES_MAX} are allowed: split the file by what its \
             parts own"
        );
        Problem::new(&source.path, 1, what)
    })
}

fn long_functions(source: &Source) -> Vec<Problem> {
    let code = source.code_lines();
    let line = |token: usize| source.tokens.get(token).map_or(0, |token| token.line);
    let mut problems = Vec::new();
    for (name, open, close) in source.functions() {
        let body = line(open)..line(close).saturating_sub(1);
        let count = code.get(body).unwrap_or_default();
        let count = count.iter().filter(|code| **code).count();
        if count > FUNCTION_LINES_MAX {
            let what = format!(
                "`{}` has {count} lines, {FUNCTION_LINES_MAX} are allowed: name its parts and \
                 make them functions",
                name.text
            );
            problems.push(Problem::new(&source.path, name.line, what));
        }
    }
    problems
}

/// Literals and addresses cannot be broken, and may be longer.
fn long_lines(source: &Source) -> Vec<Problem> {
    let lengths = source.breakable_lengths().into_iter();
    (1..)
        .zip(lengths.zip(source.text.lines()))
        .filter(|(_, (length, text))| *length > LINE_LENGTH_MAX && !text.contains("://"))
        .map(|(line, (length, _))| {
            let what = format!("{length} characters, {LINE_LENGTH_MAX} are allowed: break it");
            Problem::new(&source.path, line, what)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::walk;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let sources = [Source::new(path, text)];
        let problems = check(&sources, &walk(&sources));
        problems.iter().map(|problem| problem.line).collect()
    }

    #[test]
    fn a_file_is_too_long_by_its_code_alone() {
        let fits = "const A: u8 = 1;\n".repeat(FILE_LINES_MAX);
        let comments = "// why\n\n/* more\n */\n".repeat(300);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{fits}}}\n");
        assert_eq!(lines("src/a.rs", &fits), [0; 0]);
        let generous = format!("{comments}{fits}{tests}");
        assert_eq!(lines("src/a.rs", &generous), [0; 0]);
        let long = format!("{generous}const B: u8 = 2;\n");
        assert_eq!(lines("src/a.rs", &long), [1]);
    }

    #[test]
    fn a_file_that_only_tests_compile_may_be_long() {
        let long = "const A: u8 = 1;\n".repeat(FILE_LINES_MAX + 1);
        let sources = [
            Source::new("src/lib.rs", "#[cfg(test)]\nmod tests;\nmod code;"),
            Source::new("src/tests.rs", &long),
            Source::new("src/code.rs", &long),
        ];
        let problems = check(&sources, &walk(&sources));
        let files: Vec<&str> = problems.iter().map(|p| p.file.as_str()).collect();
        assert_eq!(files, ["src/code.rs"]);
    }

    #[test]
    fn a_function_is_too_long_by_its_body() {
        let body = "    a();\n".repeat(FUNCTION_LINES_MAX);
        let fits = format!("struct A;\nfn b(\n    c: u8,\n) -> u8 {{\n{body}    // why\n\n}}\n");
        assert_eq!(lines("src/a.rs", &fits), [0; 0]);
        let long = format!("trait T {{ fn t(); }}\nfn b() {{\n{body}    if c {{ }}\n}}\n");
        assert_eq!(lines("src/a.rs", &long), [2]);
    }

    #[test]
    fn a_line_may_be_long_for_a_literal_or_an_address_only() {
        let long = "x".repeat(LINE_LENGTH_MAX);
        let text = format!(
            "let a = \"{long}\";\n// https://example.org/{long}\n// {long}\nlet b = {long};\n"
        );
        assert_eq!(lines("src/a.rs", &text), [3, 4]);
    }
}
