//! Command lines of rustc and what it writes: planning ends, what travels is planned the same again,
//! and what is read off the compiler's files is as large as they are.
//!
//! The first byte says what the rest is: arguments that end with a zero byte, and behind two of them
//! a file of more arguments; a list of dependencies; or a compiled crate.
#![no_main]

use std::cell::Cell;
use std::io;

use jetcc::compiler::Verdict;
use jetcc::compiler::rustc::{self, allow, dep_info, mentions};
use libfuzzer_sys::fuzz_target;

/// An extra part has so many bytes, with its hyphen.
const EXTRA_BYTES: usize = 17;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 3 {
        0 => command(rest),
        1 => dependencies(rest),
        _ => {
            let in_pieces = |length| {
                let mut scan = mentions::Scan::default();
                rest.chunks(length).for_each(|piece| scan.take(piece));
                scan.end()
            };
            let found = in_pieces(rest.len().max(1));
            assert_eq!(in_pieces(usize::from(*kind).max(1)), found);
            assert!(found.is_none_or(|found| found.len() <= rest.len() / EXTRA_BYTES));
        }
    }
});

fn command(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (line, file) = text.split_once("\0\0").unwrap_or((text, ""));
    let arguments: Vec<String> = line.split('\0').map(String::from).collect();
    let reads = Cell::new(0);
    let read = |path: &str| {
        assert!(path.starts_with('/'));
        reads.set(reads.get() + 1);
        Ok(file.as_bytes().to_vec())
    };
    let verdict = rustc::plan(&arguments, "/w", &read);
    // A file names no other.
    assert!(reads.get() <= arguments.len());
    // The worker's own check ends, whatever it says.
    let _ = allow::check(arguments.iter().map(String::as_str));
    let Verdict::Remote(plan) = verdict else { return };
    let krate = plan.krate.as_ref().expect("a crate");
    let told = krate.dep_info.as_ref().expect("a list of dependencies");
    assert!(plan.outputs.iter().any(|output| output.required && output.path == *told));
    for (at, output) in plan.outputs.iter().enumerate() {
        assert!(!plan.outputs[..at].contains(output), "`{}` twice", output.path);
    }
    // Nothing is left to expand, and nothing changes when it is read again.
    let nothing = |_: &str| Err(io::ErrorKind::NotFound.into());
    assert_eq!(rustc::plan(&plan.arguments, "/w", &nothing), Verdict::Remote(plan.clone()));
}

fn dependencies(bytes: &[u8]) {
    let Some(told) = dep_info::parse(bytes) else { return };
    let names: usize = told.files.iter().map(String::len).sum();
    assert!(names <= bytes.len());
    // Written down as rustc does, they are read again.
    let odd = |name: &String| name.ends_with('\\') || name.contains("\\ ") || name.contains('\r');
    if told.files.iter().any(odd) {
        return;
    }
    let quoted: Vec<String> = told.files.iter().map(|name| name.replace(' ', "\\ ")).collect();
    let mut text = format!("x.d: {}\n\n", quoted.join(" "));
    let escaped =
        |text: &str| text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    for (name, value) in &told.variables {
        text.push_str("# env-dep:");
        text.push_str(&escaped(name));
        if let Some(value) = value {
            text.push('=');
            text.push_str(&escaped(value));
        }
        text.push('\n');
    }
    assert_eq!(dep_info::parse(text.as_bytes()), Some(told));
}
