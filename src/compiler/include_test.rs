//! `__has_include` in a file: which headers it asks for. The answer depends on files that the
//! compile may never read, so the names have to be looked for on the client.
//!
//! A macro may stand for the test (`#define XXH_HAS_INCLUDE __has_include`) when its own name says
//! so: every word with `has_include` or `HAS_INCLUDE` in it is read as if it were one, in any file.

use memchr::{memchr, memmem, memrchr};

use super::facts::{FileFacts, IncludeTest, is_word};

/// Longest header name that is believed, in bytes.
const NAME_BYTES_MAX: usize = 1_024;
/// Most tests remembered of one file; a file with more is not understood.
const TESTS_MAX: usize = 1_000;

/// Most bytes of lines and words that are read for one file's tests; a file that needs more is not
/// understood. Each test looks at its own line from the start, and a line has no limit.
const WORK_BYTES_MAX: usize = 64 << 20;

/// What the name of a test holds, and that of a macro that may stand for it.
const STEMS: [&str; 2] = ["has_include", "HAS_INCLUDE"];

/// Whether a word, or any other text, may be or hold the name of a test.
pub(super) fn may_name_test(text: &[u8]) -> bool {
    STEMS.iter().any(|stem| memmem::find(text, stem.as_bytes()).is_some())
}

/// Adds the include tests in `bytes` to `facts`.
pub(super) fn collect(bytes: &[u8], facts: &mut FileFacts) {
    let mut work = 0;
    for at in STEMS.iter().flat_map(|stem| memmem::find_iter(bytes, stem)) {
        let place = Place::of(bytes, at);
        work += place.line.len() + place.name.len();
        if work > WORK_BYTES_MAX {
            facts.unresolved_include_test = true;
            return;
        }
        match Mention::of(&place) {
            Mention::Nothing => {}
            Mention::Unresolved => facts.unresolved_include_test = true,
            Mention::Test(test) if facts.has_include.contains(&test) => {}
            Mention::Test(_) if facts.has_include.len() >= TESTS_MAX => {
                facts.unresolved_include_test = true;
            }
            Mention::Test(test) => facts.has_include.push(test),
        }
    }
}

/// Whether `##` can make a test's name out of a word and another, unless the cut is before `include`:
/// that half is in every file, and `__has_` in the standard library.
pub(super) fn is_part(word: &[u8]) -> bool {
    STEMS.iter().any(|stem| {
        (5..stem.len()).any(|half| word.ends_with(&stem.as_bytes()[..half]))
            || (1..4).any(|half| word.starts_with(&stem.as_bytes()[half..]))
    })
}

/// A word with the name of a test in it.
struct Place<'a> {
    /// The logical line before it.
    line: &'a [u8],
    name: &'a [u8],
    after: &'a [u8],
}

impl<'a> Place<'a> {
    /// The word around `at`.
    fn of(bytes: &'a [u8], at: usize) -> Self {
        let start = at - bytes[..at].iter().rev().take_while(|byte| is_word(**byte)).count();
        let length = bytes[start..].iter().take_while(|byte| is_word(**byte)).count();
        let (name, after) = bytes[start..].split_at(length);
        Self { line: &bytes[line_start(bytes, start)..start], name, after }
    }
}

enum Mention {
    /// A question whether the test exists, a comment, another name.
    Nothing,
    Unresolved,
    Test(IncludeTest),
}

impl Mention {
    fn of(&Place { line, name, after }: &Place<'_>) -> Self {
        let real = is_real(name);
        if is_comment(line) || asks_for_definition(line) || !(real || is_directive(line)) {
            return Self::Nothing;
        }
        let next = asks_for_next(name);
        let definition = Definition::of(line);
        match skip_blanks(after) {
            [b'(', argument @ ..] => match literal(skip_blanks(argument)) {
                // A macro's text is read elsewhere: these two depend on the file where that is.
                Some((_, quoted)) if definition.is_some() && (quoted || next) => Self::Unresolved,
                Some((name, quoted)) => Self::Test(IncludeTest { name, quoted, next }),
                None if definition.is_some_and(|it| it.stands_for(next, argument)) => Self::Nothing,
                None => Self::Unresolved,
            },
            rest => match definition {
                Some(it) if it.parameter.is_none() && it.is_alias(next) => Self::Nothing,
                // Not followed by an argument, so at most a number: `#if GOT_HAS_INCLUDE && X`.
                None if !real && is_operator_or_end(rest) => Self::Nothing,
                _ if is_directive(line) => Self::Unresolved,
                _ => Self::Nothing,
            },
        }
    }
}

