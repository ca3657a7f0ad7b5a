//! Sources and headers: one pass finds within its limits what a compile may depend on.
#![no_main]

use jetcc::compiler::scan_facts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let facts = scan_facts(data);
    assert!(facts.has_include.len() <= 1_000 && facts.line_files.len() <= 10_000);
    assert!(facts.has_include.iter().all(|test| test.name.len() <= 1_024));
    assert!(facts.line_files.iter().all(|name| name.len() <= 4_096));
    assert!(facts.line_files.is_sorted());
    assert_eq!(scan_facts(data), facts);
    // A name is seen at the end of any text, and hides nothing that stands before it. An empty line
    // is between them: a backslash at the text's end would join the next line to it.
    let more = scan_facts(&[data, b"\n\n__TIME__ __TIMESTAMP__\n"].concat());
    assert!(more.time_macro && more.timestamp_macro);
    assert!(more.embed == facts.embed && more.assembler_include == facts.assembler_include);
});
