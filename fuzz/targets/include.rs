//! Include directives: limits, and no text before or behind a directive hides it.
#![no_main]

use jetcc::compiler::includes::{Header, Includes};
use jetcc::compiler::scan_facts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let found = scan_facts(data).includes;
    check_limits(&found);
    let more = scan_facts(&[data, b"\n\n#include <wanted.h>\n"].concat()).includes;
    assert!(more.unresolved || found.headers.iter().all(|it| more.headers.contains(it)));
    // Between `#` and its word a comment may take in what follows; there it is a comment.
    let has_comment = data.windows(2).any(|pair| pair == b"/*");
    let wanted = Header { name: "wanted.h".into(), quoted: false };
    let is_found = more.headers.iter().any(|it| it.header == wanted && !it.next);
    assert!(has_comment || more.unresolved || is_found);
    let first = scan_facts(&[b"#include <wanted.h>\n", data].concat()).includes;
    assert!(first.headers.first().is_some_and(|it| it.header == wanted));
});

fn check_limits(found: &Includes) {
    let names = found.headers.len().max(found.macros.len()).max(found.definitions.len());
    assert!(names <= 10_000 && found.other_definitions.len() <= 200_000);
    assert!(found.headers.iter().all(|it| (1..=1_024).contains(&it.header.name.len())));
    assert!(found.macros.iter().all(|it| (1..=1_024).contains(&it.name.len())));
    assert!(found.other_definitions.is_sorted());
}
