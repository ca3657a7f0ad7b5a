//! `#line 7 "parser.y"` and `# 7 "parser.y"`: files that a source claims to come from. gcc quotes
//! their lines in its messages when they are there, so they have to be on a worker too.

use memchr::memchr;

/// Longest name that is believed, in bytes.
const NAME_BYTES_MAX: usize = 4_096;
/// Most names remembered of one file; a file with more is not understood.
const NAMES_MAX: usize = 10_000;

/// Names of files in the line marks of one source.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LineMarks {
    /// Each once, sorted.
    pub(super) files: Vec<String>,
    /// A mark's name is a macro, or written in a way that is not understood.
    pub(super) unresolved: bool,
}

/// Collects the line marks in `bytes`.
pub(super) fn line_marks(bytes: &[u8]) -> LineMarks {
    let mut marks = LineMarks::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        match mark(line) {
            Mark::None => {}
            Mark::Unresolved => marks.unresolved = true,
            Mark::File(name) => {
                if let Err(place) = marks.files.binary_search(&name) {
                    marks.files.insert(place, name);
                }
            }
        }
        if marks.files.len() > NAMES_MAX {
            return LineMarks { files: Vec::new(), unresolved: true };
        }
    }
    marks
}

enum Mark {
    None,
    Unresolved,
    File(String),
}

fn mark(line: &[u8]) -> Mark {
    let line = line.trim_ascii();
    let Some(rest) = line.strip_prefix(b"#").or_else(|| line.strip_prefix(b"%:")) else {
        return Mark::None;
    };
    let rest = rest.trim_ascii_start();
    let (number, is_written_out) = match rest.strip_prefix(b"line") {
        Some([b' ' | b'\t', number @ ..]) => (number.trim_ascii_start(), true),
        Some(_) => return Mark::None,
        None => (rest, false),
    };
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match (number[digits..].trim_ascii_start(), digits) {
        (_, 0) if is_written_out => Mark::Unresolved,
        (_, 0) | ([], _) => Mark::None,
        ([b'"', name @ ..], _) => file(name).map_or(Mark::Unresolved, Mark::File),
        _ => Mark::Unresolved,
    }
}

/// The name before the closing quote. `<built-in>` and the like are names all the same.
fn file(rest: &[u8]) -> Option<String> {
    let mut rest = &rest[..rest.len().min(NAME_BYTES_MAX)];
    let mut name = Vec::new();
    loop {
        let quote = memchr(b'"', rest)?;
        match memchr(b'\\', &rest[..quote]) {
            None => {
                name.extend_from_slice(&rest[..quote]);
                return String::from_utf8(name).ok();
            }
            Some(escape) => {
                let escaped = *rest.get(escape + 1).filter(|byte| b"\\\"".contains(byte))?;
                name.extend_from_slice(&rest[..escape]);
                name.push(escaped);
                rest = &rest[escape + 2..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_collected_once() {
        let text =
            b"# 1 \"a.c\"\n# 1 \"<built-in>\"\n#line 7 \"dir/p \\\"q\\\\.y\"\r\n  # 9 \"a.c\" 2\n\
            #line 3\n# define X \"no\"\n#lined 3 \"no\"\n#\nint x; # 3 \"no\"\n";
        let marks = line_marks(text);
        assert_eq!(marks.files, ["<built-in>", "a.c", "dir/p \"q\\.y"]);
        assert!(!marks.unresolved);
    }

    #[test]
    fn other_names_are_not_understood() {
        for text in ["#line __LINE__ \"x\"", "#line 3 NAME", "# 3 \"a\\tb\"", "#line 3 \"open"] {
            assert!(line_marks(text.as_bytes()).unresolved, "{text}");
        }
    }
}
