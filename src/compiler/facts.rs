//! What one source or header says that a list of included files does not: one cheap pass over its
//! bytes, without parsing. It would rather see too much than too little; what it sees too much
//! only costs a local compile.

use std::sync::Arc;

use memchr::{memchr_iter, memmem, memrchr};
use serde::{Deserialize, Serialize};

use super::includes::{self, Includes};
use super::{include_test, line_marks};

/// Names what [`scan_facts`] finds and what is concluded from it: facts and lists of inputs of
/// another version are not used. To be raised with every change of either.
pub const FACTS_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-2");

/// What a file says, remembered by its digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// It names `__DATE__` or `__TIME__`.
    pub time_macro: bool,
    /// It names `__TIMESTAMP__`, the time of the file's last change.
    pub timestamp_macro: bool,
    /// It has `.incbin` or the assembler's `.include`, in inline assembly too.
    pub assembler_include: bool,
    /// Tests for a header whose name is written out.
    pub has_include: Vec<IncludeTest>,
    /// It has an include test whose argument is a macro.
    pub unresolved_include_test: bool,
    /// It has `#embed` or `__has_embed`.
    pub embed: bool,
    /// It loads a precompiled header by pragma, as `gcc -E -fpch-preprocess` writes it.
    pub precompiled_header: bool,
    /// It asks to be read once: gcc then knows it again by size, time and content.
    pub once: bool,
    /// It compares the times of files: `#pragma GCC dependency`.
    pub file_times: bool,
    /// Files that it claims to come from.
    pub line_files: Vec<String>,
    /// Such a claim is not understood.
    pub unresolved_line_file: bool,
    /// What it includes; files are many, and each is asked for by many compiles.
    #[serde(with = "includes::shared")]
    pub includes: Arc<Includes>,
}

/// `__has_include("name")` or one of its kin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IncludeTest {
    /// The header's name between the quotes or brackets.
    pub name: String,
    /// Quotes, not angle brackets: the file's own folder is searched first.
    pub quoted: bool,
    /// `__has_include_next`: the search starts after the file's own directory.
    pub next: bool,
}

/// Scans one file.
pub fn scan_facts(bytes: &[u8]) -> FileFacts {
    let has_odd_cuts = includes::has_odd_cuts(bytes);
    let spliced = splice(bytes);
    let bytes = spliced.as_deref().unwrap_or(bytes);
    let mut includes = includes::collect(bytes);
    includes.unresolved |= has_odd_cuts;
    let line_marks = line_marks::line_marks(bytes);
    let mut facts = FileFacts {
        time_macro: names(bytes, b"__DATE__") || names(bytes, b"__TIME__"),
        timestamp_macro: names(bytes, b"__TIMESTAMP__"),
        assembler_include: has_assembler_include(bytes),
        embed: has_embed(bytes),
        precompiled_header: memmem::find(bytes, b"pch_preprocess").is_some(),
        once: names(bytes, b"once") || names(bytes, b"import"),
        file_times: compares_file_times(bytes),
        line_files: line_marks.files,
        unresolved_line_file: line_marks.unresolved,
        includes: Arc::new(includes),
        ..FileFacts::default()
    };
    include_test::collect(bytes, &mut facts);
    if memmem::find(bytes, b"##").is_some() {
        facts.timestamp_macro |= pastes(bytes, &["__DATE__", "__TIME__", "__TIMESTAMP__"]);
        facts.unresolved_include_test |= words(bytes).any(include_test::is_part);
    }
    facts
}

/// The text with its lines joined where a backslash at a line's end cuts a name in two; `None`
/// when there is no such place, as in nearly every file.
fn splice(bytes: &[u8]) -> Option<Vec<u8>> {
    let cuts_name = |newline: usize| {
        let above = &bytes[..newline];
        let above = above.strip_suffix(b"\r").unwrap_or(above).strip_suffix(b"\\")?;
        let between = above.last().zip(bytes.get(newline + 1));
        between
            .is_some_and(|(before, after)| is_word(*before) && is_word(*after))
            .then_some(above.len()..newline + 1)
    };
    let cuts: Vec<_> = memchr_iter(b'\n', bytes).filter_map(cuts_name).collect();
    let mut joined = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for cut in &cuts {
        joined.extend_from_slice(&bytes[from..cut.start]);
        from = cut.end;
    }
    joined.extend_from_slice(&bytes[from..]);
    (!cuts.is_empty()).then_some(joined)
}

/// Whether a word is a part of one of `names`, to be joined by `##`: of two parts one has half of
/// the name.
fn pastes(bytes: &[u8], names: &[&str]) -> bool {
    let is_part = |word: &[u8], name: &[u8]| {
        (name.len().div_ceil(2)..name.len()).contains(&word.len())
            && (name.starts_with(word) || name.ends_with(word))
    };
    words(bytes).any(|word| names.iter().any(|name| is_part(word, name.as_bytes())))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| !is_word(*byte))
}

fn compares_file_times(bytes: &[u8]) -> bool {
    memmem::find_iter(bytes, b"dependency").any(|at| {
        let line = &bytes[..at];
        let line = &line[memrchr(b'\n', line).map_or(0, |newline| newline + 1)..];
        memmem::find(line, b"pragma").is_some()
    })
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}

