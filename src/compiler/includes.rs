//! The include directives of one file, whatever `#if` stands around them, and the macros that may
//! name a header.
//!
//! A directive is a `#` that begins a line, behind blanks or the end of a comment. Whether that line
//! lies inside a longer comment or a raw string is not asked: what is found there is one name too
//! many, and no name is missed, in C, C++ and assembler alike. Where that cannot be promised
//! (trigraphs, names cut in two), the file says so: [`Includes::unresolved`].

use memchr::{memchr_iter, memchr2, memchr2_iter, memmem};
use serde::{Deserialize, Serialize};

use super::facts::is_word;

/// Longest header name that is believed, in bytes.
const NAME_BYTES_MAX: usize = 1_024;
/// Most includes, and most macros, remembered of one file; a file with more is not understood.
const NAMES_MAX: usize = 10_000;
/// Most definitions remembered of one file; a file with more is not understood.
const DEFINITIONS_MAX: usize = 200_000;
/// Longest comment behind a macro's name or text that is known to be one, in bytes.
const LAST_COMMENT_BYTES_MAX: usize = 4_096;
/// Most bytes of comments behind `#` that are skipped in one file; a file with more is not
/// understood. A comment may hold many lines that begin with `#`.
const COMMENT_BYTES_MAX: usize = 64 << 20;

/// What a file includes, and what it defines that an include may name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Includes {
    /// Headers whose names are written out, each once.
    pub headers: Vec<Include>,
    /// Includes whose name is a macro, each once.
    pub macros: Vec<MacroInclude>,
    /// Macros that stand for one header's name.
    pub definitions: Vec<(String, Header)>,
    /// All other macros that are defined: [`macro_hash`] of their names, sorted.
    pub other_definitions: Vec<u32>,
    /// There may be more includes than these.
    pub unresolved: bool,
}

/// A header as an include names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Header {
    /// The name between the quotes or brackets.
    pub name: String,
    /// Quotes, not angle brackets: the file's own folder is searched first.
    pub quoted: bool,
}

/// `#include "name"`, or `#include_next`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Include {
    /// Which header.
    pub header: Header,
    /// `#include_next`: the search starts behind the folder where this file was found.
    pub next: bool,
}

/// `#include NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MacroInclude {
    /// The macro.
    pub name: String,
    /// `#include_next`.
    pub next: bool,
    /// Nothing follows the name: no arguments, no second word.
    pub alone: bool,
}

/// Names a macro in [`Includes::other_definitions`] (FNV-1a). Two names of equal value only cost a
/// doubt.
pub fn macro_hash(name: &str) -> u32 {
    hash(name.as_bytes())
}

fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The macro that `-D` defines, and the header that it stands for, if it does.
pub fn definition(text: &str) -> (&str, Option<Header>) {
    let (name, body) = text.split_once('=').unwrap_or((text, "1"));
    let (name, is_plain) = name.split_once('(').map_or((name, true), |(name, _)| (name, false));
    (name, is_plain.then(|| whole_header(body.trim().as_bytes())).flatten())
}

/// Reads one file; names in it are not cut by line ends, as far as [`has_odd_cuts`] says.
pub(super) fn collect(bytes: &[u8]) -> Includes {
    let mut found = Includes { unresolved: has_trigraphs(bytes), ..Includes::default() };
    let mut budget = COMMENT_BYTES_MAX;
    for hash in memchr2_iter(b'#', b'%', bytes) {
        let after = match &bytes[hash..] {
            [b'#', after @ ..] | [b'%', b':', after @ ..] => after,
            _ => continue,
        };
        if !begins_line(&bytes[..hash]) {
            continue;
        }
        let (word, rest) = split_word(skip(after, &mut budget));
        match word {
            b"include" | b"import" => found.include(skip(rest, &mut budget), false),
            b"include_next" => found.include(skip(rest, &mut budget), true),
            b"define" => {
                let (name, rest) = split_word(skip(rest, &mut budget));
                let takes_arguments = rest.starts_with(b"(");
                found.define(name, (!takes_arguments).then(|| skip(rest, &mut budget)));
            }
            _ => {}
        }
        if budget == 0 || found.is_full() {
            found.unresolved = true;
            break;
        }
    }
    found.other_definitions.sort_unstable();
    found.other_definitions.dedup();
    found.other_definitions.shrink_to_fit();
    found
}