/// Whether the preprocessor itself knows the name; gcc before 10 has the two with trailing
/// underscores, and defines the others as macros.
fn is_real(name: &[u8]) -> bool {
    matches!(
        name,
        b"__has_include" | b"__has_include__" | b"__has_include_next" | b"__has_include_next__"
    )
}

/// Whether the search starts after the file's own folder, going by the name of the test.
fn asks_for_next(name: &[u8]) -> bool {
    memmem::find(&name.to_ascii_lowercase(), b"has_include_next").is_some()
}

fn is_operator_or_end(rest: &[u8]) -> bool {
    matches!(rest, [] | [b'\n' | b'\r' | b'&' | b'|' | b'=' | b'!' | b'?' | b':', ..])
}

/// The macro that a line defines.
struct Definition<'a> {
    name: &'a [u8],
    /// Its only parameter, if it takes any.
    parameter: Option<&'a [u8]>,
}

impl<'a> Definition<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let hash = line.trim_ascii_start();
        let directive = hash.strip_prefix(b"#").or_else(|| hash.strip_prefix(b"%:"))?;
        let rest = directive.trim_ascii_start().strip_prefix(b"define")?;
        let (name, after) = split_word(rest.trim_ascii_start());
        let parameter = after.strip_prefix(b"(").map(|list| {
            let close = memchr(b')', list).unwrap_or(list.len());
            list[..close].trim_ascii()
        });
        Some(Self { name, parameter })
    }

    /// Whether every use of it is found by its name, and understood.
    fn is_alias(&self, next: bool) -> bool {
        may_name_test(self.name) && asks_for_next(self.name) == next
    }

    /// Whether it hands its argument to the test.
    fn stands_for(&self, next: bool, argument: &[u8]) -> bool {
        let (word, after) = split_word(skip_blanks(argument));
        self.is_alias(next) && self.parameter == Some(word) && skip_blanks(after).starts_with(b")")
    }
}

fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| is_word(**byte)).count())
}

/// `<name>` or `"name"`, and whether it is the latter.
fn literal(argument: &[u8]) -> Option<(String, bool)> {
    let (close, quoted) = match argument.first()? {
        b'"' => (b'"', true),
        b'<' => (b'>', false),
        _ => return None,
    };
    let rest = &argument[1..argument.len().min(NAME_BYTES_MAX)];
    let name = &rest[..memchr(close, rest)?];
    if name.is_empty() || name.contains(&b'\n') {
        return None;
    }
    Some((String::from_utf8(name.to_vec()).ok()?, quoted))
}

/// Start of the logical line around `at`: lines that end in a backslash go on.
fn line_start(bytes: &[u8], at: usize) -> usize {
    let mut end = at;
    while let Some(newline) = memrchr(b'\n', &bytes[..end]) {
        let above = bytes[..newline].strip_suffix(b"\r").unwrap_or(&bytes[..newline]);
        if !above.ends_with(b"\\") {
            return newline + 1;
        }
        end = newline;
    }
    0
}

fn is_comment(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    ends_in_comment(line) || (line.starts_with(b"*") && !line.starts_with(b"*/"))
}

/// Whether a comment begins in `line` and goes on behind it. Behind a quote nothing is believed:
/// what looks like a comment there may be none.
fn ends_in_comment(mut line: &[u8]) -> bool {
    loop {
        let Some(open) = line.windows(2).position(|pair| pair == b"//" || pair == b"/*") else {
            return false;
        };
        if line[..open].iter().any(|byte| matches!(byte, b'"' | b'\'' | b'<')) {
            return false;
        }
        let comment = &line[open..];
        match memmem::find(&comment[2..], b"*/") {
            Some(close) if comment.starts_with(b"/*") => line = &comment[close + 4..],
            _ => return true,
        }
    }
}

fn is_directive(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    line.starts_with(b"#") || line.starts_with(b"%:") || line.ends_with(b"\\")
}

