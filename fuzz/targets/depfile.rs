//! Make rules of dependency passes: the names that are read, written down as gcc would, are read again.
#![no_main]

use jetcc::compiler::depfile::parse;
use libfuzzer_sys::fuzz_target;

const NAMES_MAX: usize = 100;

fuzz_target!(|data: &[u8]| {
    let Ok(names) = parse(data, NAMES_MAX) else { return };
    assert!(names.len() <= NAMES_MAX);
    let mut unique = names.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
    // gcc has no way to write these down.
    let odd = |name: &String| name.contains(['\\', ':', '\r', '\n']) || name.is_empty();
    if names.iter().any(odd) {
        return;
    }
    let quoted = names.iter().map(|name| {
        let name = name.replace('$', "$$").replace('#', "\\#");
        name.replace(' ', "\\ ").replace('\t', "\\\t")
    });
    let rule = format!("x.o: {}\n", quoted.collect::<Vec<_>>().join(" \\\n "));
    assert_eq!(parse(rule.as_bytes(), NAMES_MAX).expect("gcc's own words"), names);
});
