//! `__has_include` in a file: which headers it asks for. The answer depends on files that the
//! compile may never read, so the names have to be looked for on the client.

use memchr::{memchr, memmem, memrchr};

use super::facts::{FileFacts, IncludeTest, is_word};

/// Longest header name that is believed, in bytes.
const NAME_BYTES_MAX: usize = 1_024;
/// Most tests remembered of one file; a file with more is not understood.
const TESTS_MAX: usize = 1_000;

/// Adds the include tests in `bytes` to `facts`.
pub(super) fn collect(bytes: &[u8], facts: &mut FileFacts) {
    for at in memmem::find_iter(bytes, b"__has_include") {
        match classify(bytes, at) {
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

enum Mention {
    /// A question whether the test exists, a comment, another name.
    Nothing,
    Unresolved,
    Test(IncludeTest),
}

fn classify(bytes: &[u8], at: usize) -> Mention {
    if bytes[..at].last().is_some_and(|byte| is_word(*byte)) {
        return Mention::Nothing;
    }
    let length = bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
    let (name, after) = bytes[at..].split_at(length);
    // gcc before 10 has the two with trailing underscores, and defines the others as macros.
    let next = match name {
        b"__has_include" | b"__has_include__" => false,
        b"__has_include_next" | b"__has_include_next__" => true,
        _ => return Mention::Nothing,
    };
    let line = &bytes[line_start(bytes, at)..at];
    if is_comment(line) || asks_for_definition(line) {
        return Mention::Nothing;
    }
    match skip_blanks(after) {
        [b'(', argument @ ..] => match literal(skip_blanks(argument)) {
            Some((name, quoted)) => Mention::Test(IncludeTest { name, quoted, next }),
            None => Mention::Unresolved,
        },
        // Another name for the test, used who knows where.
        _ if is_directive(line) => Mention::Unresolved,
        _ => Mention::Nothing,
    }
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
fn ends_in_comment(line: &[u8]) -> bool {
    let Some(open) = line.windows(2).position(|pair| pair == b"//" || pair == b"/*") else {
        return false;
    };
    if line[..open].iter().any(|byte| matches!(byte, b'"' | b'\'' | b'<')) {
        return false;
    }
    let comment = &line[open..];
    match memmem::find(&comment[2..], b"*/") {
        Some(close) if comment.starts_with(b"/*") => ends_in_comment(&comment[close + 4..]),
        _ => true,
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
            "my__has_include(X)",
            "__has_include_foo(X)",
            "/* tells about __has_include */",
        ] {
            assert_eq!(scan_facts(text.as_bytes()), FileFacts::default(), "{text}");
        }
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
            "#if A /* a */ && __has_include(A)",
            "#if __has_include(<a//b>) && __has_include(A)",
        ] {
            let facts = scan_facts(text.as_bytes());
            assert!(facts.unresolved_include_test, "{text}");
        }
    }
}