/// Whether a backslash, blanks and a line's end cut a word in two: compilers join it.
pub(super) fn has_odd_cuts(bytes: &[u8]) -> bool {
    memchr_iter(b'\\', bytes).any(|at| {
        let after = &bytes[at + 1..];
        let blanks = after.iter().take_while(|byte| is_blank(**byte)).count();
        let cuts = |next: &[u8]| {
            bytes[..at].last().is_some_and(|byte| is_word(*byte))
                && next.first().is_some_and(|byte| is_word(*byte))
        };
        blanks > 0 && after[blanks..].strip_prefix(b"\n").is_some_and(cuts)
    })
}

impl Includes {
    fn is_full(&self) -> bool {
        self.headers.len().max(self.macros.len()).max(self.definitions.len()) >= NAMES_MAX
            || self.other_definitions.len() >= DEFINITIONS_MAX
    }

    fn include(&mut self, argument: &[u8], next: bool) {
        match argument.first() {
            Some(b'"' | b'<') => match header(argument) {
                Parsed::Header(header, _) => self.add(Include { header, next }),
                Parsed::Unresolved => self.unresolved = true,
                // Where that is read, nothing is compiled.
                Parsed::Nothing => {}
            },
            Some(byte) if is_word(*byte) => self.include_macro(argument, next),
            // The name of a macro may have letters beyond ASCII.
            Some(byte) => self.unresolved |= !byte.is_ascii() || *byte == b'\\',
            None => {}
        }
    }

    fn include_macro(&mut self, argument: &[u8], next: bool) {
        let (name, rest) = split_word(argument);
        let alone = ends(rest);
        self.unresolved |= rest.first().is_some_and(|byte| !byte.is_ascii() || *byte == b'\\')
            || name.len() > NAME_BYTES_MAX;
        let name = String::from_utf8_lossy(&name[..name.len().min(NAME_BYTES_MAX)]).into_owned();
        let include = MacroInclude { name, next, alone };
        if !self.macros.contains(&include) {
            self.macros.push(include);
        }
    }

    fn add(&mut self, include: Include) {
        if !self.headers.contains(&include) {
            self.headers.push(include);
        }
    }

    /// `body` is the macro's text, of one that takes no arguments.
    fn define(&mut self, name: &[u8], body: Option<&[u8]>) {
        let header = body.and_then(whole_header);
        match header.zip(str::from_utf8(name).ok()) {
            Some((header, name)) => {
                let definition = (name.to_owned(), header);
                if !self.definitions.contains(&definition) {
                    self.definitions.push(definition);
                }
            }
            None => self.other_definitions.push(hash(name)),
        }
    }
}

enum Parsed<'a> {
    /// A name, and what follows it.
    Header(Header, &'a [u8]),
    /// No name of a header.
    Nothing,
    /// There may be a name, but not one that is understood.
    Unresolved,
}

/// `"name"` or `<name>` at the start of `text`.
fn header(text: &[u8]) -> Parsed<'_> {
    let (close, quoted) = match text.first() {
        Some(b'"') => (b'"', true),
        Some(b'<') => (b'>', false),
        _ => return Parsed::Nothing,
    };
    let rest = &text[1..];
    match memchr2(close, b'\n', rest) {
        Some(0) => Parsed::Nothing,
        Some(end) if rest[end] == close => match str::from_utf8(&rest[..end]) {
            Ok(name) if end <= NAME_BYTES_MAX => {
                Parsed::Header(Header { name: name.to_owned(), quoted }, &rest[end + 1..])
            }
            _ => Parsed::Unresolved,
        },
        Some(end) if rest[..end].trim_ascii_end().ends_with(b"\\") => Parsed::Unresolved,
        _ => Parsed::Nothing,
    }
}

