//! The make rules that `gcc -M` and `clang -M` write, read back into file names.
//!
//! Both compilers quote alike: a space or tab in a name gets a backslash and doubles the
//! backslashes before it, `#` gets a backslash, `$` is doubled; everything else, colons included,
//! stands as it is. See `munge` in gcc's `libcpp/mkdeps.cc`, `PrintFilename` in clang's
//! `DependencyFile.cpp`.

use std::collections::HashSet;

/// Most bytes of rules that are read: 100,000 names of 160 bytes.
pub const BYTES_MAX: usize = 16 << 20;

/// Why rules could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DepfileError {
    /// More than [`BYTES_MAX`].
    #[error("dependency rules have {0} bytes, wanted at most {BYTES_MAX}")]
    TooLarge(usize),
    /// More names than the caller allows.
    #[error("dependency rules name more than {0} files")]
    TooMany(usize),
    /// A rule without a colon after its targets.
    #[error("dependency rules have no `:` after the target in `{0}`")]
    NoTarget(String),
    /// A file name that is not UTF-8.
    #[error("dependency rules name a file that is not UTF-8: `{0}`")]
    NotUtf8(String),
}

/// The prerequisites of all rules in `bytes`, in order, each once.
///
/// # Errors
/// [`DepfileError`] when they are no rules, name no UTF-8 files, or more than `names_max`.
pub fn parse(bytes: &[u8], names_max: usize) -> Result<Vec<String>, DepfileError> {
    if bytes.len() > BYTES_MAX {
        return Err(DepfileError::TooLarge(bytes.len()));
    }
    let mut names = Names { known: HashSet::new(), list: Vec::new(), most: names_max };
    let mut reader = Reader { rest: bytes };
    while reader.rule(&mut names)? {}
    Ok(names.list)
}

/// Names in the order in which they came, each once.
struct Names {
    known: HashSet<String>,
    list: Vec<String>,
    most: usize,
}

impl Names {
    fn add(&mut self, name: Vec<u8>) -> Result<(), DepfileError> {
        let name = String::from_utf8(name)
            .map_err(|error| DepfileError::NotUtf8(shown(error.as_bytes())))?;
        if self.known.contains(&name) {
            return Ok(());
        }
        if self.list.len() >= self.most {
            return Err(DepfileError::TooMany(self.most));
        }
        self.known.insert(name.clone());
        self.list.push(name);
        Ok(())
    }
}

/// The first 80 characters, for an error.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(320)]).chars().take(80).collect()
}

struct Reader<'a> {
    rest: &'a [u8],
}

enum Token {
    Name(Vec<u8>),
    End,
}

impl Reader<'_> {
    /// Adds the prerequisites of the next rule; false at the end of the text.
    fn rule(&mut self, names: &mut Names) -> Result<bool, DepfileError> {
        while let Some(rest) = self.rest.strip_prefix(b"\n") {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            return Ok(false);
        }
        let start = self.rest;
        let (mut has_target, mut is_blank) = (false, true);
        while let Token::Name(mut name) = self.token() {
            is_blank = false;
            if has_target {
                names.add(name)?;
            } else if name.last() == Some(&b':') {
                name.pop();
                has_target = true;
            }
        }
        if has_target || is_blank { Ok(true) } else { Err(DepfileError::NoTarget(shown(start))) }
    }

    /// The next name of the line, or the line's end. A colon is part of a name: only one before
    /// white space ends the targets.
    fn token(&mut self) -> Token {
        self.skip_blanks();
        let mut name = Vec::new();
        loop {
            match *self.rest {
                [] | [b' ' | b'\t', ..] | [b'\r', b'\n', ..] => break,
                [b'\n', ..] if !name.is_empty() => break,
                [b'\n', ref rest @ ..] => {
                    self.rest = rest;
                    return Token::End;
                }
                [b'$', b'$', ref rest @ ..] => {
                    name.push(b'$');
                    self.rest = rest;
                }
                [b'\\', b'#' | b':', ref rest @ ..] => {
                    name.push(self.rest[1]);
                    self.rest = rest;
                }
                [b'\\', ..] => {
                    if !self.backslashes(&mut name) {
                        break;
                    }
                }
                [byte, ref rest @ ..] => {
                    name.push(byte);
                    self.rest = rest;
                }
            }
        }
        if name.is_empty() { Token::End } else { Token::Name(name) }
    }

    /// Reads a run of backslashes; false when it ends the name (a continued line).
    fn backslashes(&mut self, name: &mut Vec<u8>) -> bool {
        let count = self.rest.iter().take_while(|byte| **byte == b'\\').count();
        let after = &self.rest[count..];
        let continues = matches!(after, [b'\n', ..] | [b'\r', b'\n', ..]);
        match after.first() {
            _ if continues => {
                name.extend(std::iter::repeat_n(b'\\', count - 1));
                self.rest = &self.rest[count - 1..];
                false
            }
            Some(blank @ (b' ' | b'\t')) => {
                name.extend(std::iter::repeat_n(b'\\', count / 2));
                let is_quoted = count % 2 == 1;
                name.extend(is_quoted.then_some(*blank));
                self.rest = &after[usize::from(is_quoted)..];
                true
            }
            Some(b'#' | b':') => {
                name.extend(std::iter::repeat_n(b'\\', count - 1));
                self.rest = &self.rest[count - 1..];
                true
            }
            _ => {
                name.extend(std::iter::repeat_n(b'\\', count));
                self.rest = after;
                true
            }
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            self.rest = match self.rest {
                [b' ' | b'\t', rest @ ..] | [b'\\', b'\n', rest @ ..] => rest,
                [b'\\', b'\r', b'\n', rest @ ..] => rest,
                [b'\r', b'\n', ..] => &self.rest[1..],
                _ => return,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse(text.as_bytes(), 100).unwrap()
    }

    #[test]
    fn rules_as_gcc_and_clang_write_them() {
        assert_eq!(names("a.o: a.c h.h \\\n /usr/x.h \\\n  h.h\n"), ["a.c", "h.h", "/usr/x.h"]);
        assert_eq!(
            names("a.o: d\\ r/a\\#b$$c:d.h d\\ r/t\\\tb.h\n"),
            ["d r/a#b$c:d.h", "d r/t\tb.h"]
        );
        assert_eq!(names("a.o: d\\ r/b\\\\\\ s.h x\\y.h\n"), ["d r/b\\ s.h", "x\\y.h"]);
        assert_eq!(names("x y:z.o q\\ r$$.o: a.c\\\n b.h\nb.h:\n"), ["a.c", "b.h"]);
        assert_eq!(names("a.o: \\\n a.c\r\n"), ["a.c"]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn hostile_rules_are_refused() {
        assert!(matches!(parse(b"a.o a.c\n", 9), Err(DepfileError::NoTarget(_))));
        assert!(matches!(parse(b"a.o: \xff\n", 9), Err(DepfileError::NotUtf8(_))));
        assert_eq!(parse(b"a: b c d\n", 2), Err(DepfileError::TooMany(2)));
        assert!(matches!(parse(&vec![b' '; BYTES_MAX + 1], 9), Err(DepfileError::TooLarge(_))));
    }
}
