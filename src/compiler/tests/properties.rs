//! Properties that hold for every command line and for any bytes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::compiler::flags::{Effect, Table};
use crate::compiler::rustc::{self, allow, dep_info, mentions};
use crate::compiler::scan::{Word, scan};
use crate::compiler::{Invocation, Verdict, depfile, family_of_name, plan, scan_facts, search};
use crate::job::Family;

fn decide(family: Family, arguments: &[String], response: &str) -> Verdict {
    let invocation = Invocation { family, program: "gcc", arguments, directory: "/w" };
    plan(&invocation, &|_| Ok(response.as_bytes().to_vec()))
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Gcc), Just(Family::Clang)]
}

/// Flags as people write them, with known and unknown names and values.
fn argument() -> impl Strategy<Value = String> {
    prop_oneof![
        "-[a-zA-Z]{1,3}[a-z=/.,-]{0,8}",
        "(-c|-S|-o|-x|-MD|-MF|-I|-D|-Xclang|-mllvm|-Wa,|-Wp,|-|@f|--|c|none)",
        "[a-z/.]{0,6}\\.(c|cc|s|S|i|o|h|f90)",
        ".{0,8}",
    ]
}

/// Words of rustc's as people write them, with known and unknown names and values.
fn rust_word() -> impl Strategy<Value = String> {
    prop_oneof![
        "-(C|L|l|o|O|g|V|v|A|W|Z|vV|Vv|-|[a-zA-Z]{1,2})[a-z=/.,: -]{0,8}",
        "--(crate-name|crate-type|emit|out-dir|extern|test|target|print|codegen|[a-z-]{1,9})(=[a-z,=:/.-]{0,12})?",
        "-C ?(extra-filename|codegen-units|link-args?|lto|linker|llvm-args|split-debuginfo|[a-z_-]{1,9})(=[a-z0-9,= /.-]{0,12})?",
        "(lib|bin|cdylib|proc-macro|staticlib|link|asm|dep-info=|metadata=x|-|@f|rustc|native=x|static:+verbatim=x)",
        "[a-z/.]{0,6}\\.(rs|json|rlib|rmeta|so)",
        ".{0,8}",
    ]
}

fn decide_crate(arguments: &[String], file: &str) -> Verdict {
    rustc::plan(arguments, "/w", &|_| Ok(file.as_bytes().to_vec()))
}