/// The header's name that is all of a macro's text. Text that is hardly a file's name is none: who
/// includes it nevertheless is not understood.
fn whole_header(body: &[u8]) -> Option<Header> {
    let Parsed::Header(header, rest) = header(body) else { return None };
    let is_name = |byte: u8| !byte.is_ascii_whitespace() && byte != b'\\' && byte != b'%';
    let plausible = header.name.contains(['.', '/']) && header.name.bytes().all(is_name);
    (plausible && ends(rest)).then_some(header)
}

/// Whether a line's text ends here, but for a comment.
fn ends(rest: &[u8]) -> bool {
    let rest = rest.iter().position(|byte| !is_blank(*byte)).map_or(&b""[..], |at| &rest[at..]);
    rest.is_empty() || rest.starts_with(b"\n") || rest.starts_with(b"//") || {
        // A comment may end, and the line go on.
        let comment = &rest[..rest.len().min(LAST_COMMENT_BYTES_MAX)];
        rest.starts_with(b"/*")
            && memmem::find(comment, b"*/").is_some_and(|close| {
                let text = rest[close + 2..].iter().find(|byte| !is_blank(**byte));
                matches!(text, None | Some(b'\n'))
            })
    }
}

/// Whether a directive may begin behind `before`.
fn begins_line(before: &[u8]) -> bool {
    let blanks = before.iter().rev().take_while(|byte| is_blank(**byte)).count();
    let before = &before[..before.len() - blanks];
    before.is_empty()
        || before.ends_with(b"\n")
        || before.ends_with(b"*/")
        || before == b"\xef\xbb\xbf"
}

/// `text` behind blanks, comments and line ends with a backslash before them; what they take is taken
/// from `budget`.
fn skip<'a>(text: &'a [u8], budget: &mut usize) -> &'a [u8] {
    let mut rest = text;
    loop {
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        rest = &rest[blanks..];
        if let Some(comment) = rest.strip_prefix(b"/*") {
            let comment_max = &comment[..comment.len().min(*budget)];
            let close = memmem::find(comment_max, b"*/").map(|close| close + 2);
            *budget -= close.unwrap_or(comment_max.len());
            rest = &comment[close.unwrap_or(comment.len())..];
            continue;
        }
        let Some(cut) = rest.strip_prefix(b"\\") else { return rest };
        let blanks = cut.iter().take_while(|byte| is_blank(**byte)).count();
        let Some(next) = cut[blanks..].strip_prefix(b"\n") else { return rest };
        rest = next;
    }
}

/// NUL counts as a blank for the preprocessors.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\x0b' | b'\x0c' | b'\0')
}

fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| is_word(**byte)).count())
}

/// Trigraphs of `#` and the backslash; whether they count depends on flags.
fn has_trigraphs(bytes: &[u8]) -> bool {
    memmem::find_iter(bytes, b"??").any(|at| matches!(bytes.get(at + 2), Some(b'=' | b'/')))
}

