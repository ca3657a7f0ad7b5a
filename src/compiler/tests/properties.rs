//! Properties that hold for every command line and for any bytes.

use proptest::prelude::*;

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
                prop_assert!(!pass.iter().any(|argument| argument == "-c" && plan.source != "-c"));
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
}