/// Whether the name is only asked for, defined or undefined: `#ifdef X`, `defined(X)`, `#define X`.
fn asks_for_definition(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    let line = line.strip_suffix(b"(").unwrap_or(line).trim_ascii_end();
    [&b"ifdef"[..], b"ifndef", b"elifdef", b"elifndef", b"defined", b"define", b"undef"].iter().any(
        |word| {
            line.strip_suffix(*word)
                .is_some_and(|rest| !rest.last().is_some_and(|byte| is_word(*byte)))
        },
    )
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let count = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[count..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::scan_facts;

    fn test(name: &str, quoted: bool, next: bool) -> IncludeTest {
        IncludeTest { name: name.into(), quoted, next }
    }

    #[test]
    fn written_names_are_collected_once() {
        let text = b"#if defined(__has_include) && __has_include(<a/b.h>)\n\
            #  elif __has_include ( \"c d.h\" ) || __has_include(<a/b.h>)\n\
            #if __has_include_next(<e.h>)\n#if X && \\\n __has_include__(<f>)\n";
        let facts = scan_facts(text);
        let wanted = [
            test("a/b.h", false, false),
            test("c d.h", true, false),
            test("e.h", false, true),
            test("f", false, false),
        ];
        assert_eq!(facts.has_include, wanted);
        assert!(!facts.unresolved_include_test);
    }

    #[test]
    fn questions_for_the_macro_itself_are_no_tests() {
        for text in [
            "#ifdef __has_include\n",
            "# ifndef  __has_include",
            "#if defined __has_include",
            "#if !defined ( __has_include )",
            "#define __has_include(x) 0",
            "#undef __has_include",
            "// __has_include(X)",
            "#endif // __has_include",
            "#endif /* no */ /* __has_include */",
            " * uses __has_include(X)",
            "my_has_include(X)",
            "my__has_include(X)",
            "__has_include_foo(X)",
            "#if MY_HAS_INCLUDE && MY_HAS_INCLUDE_STDINT",
            "#define MY_HAS_INCLUDE(x) 0",
            "/* tells about __has_include */",
        ] {
            let facts = scan_facts(text.as_bytes());
            assert!(facts.has_include.is_empty() && !facts.unresolved_include_test, "{text}");
        }
    }

    #[test]
    fn macros_that_stand_for_the_test_are_followed_by_their_name() {
        for definition in [
            "#  define A_HAS_INCLUDE __has_include\n",
            "#define A_HAS_INCLUDE(x) __has_include(x)\n",
            "#define A_HAS_INCLUDE(x) (A && \\\n has_include_of_b( x ))\n",
            "",
        ] {
            let text = format!("{definition}#if A || A_HAS_INCLUDE ( <a.h> )\n");
            let facts = scan_facts(text.as_bytes());
            assert_eq!(facts.has_include, [test("a.h", false, false)], "{text}");
            assert!(!facts.unresolved_include_test, "{text}");
        }
        let next = "#define has_include_next_(x) __has_include_next(x)\n\
            #if has_include_next_(<a.h>)\n";
        assert_eq!(scan_facts(next.as_bytes()).has_include, [test("a.h", false, true)]);
    }

    #[test]
    fn macros_as_argument_or_alias_are_unresolved() {
        for text in [
            "#if __has_include(FOO_H)",
            "#define HAS(x) __has_include(x)",
            "#define HAS __has_include\n",
            "#if __has_include(<a\n>)",
            "#if __has_include(\"\")",
            "#if __has_include(",
            "#define HAS_INCLUDE(x) __has_include_next(x)",
            "#define HAS_INCLUDE_NEXT __has_include",
            "#define HAS_INCLUDE(x) __has_include(x.h)",
            "#define HAS_INCLUDE(x, y) __has_include(x)",
            "#define HAS_INCLUDE(x) __has_include",
            "#define HAS A_HAS_INCLUDE",
            "#if HAS_INCLUDE(A)",
            "#if HAS_INCLUDE \\\n (A)",
            "#if ASK(HAS_INCLUDE, <a.h>)",
            "#if ASK(HAS_INCLUDE)(<a.h>)",
            "#if ASK(HAS_I, NCLUDE)(<a.h>) // ##",
            "#define GOT_A __has_include(\"a.h\")",
            "#define GOT_A __has_include_next(<a.h>)",
            "#if A /* a */ && __has_include(A)",
            "#if __has_include(<a//b>) && __has_include(A)",
        ] {
            let facts = scan_facts(text.as_bytes());
            assert!(facts.unresolved_include_test, "{text}");
        }
    }

    #[test]
    fn many_comments_and_many_tests_in_one_line_end_soon() {
        let comments = format!("{} __has_include(<a>)", "/**/".repeat(1 << 20));
        assert!(!scan_facts(comments.as_bytes()).unresolved_include_test);
        let tests = "__has_include(<a>) ".repeat(1 << 17);
        let continued = "#if __has_include(<a>) || \\\n".repeat(1 << 17);
        let word = "__has_include".repeat(1 << 17);
        for text in [tests, continued, word] {
            assert!(scan_facts(text.as_bytes()).unresolved_include_test);
        }
    }
}
