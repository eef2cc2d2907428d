//! Words that must not stand where they stand.

use crate::Problem;
use crate::source::{Source, is_word_char};
use crate::tree::Tree;

/// Words without a meaning of their own, and what to write instead. Found in any case, in text,
/// in `snake_case` and in `CamelCase`.
const BLURRED: &[(&str, &str)] = &[
    ("master", "write primary"),
    ("masters", "write primaries"),
    ("slave", "write standby"),
    ("slaves", "write standbys"),
    ("manager", "name what it does: keeper, loop, store, runner"),
    ("managers", "name what they do"),
    ("helper", "name what it does"),
    ("helpers", "name what they do"),
    ("util", "name what is in it"),
    ("utils", "name what is in it"),
    ("placeholder", "write the real thing, or leave it out"),
    ("placeholders", "write the real thing, or leave it out"),
    ("fixme", "fix it now, or describe it in an issue"),
];

/// Lines that must name such a word: (file, text in the line, why).
const MAY_NAME_THEM: &[(&str, &str, &str)] = &[(
    "CONTRIBUTING.md",
    "Never write",
    "the rule itself has to name the words",
)];

/// Things outside that are called so.
const NAMES_OF_OTHERS: [&str; 1] = ["util-linux"];

/// Roots of people's own folders; written in pieces so that this file does not contain them.
const MACHINE_ROOTS: [&str; 5] = ["home", "root", "Users", "work", "workspace"];

/// Blurred words in `src/` and in what people read. Names of dependencies are nobody's choice
/// here and do not count.
pub(crate) fn blurred(tree: &Tree, dependencies: &[String]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in &tree.texts {
        let read_by_people = path.ends_with(".md") || path.ends_with(".example");
        if !path.starts_with("src/") && !path.starts_with("docs/") && !read_by_people {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            let may = |(file, part, _): &(&str, &str, &str)| path == file && line.contains(part);
            if MAY_NAME_THEM.iter().any(may) {
                continue;
            }
            let line = without_names(line, dependencies);
            for word in split_words(&line) {
                let banned = BLURRED.iter().find(|(banned, _)| *banned == word);
                problems.extend(banned.map(|(banned, instead)| {
                    Problem::new(path, number, format!("`{banned}`: {instead}"))
                }));
            }
        }
    }
    problems
}

/// The line without what others named: dependencies, programs, and files in others' sources
/// (`src/backend/…/x.c`), which a `Source:` must be able to cite.
fn without_names(line: &str, dependencies: &[String]) -> String {
    let not_a_file = |word: &&str| !(word.contains("src/") && word.contains('.'));
    let mut line: String = line
        .split_inclusive(char::is_whitespace)
        .filter(not_a_file)
        .collect();
    for name in NAMES_OF_OTHERS {
        line = line.replace(name, " ");
    }
    // The longest first: `hyper_util` is not `hyper` and a word.
    let mut dependencies: Vec<&String> = dependencies.iter().collect();
    dependencies.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in dependencies {
        line = line
            .replace(name, " ")
            .replace(&name.replace('_', "-"), " ");
    }
    line
}