/// Shares what was read of a file among all who ask for it.
pub(super) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::Includes;

    pub(in crate::compiler) fn serialize<S: Serializer>(
        shared: &Arc<Includes>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        shared.as_ref().serialize(serializer)
    }

    pub(in crate::compiler) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<Includes>, D::Error> {
        Includes::deserialize(deserializer).map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compiler::scan_facts;

    fn read(text: &[u8]) -> Includes {
        scan_facts(text).includes.as_ref().clone()
    }

    /// Names as an include writes them, `+` for `#include_next`.
    fn names(text: &str) -> Vec<String> {
        let found = read(text.as_bytes());
        assert!(!found.unresolved, "{text}");
        let spelled = |Include { header: Header { name, quoted }, next }: &Include| {
            let next = if *next { "+" } else { "" };
            if *quoted { format!("{next}\"{name}\"") } else { format!("{next}<{name}>") }
        };
        found.headers.iter().map(spelled).collect()
    }

    #[test]
    fn directives_are_found_however_they_are_written() {
        for (text, wanted) in [
            ("#include <a.h>", "<a.h>"),
            ("\u{feff}#include <a.h>\r\n", "<a.h>"),
            (" \t#\tinclude\t\"a b.h\" // why", "\"a b.h\""),
            ("int x;\n%:include<a.h>", "<a.h>"),
            ("/* a\n b */ /* c */ # /* d */ include /* e\n */ <a.h> int", "<a.h>"),
            ("#\\\ninclude \\\r\n  \"a.h\"", "\"a.h\""),
            ("#inc\\\nlude <a.h>", "<a.h>"),
            ("#import \"a.h\"", "\"a.h\""),
            ("# include_next <a.h>", "+<a.h>"),
            ("#if 0\n#include <a//b.h>\n#endif", "<a//b.h>"),
            ("\x0c#include <a.h>", "<a.h>"),
            ("#include <a\\b.h>", "<a\\b.h>"),
        ] {
            assert_eq!(names(text), [wanted], "{text}");
        }
    }

    #[test]
    fn what_begins_no_line_is_none() {
        for text in [
            "// #include <a.h>",
            " * #include <a.h>",
            "\"#include <a.h>\"",
            "int x; #include <a.h>",
            "#included <a.h>",
            "#include",
            "#include <a.h\n>",
            "#include \"\"",
            "/* see #include <a.h> */",
            "# // include <a.h>",
            "%include <a.h>",
        ] {
            assert_eq!(names(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn what_may_hide_an_include_is_said() {
        for text in [
            "?\u{3f}=include <a.h>",
            "//?\u{3f}/\n#include <a.h>",
            "#inc\\ \nlude <a.h>",
            "#include <a\\\n.h>",
            "#include \u{e9}",
            "#include A\u{e9}",
            "#include \\u00e9",
        ] {
            assert!(read(text.as_bytes()).unresolved, "{text}");
        }
        assert!(read(b"#include <\xff>").unresolved);
        let long = format!("#include <{}>", "a".repeat(NAME_BYTES_MAX + 1));
        assert!(read(long.as_bytes()).unresolved);
    }

    #[test]
    fn macros_that_name_headers_are_known() {
        let text = b"#define A \"a.h\"\n# define B/**/<b/b.h> // b\n#define C STR(c.h)\n\
            #define D(x) \"d.h\"\n#define E \"no header\"\n#define F \"f.h\" G\n\
            #include A\n#include_next B /* b */\n#include C(1)\n#include D E\n#include A // a\n";
        let found = read(text);
        let header = |name: &str, quoted| Header { name: name.into(), quoted };
        let wanted =
            [("A".to_owned(), header("a.h", true)), ("B".to_owned(), header("b/b.h", false))];
        assert_eq!(found.definitions, wanted);
        for name in ["C", "D", "E", "F"] {
            assert!(found.other_definitions.binary_search(&macro_hash(name)).is_ok(), "{name}");
        }
        assert_eq!(found.other_definitions.len(), 4);
        let include = |name: &str, next, alone| MacroInclude { name: name.into(), next, alone };
        let wanted = [
            include("A", false, true),
            include("B", true, true),
            include("C", false, false),
            include("D", false, false),
        ];
        assert_eq!(found.macros, wanted);
    }

    #[test]
    fn definitions_of_the_command_line_are_read_alike() {
        assert_eq!(definition("A"), ("A", None));
        assert_eq!(definition("A=<x/a.h>").1.unwrap().name, "x/a.h");
        assert!(definition("A=\"a.h\"").1.unwrap().quoted);
        assert_eq!(definition("A(x)=\"a.h\""), ("A", None));
        assert_eq!(definition("A=B.h"), ("A", None));
    }

    #[test]
    fn comments_that_never_end_end_soon() {
        let text = "\n#/*".repeat(1 << 18);
        assert!(read(text.as_bytes()).unresolved);
        let many = "#define A\n".repeat(DEFINITIONS_MAX + 1);
        assert!(read(many.as_bytes()).unresolved);
    }

    proptest! {
        /// Text before and behind a directive on a line of its own does not hide it.
        #[test]
        fn no_directive_is_hidden(before in "[ -~\n]{0,60}", behind in "[ -~\n]{0,60}") {
            let text = format!("{before}\n\n#include <wanted/header.h>\n{behind}");
            let found = read(text.as_bytes());
            let wanted = Header { name: "wanted/header.h".into(), quoted: false };
            // A comment between `#` and its word may take the directive in; then it is read there.
            let taken_in = before.contains("/*");
            prop_assert!(
                taken_in || found.headers.iter().any(|include| include.header == wanted)
            );
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
