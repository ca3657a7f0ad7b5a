//! Options inside options: `-Wa,` and `-Xassembler`, `-Wp,` and `-Xpreprocessor`, `-Xclang`,
//! `-mllvm`. Only what is known to name no file passes; everything else stays at home.

use super::facts::scan_facts;
use super::include_test::may_name_test;
use crate::job::LocalReason;

/// Assembler options without a value that write and read nothing.
const ASSEMBLER_ALONE: [&str; 25] = [
    "--32",
    "--64",
    "--divide",
    "--execstack",
    "--fatal-warnings",
    "--gen-debug",
    "--keep-locals",
    "--no-pad-sections",
    "--no-warn",
    "--nocompress-debug-sections",
    "--noexecstack",
    "--reduce-memory-overheads",
    "--strip-local-absolute",
    "--traditional-format",
    "--warn",
    "--x32",
    "-J",
    "-L",
    "-Qn",
    "-Qy",
    "-R",
    "-W",
    "-Z",
    "-g",
    "-n",
];
/// Assembler options whose value is joined and names no file.
const ASSEMBLER_JOINED: [&str; 7] = [
    "--compress-debug-sections",
    "--elf-stt-common=",
    "--gdwarf-",
    "--generate-missing-build-notes=",
    "--hash-size=",
    "--size-check=",
    "-gdwarf-",
];

/// What a list for the preprocessor asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Preprocessor<'a> {
    /// `-MD,FILE` or `-MMD,FILE`: write dependencies into this file.
    DependencyFile(&'a str),
    /// Only shapes the dependency file.
    DependencyText,
    /// Macros, warnings and these directories.
    Plain(Vec<&'a str>),
}

/// Directories that a `-Wa,` list names, or `None` when an option in it is not understood.
pub(super) fn assembler(list: &str) -> Option<Vec<&str>> {
    let mut directories = Vec::new();
    let mut items = list.split(',');
    while let Some(item) = items.next() {
        if item == "-I" {
            directories.push(items.next()?);
        } else if let Some(directory) = item.strip_prefix("-I") {
            directories.push(directory);
        } else if item == "--defsym" || item == "--debug-prefix-map" {
            items.next()?;
        } else if !is_plain_assembler_option(item) {
            return None;
        }
    }
    Some(directories)
}

fn is_plain_assembler_option(item: &str) -> bool {
    ASSEMBLER_ALONE.contains(&item)
        || item.starts_with("--debug-prefix-map=")
        || ASSEMBLER_JOINED.iter().any(|name| item.starts_with(name) && !names_file(item))
        || (item.starts_with("-m") && item.len() > 2 && !names_file(item))
}

/// What a `-Wp,` list asks for, or `None` when an option in it is not understood.
pub(super) fn preprocessor(list: &str) -> Option<Preprocessor<'_>> {
    let items: Vec<&str> = list.split(',').collect();
    match items.as_slice() {
        // clang takes this form only when it is the whole list.
        ["-MD" | "-MMD", file] => return Some(Preprocessor::DependencyFile(file)),
        ["-MP"] | ["-MT" | "-MQ", _] => return Some(Preprocessor::DependencyText),
        _ => {}
    }
    let mut directories = Vec::new();
    for item in items {
        match item.get(..2)? {
            "-D" if item.len() > 2 => define(&item[2..]).ok()?,
            "-U" if item.len() > 2 => {}
            "-I" if item.len() > 2 => directories.push(&item[2..]),
            "-W" => {}
            "-f" if !names_file(item) && !item.contains("directives") => {}
            _ if item == "-undef" => {}
            _ => return None,
        }
    }
    Some(Preprocessor::Plain(directories))
}

/// Checks `NAME[=VALUE]` of a macro: a value that asks for the time, for a file's existence or for
/// a file in inline assembly hides that question from the scan of the sources.
pub(super) fn define(definition: &str) -> Result<(), LocalReason> {
    let value = definition.split_once('=').map_or("", |(_, value)| value);
    let facts = scan_facts(value.as_bytes());
    if facts.time_macro || facts.timestamp_macro {
        Err(LocalReason::TimeMacro(format!("-D{definition}")))
    } else if facts.assembler_include {
        Err(LocalReason::AssemblerInclude(format!("-D{definition}")))
    } else if may_name_test(value.as_bytes()) || value.contains("__has_embed") {
        Err(LocalReason::UnresolvedIncludeTest(format!("-D{definition}")))
    } else {
        Ok(())
    }
}