/// The words of a line in lower case; `snake_case` and `CamelCase` are taken apart.
fn split_words(line: &str) -> Vec<String> {
    let signs: Vec<char> = line.chars().collect();
    let mut words = vec![String::new()];
    for (index, &sign) in signs.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|at| signs.get(at));
        let lower_after = signs
            .get(index + 1)
            .is_some_and(|after| after.is_lowercase());
        let lower_before = before.is_some_and(|before| !before.is_uppercase());
        let begins = sign.is_uppercase() && (lower_before || lower_after);
        if !sign.is_alphabetic() || begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| sign.is_alphabetic()) {
            word.extend(sign.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Macros and attributes that leave something undone.
pub(crate) fn unfinished(sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in sources {
        for (index, token) in source.tokens.iter().enumerate() {
            let macro_call = source.text_at(index + 1) == "!" && source.text_at(index + 2) != "=";
            let instead = match token.text.as_str() {
                "todo" | "unimplemented" if macro_call => "write it, or leave its caller out",
                "dbg" if macro_call => "remove it, or log with `tracing`",
                "ignore" if in_attribute(source, index) => {
                    "make the test run everywhere, or delete it"
                }
                _ => continue,
            };
            let what = format!("`{}`: {instead}", token.text);
            problems.push(Problem::new(&source.path, token.line, what));
        }
    }
    problems
}

/// True for a word of `#[…]` that is a whole meta item: `ignore`, not `ignore_case`.
fn in_attribute(source: &Source, index: usize) -> bool {
    let opens = |back: usize| index.checked_sub(back).map_or("", |at| source.text_at(at));
    opens(1) == "[" && opens(2) == "#"
        || matches!(opens(1), "," | "(") && {
            let line = source.tokens.get(index).map_or(0, |token| token.line);
            let line = source.code.lines().nth(line.saturating_sub(1));
            line.is_some_and(|line| line.contains("#[cfg_attr("))
        }
}

/// Sleeps in tests that do not say what bounds them. In `src/`, where tests may run on paused time,
/// only those that really stop a thread.
///
/// A sleep inside a wait for a condition with a deadline is right, and says so on its line or on
/// the line above: `// bounded: …`.
pub(crate) fn sleeps(sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in sources {
        let whole = source.path.starts_with("tests/");
        let tests = source.test_lines();
        let text: Vec<&str> = source.text.lines().collect();
        for (index, token) in source.tokens.iter().enumerate() {
            let method = index
                .checked_sub(1)
                .is_some_and(|at| source.text_at(at) == ".");
            let defined = index
                .checked_sub(1)
                .is_some_and(|at| source.text_at(at) == "fn");
            let call = token.text == "sleep" && source.text_at(index + 1) == "(";
            let thread = index
                .checked_sub(3)
                .is_some_and(|at| source.text_at(at) == "thread");
            let looked_at = whole || (thread && tests.contains(&token.line));
            if !call || method || defined || !looked_at {
                continue;
            }
            if !says_its_bound(&text, token.line) {
                let what = "a test that sleeps and hopes: wait for a condition with a deadline, \
                            and name the bound in `// bounded: …` beside the sleep";
                problems.push(Problem::new(&source.path, token.line, what));
            }
        }
    }
    problems
}

/// True when the line, or the comment right above it, names what bounds the sleep.
fn says_its_bound(text: &[&str], line: usize) -> bool {
    let (above, own) = text.split_at(line.saturating_sub(1).min(text.len()));
    let comment = above.iter().rev();
    let comment = comment.take_while(|line| line.trim_start().starts_with("//"));
    own.first()
        .into_iter()
        .chain(comment)
        .any(|line| line.contains("// bounded: "))
}

/// Paths that exist on one machine only.
pub(crate) fn machine_paths(texts: &[(String, String)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in texts {
        for (number, line) in (1..).zip(text.lines()) {
            for root in MACHINE_ROOTS {
                let wanted = format!("/{root}/");
                let starts = line.match_indices(&wanted).any(|(at, _)| {
                    let before = line.get(..at).and_then(|before| before.chars().last());
                    before.is_none_or(|sign| !is_word_char(sign) && !"./-}~*".contains(sign))
                });
                if starts {
                    let what = format!(
                        "`{wanted}…` is a path of one machine: use a relative path, /srv or a \
                         temporary folder"
                    );
                    problems.push(Problem::new(path, number, what));
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(problems: &[Problem]) -> Vec<usize> {
        problems.iter().map(|problem| problem.line).collect()
    }

    fn blurred_lines(path: &str, text: &str) -> Vec<usize> {
        let tree = Tree::of(vec![(path.to_owned(), text.to_owned())]);
        let dependencies = ["hyper", "hyper_util", "tokio"].map(str::to_owned);
        lines(&blurred(&tree, &dependencies))
    }

    #[test]
    fn blurred_words_are_seen_in_every_spelling() {
        let text = concat!(
            "// The Master.\n",
            "struct LeaseManager;\n",
            "fn string_utils() {}\n",
            "const DNS_HELPER: u8 = 1;\n",
            "let a = \"a placeholder\"; // FIXME\n",
            "struct HTTPManager;\n",
        );
        assert_eq!(blurred_lines("src/a.rs", text), [1, 2, 3, 4, 5, 5, 6]);
        assert_eq!(blurred_lines("README.md", "the slave node"), [1]);
        assert_eq!(blurred_lines("docs/a/b.md", "Utils"), [1]);
    }

    #[test]
    fn words_that_only_contain_a_blurred_word_are_fine() {
        let text = "postmaster Postmaster utility enslaved alertmanager\nuse hyper_util::rt;\n\
                    hyper-util, util-linux, `src/backend/utils/init/miscinit.c`";
        assert_eq!(blurred_lines("src/a.rs", text), [0; 0]);
        assert_eq!(blurred_lines("tests/a.rs", "helper"), [0; 0]);
    }

    #[test]
    fn the_rule_may_name_its_words() {
        let text = "Never write \"helper\".\nA helper.";
        assert_eq!(blurred_lines("CONTRIBUTING.md", text), [2]);
        assert_eq!(blurred_lines("README.md", text), [1, 2]);
    }

    #[test]
    fn unfinished_code_is_seen_and_its_name_in_text_is_not() {
        let text = concat!(
            "fn a() { todo!() }\n",
            "fn b() { unimplemented!(\"x\") }\n",
            "fn c() { dbg!(1); }\n",
            "#[ignore]\nfn d() {}\n",
            "#[ignore = \"slow\"]\nfn e() {}\n",
            "#[cfg_attr(x, ignore)]\nfn f() {}\n",
            "// todo!() and #[ignore]\nlet g = \"dbg!()\"; h(ignore, 1); if todo != 2 {}\n",
        );
        let seen = unfinished(&[Source::new("src/a.rs", text)]);
        assert_eq!(lines(&seen), [1, 2, 3, 4, 6, 8]);
    }

    #[test]
    fn a_sleep_in_a_test_needs_its_bound() {
        let text = concat!(
            "fn a() { std::thread::sleep(b); }\n",
            "fn c() { tokio::time::sleep(d).await; }\n",
            "// bounded: the loop above gives up\n// after 5 s\nfn e() { sleep(f); }\n",
            "fn g() { sleep(h); } // bounded: by the caller's deadline\n",
            "\nfn i() { clock.sleep(j); run(\"sleep 1\"); }\nfn sleep(k: u8) {}\n",
        );
        assert_eq!(lines(&sleeps(&[Source::new("tests/a.rs", text)])), [1, 2]);
        assert_eq!(lines(&sleeps(&[Source::new("src/a.rs", text)])), [0; 0]);
        let inline = format!("#[cfg(test)]\nmod tests {{\n{text}}}\n");
        assert_eq!(lines(&sleeps(&[Source::new("src/a.rs", &inline)])), [3]);
    }

    #[test]
    fn paths_of_one_machine_are_seen() {
        for root in MACHINE_ROOTS {
            let of = |before: &str, after: &str| {
                let text = format!("first\n{before}/{root}/{after}\n");
                lines(&machine_paths(&[("README.md".to_owned(), text)]))
            };
            assert_eq!(of("see \"", "x/agent"), [2]);
            assert_eq!(of("", "x"), [2]);
            assert_eq!(of("http://example.org", "x"), [0; 0]);
            assert_eq!(of("$(DESTDIR)/srv/{site}", "x"), [0; 0]);
        }
    }
}