proptest! {
    #[test]
    fn no_command_line_panics(
        family in family(),
        arguments in prop::collection::vec(argument(), 0..12),
        response in ".{0,40}",
    ) {
        let _ = decide(family, &arguments, &response);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[ -~\n\\\\:#$]{0,80}") {
        for bytes in [&bytes[..], text.as_bytes()] {
            let _ = depfile::parse(bytes, 10);
            let _ = search::parse_search_dirs(bytes);
            let _ = scan_facts(bytes);
            let _ = family_of_name(&String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_flag_of_unknown_arity_never_travels(family in family(), name in "(qz|yy|kk|-zz)[a-z]{0,6}") {
        let arguments = [words("-c a.c -O2"), vec![format!("-{name}")]].concat();
        prop_assert!(matches!(decide(family, &arguments, ""), Verdict::Local(_)));
    }

    #[test]
    fn a_remote_plan_names_its_source_and_writes_something(
        family in family(),
        arguments in prop::collection::vec(argument(), 0..8),
    ) {
        let arguments = [words("-c a.c"), arguments].concat();
        if let Verdict::Remote(plan) = decide(family, &arguments, "") {
            prop_assert!(plan.arguments.contains(&plan.source));
            prop_assert!(!plan.outputs.is_empty());
            prop_assert!(plan.arguments.iter().all(|argument| !argument.starts_with('@')));
            if let Some(pass) = &plan.dependency {
                prop_assert!(pass.contains(&plan.source));
                // As a flag; a folder of that name may well be searched.
                let words = scan(Table::of(family), pass).unwrap();
                let compiles = |word: &Word<'_>| {
                    word.flag.is_some_and(|flag| flag.effect == Effect::Object)
                };
                prop_assert!(!words.iter().any(compiles));
            }
        }
    }

    #[test]
    fn joined_and_separate_spellings_agree(
        family in family(),
        flag in "-(I|isystem|iquote|idirafter|isysroot|include|imacros|o|D|U)",
        value in "[a-z][a-z/]{0,8}[a-z]",
    ) {
        let separate = decide(family, &words(&format!("-c a.c {flag} {value}")), "");
        let joined = decide(family, &words(&format!("-c a.c {flag}{value}")), "");
        let (Verdict::Remote(separate), Verdict::Remote(joined)) = (separate, joined) else {
            // `-include` + `-pch…` and the like are flags of their own.
            return Ok(());
        };
        prop_assert_eq!(separate.outputs, joined.outputs);
        prop_assert_eq!(separate.directories, joined.directories);
    }

    #[test]
    fn a_response_file_equals_its_words(
        family in family(),
        arguments in prop::collection::vec("-?[a-zA-Z]{1,4}[a-z/.=]{0,5}", 1..8),
    ) {
        let written = [words("-c a.c"), arguments.clone()].concat();
        let from_file = [words("-c a.c"), words("@f")].concat();
        prop_assert_eq!(
            decide(family, &written, ""),
            decide(family, &from_file, &arguments.join("\n"))
        );
    }

    #[test]
    fn no_command_line_of_rustc_panics(
        arguments in prop::collection::vec(rust_word(), 0..12),
        file in ".{0,40}",
    ) {
        let _ = decide_crate(&arguments, &file);
        let _ = allow::check(arguments.iter().map(String::as_str));
    }

    #[test]
    fn a_crate_that_travels_is_planned_the_same_again(
        arguments in prop::collection::vec(rust_word(), 0..6),
        file in "([a-z=./@-]{0,12}\n?){0,4}",
    ) {
        let base = words("--crate-name a --crate-type lib --emit=dep-info,link lib.rs");
        let arguments = [base, arguments].concat();
        if let Verdict::Remote(plan) = decide_crate(&arguments, &file) {
            let paths: BTreeSet<&String> = plan.outputs.iter().map(|output| &output.path).collect();
            prop_assert!(!paths.is_empty() && paths.len() == plan.outputs.len());
            let krate = plan.krate.clone().unwrap();
            prop_assert!(krate.dep_info.is_some_and(|told| paths.contains(&told)));
            prop_assert_eq!(decide_crate(&plan.arguments, "--unread"), Verdict::Remote(plan));
        }
    }

    #[test]
    fn spellings_of_rustcs_flags_agree(
        flag in "-(C|L|l|A|W|D|F)",
        value in "(opt-level=[0-3]|lto|metadata=a|[a-z]{1,8}(=[a-z/]{1,6})?)",
    ) {
        let base = words("--crate-name a --crate-type bin --emit=dep-info,link main.rs");
        let separate = decide_crate(&[&base[..], &[flag.clone(), value.clone()]].concat(), "");
        let joined = decide_crate(&[&base[..], &[format!("{flag}{value}")]].concat(), "");
        match (separate, joined) {
            (Verdict::Remote(separate), Verdict::Remote(joined)) => {
                prop_assert_eq!(separate.krate, joined.krate);
                prop_assert_eq!(separate.outputs, joined.outputs);
            }
            (separate, joined) => prop_assert_eq!(separate, joined),
        }
    }

    #[test]
    fn no_bytes_of_rustcs_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        text in "(# env-dep:|[ -~]{0,12}|\\\\|: |\n|=|-[0-9a-f]{14,18}){0,20}",
    ) {
        for bytes in [&bytes[..], text.as_bytes()] {
            let _ = dep_info::parse(bytes);
            for magic in [&b""[..], b"rust\0\0\0", b"!<arch>\n", b"\x7fELFrust_metadata_"] {
                let bytes = [magic, bytes].concat();
                let found = |length| {
                    let mut scan = mentions::Scan::default();
                    bytes.chunks(length).for_each(|piece| scan.take(piece));
                    scan.end()
                };
                prop_assert_eq!(found(7), found(bytes.len().max(1)));
            }
        }
    }
}