/// Whether the value after `=` looks like the name of a file: it has a slash, or a dot before a
/// letter (`10.9` and `armv8.2-a` are versions).
pub(super) fn names_file(flag: &str) -> bool {
    let value = flag.split_once('=').map_or("", |(_, value)| value);
    value.contains('/')
        || value.as_bytes().windows(2).any(|pair| pair[0] == b'.' && pair[1].is_ascii_alphabetic())
}

/// What an `-Xclang` word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cc1 {
    /// Understood, complete.
    Plain,
    /// Takes the next `-Xclang` as its value.
    TakesValue,
    /// Takes the next `-Xclang` as an option of LLVM.
    TakesLlvm,
}

/// What an `-Xclang` word is, or `None` when it is not understood. A word with a value of its own
/// that is not listed here shows itself by the value, which starts without a dash.
pub(super) fn cc1(option: &str) -> Option<Cc1> {
    Some(match option {
        "-mllvm" => Cc1::TakesLlvm,
        "-target-feature" | "-fdebug-compilation-dir" => Cc1::TakesValue,
        "-fcolor-diagnostics"
        | "-disable-llvm-passes"
        | "-disable-llvm-optzns"
        | "-disable-O0-optnone"
        | "-disable-lifetime-markers"
        | "-relaxed-aliasing"
        | "-opaque-pointers"
        | "-no-opaque-pointers"
        | "-discard-value-names"
        | "-fdeclspec"
        | "-fnative-half-type"
        | "-fallow-half-arguments-and-returns"
        | "-finclude-default-header"
        | "-vectorize-loops"
        | "-vectorize-slp"
        | "-fsized-deallocation"
        | "-fcoroutines-ts"
        | "-fuse-ctor-homing" => Cc1::Plain,
        _ if option.starts_with("-fno-") || option.starts_with("-fexperimental-") => Cc1::Plain,
        _ if option.starts_with("-W") && !option.contains(',') => Cc1::Plain,
        _ => return None,
    })
}

/// Whether an option of LLVM only changes the code that is made.
pub(super) fn is_plain_llvm_option(option: &str) -> bool {
    const TELLTALES: [&str; 13] = [
        "file", "load", "plugin", "dump", "view", "print", "stats", "native", "time", "dir",
        "path", "dot", "record",
    ];
    !names_file(option) && !TELLTALES.iter().any(|telltale| option.contains(telltale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assembler_lists() {
        assert_eq!(assembler("--noexecstack,-I,a,-Ib,-mbig-obj").unwrap(), ["a", "b"]);
        assert_eq!(assembler("-march=armv8.2-a,--defsym,X=1,--gdwarf-5").unwrap(), [""; 0]);
        for list in [
            "-al=x.lst",
            "-adhln",
            "--MD=x.d",
            "-MD,x.d",
            "-o,x",
            "@f",
            "-I",
            "--statistics",
            "-M",
            "",
        ] {
            assert_eq!(assembler(list), None, "{list}");
        }
    }

    #[test]
    fn preprocessor_lists() {
        assert_eq!(preprocessor("-MMD,a/.b.d"), Some(Preprocessor::DependencyFile("a/.b.d")));
        assert_eq!(preprocessor("-MT,x"), Some(Preprocessor::DependencyText));
        assert_eq!(preprocessor("-D_FORTIFY_SOURCE=2,-Ix"), Some(Preprocessor::Plain(vec!["x"])));
        for list in ["-MD", "-MD,x,-DY", "-DX,-MD,x", "-include,x", "-v", "", "-DX=__TIME__", "é"]
        {
            assert_eq!(preprocessor(list), None, "{list}");
        }
    }

    #[test]
    fn values_that_are_files() {
        assert!(names_file("-fx=a/b") && names_file("-fx=list.txt") && names_file("-fx=.x"));
        assert!(!names_file("-mmacosx-version-min=10.9") && !names_file("-march=armv8.2-a"));
        assert!(is_plain_llvm_option("-inline-threshold=3"));
        assert!(
            !is_plain_llvm_option("-info-output-file=x") && !is_plain_llvm_option("-mcpu=native")
        );
    }
}