/// Whether `word` occurs on its own, not inside a longer name.
fn names(bytes: &[u8], word: &[u8]) -> bool {
    memmem::find_iter(bytes, word).any(|at| {
        let before = bytes[..at].last().is_some_and(|byte| is_word(*byte));
        let after = bytes.get(at + word.len()).is_some_and(|byte| is_word(*byte));
        !before && !after
    })
}

/// Assembler directives may be in any case; they follow a blank, a quote, `;`, a label or an
/// escape such as `\n`, never a name.
fn has_assembler_include(bytes: &[u8]) -> bool {
    memchr_iter(b'.', bytes).any(|dot| {
        let after = &bytes[dot + 1..];
        let starts = |word: &[u8]| {
            after.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
                && !after.get(word.len()).is_some_and(|byte| is_word(*byte))
        };
        (starts(b"incbin") && begins_statement(&bytes[..dot]))
            || (starts(b"include")
                && begins_statement(&bytes[..dot])
                && takes_file(&after[b"include".len()..]))
    })
}

fn begins_statement(before: &[u8]) -> bool {
    match *before {
        [] => true,
        [.., b'\\', b'n' | b't' | b'r'] => true,
        [.., last] => !is_word(last) && !matches!(last, b')' | b']' | b'.' | b'>' | b'-' | b'*'),
    }
}

/// Whether what follows `.include` can be a file's name; a C initialiser or member access cannot.
fn takes_file(after: &[u8]) -> bool {
    let next = after.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    !matches!(
        next,
        None | Some(b'=' | b',' | b';' | b')' | b'.' | b'[' | b'}' | b'-' | b'\n' | b'\r')
    )
}

fn has_embed(bytes: &[u8]) -> bool {
    memmem::find_iter(bytes, b"embed").any(|at| {
        if bytes.get(at + b"embed".len()).is_some_and(|byte| is_word(*byte)) {
            return false;
        }
        let before = bytes[..at].trim_ascii_end();
        before.ends_with(b"#") || before.ends_with(b"%:") || bytes[..at].ends_with(b"__has_")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_seen_as_words() {
        assert!(scan_facts(b"puts(__DATE__);").time_macro && scan_facts(b"__TIME__").time_macro);
        assert!(!scan_facts(b"MY__DATE__ __TIME__X").time_macro);
        let stamp = scan_facts(b"x = __TIMESTAMP__;");
        assert!(stamp.timestamp_macro && !stamp.time_macro);
    }

    #[test]
    fn assembler_includes_are_seen() {
        for text in [
            ".incbin \"x\"",
            "asm(\".incbin \\\"x\\\"\");",
            "asm(\"a:\\n.INCBIN \" F);",
            "l:.incbin \"x\"",
            "asm(\"nop\\n\\t.include \\\"x\\\"\");",
            "\t.include \"m.inc\"",
            "asm(\".include \" \"x\");",
            "#define INCBIN_MACRO \".incbin\"",
            ";.Include x",
        ] {
            assert!(scan_facts(text.as_bytes()).assembler_include, "{text}");
        }
        for text in [
            "x = { .include = 1 };",
            "a.include(b)",
            "p.incbin = 2;",
            "foo .include;",
            "#include \"a.h\"",
            ".incbinary",
            "f().include (x)",
            ".",
            "",
            "a[1].include x",
            "see .include.\n",
        ] {
            assert!(!scan_facts(text.as_bytes()).assembler_include, "{text}");
        }
    }

    #[test]
    fn names_in_pieces_are_seen() {
        assert!(scan_facts(b"x = __TIME\\\nSTAMP__;").timestamp_macro);
        assert!(scan_facts(b"x = __DA\\\r\nTE__;").time_macro);
        assert_eq!(scan_facts(b"#if __has\\\n_include(<a.h>)\n").has_include.len(), 1);
        assert_eq!(splice(b"#define A b \\\n c\\\n\\\nd"), None);
        for text in ["CAT(__TI, ME__)", "CAT(__D, ATE__)", "CAT(__TIME, STAMP__)"] {
            let facts = |define: &str| scan_facts(format!("{define}\n{text}").as_bytes());
            assert!(facts("#define CAT(a, b) a##b").timestamp_macro, "{text}");
            assert!(!facts("").timestamp_macro, "{text}");
        }
        assert!(scan_facts(b"C(a##b)\nC(__has, _include)(<a.h>)").unresolved_include_test);
        let ordinary = b"#include <a>\n#include_next <b>\n#if __has_include(<c>)\na##b TIME __has_";
        let facts = scan_facts(ordinary);
        assert!(!facts.unresolved_include_test && !facts.timestamp_macro);
    }

    #[test]
    fn file_times_and_single_reads_are_seen() {
        assert!(scan_facts(b"#pragma GCC dependency \"a.y\"").file_times);
        assert!(!scan_facts(b"#pragma once\n// a dependency").file_times);
        assert!(scan_facts(b"#pragma once\n").once && !scan_facts(b"nonce").once);
    }

    #[test]
    fn embeds_and_precompiled_headers_are_seen() {
        assert!(scan_facts(b"# embed \"x\"").embed && scan_facts(b"#if __has_embed(<x>)").embed);
        assert!(!scan_facts(b"embed(x); #embedded").embed);
        assert!(scan_facts(b"#pragma GCC pch_preprocess \"a.gch\"").precompiled_header);
    }
}
