//! Command lines and response files: planning ends, and what travels is planned the same again.
//!
//! Arguments end with a zero byte; behind two of them come response files, each a name and a content.
#![no_main]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;

use jetcc::compiler::{self, Invocation, Verdict, allow};
use jetcc::job::{Command, Digest, Family, Node, Tree, TreePath};
use libfuzzer_sys::fuzz_target;

/// More looks at files than this and something expands without end.
const READS_MAX: usize = 1_000;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let (line, files) = text.split_once("\0\0").unwrap_or((text, ""));
    let arguments: Vec<String> = line.split('\0').map(String::from).collect();
    let files: Vec<&str> = files.split('\0').collect();
    let files: BTreeMap<String, &str> =
        files.chunks_exact(2).map(|file| (format!("/w/{}", file[0]), file[1])).collect();
    let reads = Cell::new(0);
    let read = |path: &str| {
        reads.set(reads.get() + 1);
        let found = files.get(path).map(|content| content.as_bytes().to_vec());
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    let (family, program) = match kind % 4 {
        0 => (Family::Gcc, "gcc"),
        1 => (Family::Gcc, "g++"),
        2 => (Family::Clang, "clang"),
        _ => (Family::Clang, "clang++"),
    };
    let invocation = Invocation { family, program, arguments: &arguments, directory: "/w" };
    let verdict = compiler::plan(&invocation, &read);
    assert!(reads.get() <= READS_MAX);
    let Verdict::Remote(plan) = verdict else { return };
    assert!(!plan.outputs.is_empty());
    // Nothing is left to expand, and nothing changes when it is read again.
    let again = Invocation { arguments: &plan.arguments, ..invocation };
    let nothing = |_: &str| Err(io::ErrorKind::NotFound.into());
    assert_eq!(compiler::plan(&again, &nothing), Verdict::Remote(plan.clone()));
    // The worker's own check ends too, whatever it says.
    let executable = String::from("/usr/bin/cc");
    let mut toolchain = Tree::default();
    let path = TreePath::try_from(executable.as_str()).expect("a path");
    let node = Node::File { digest: Digest::of(b""), size: 0, executable: true };
    toolchain.insert(path, node);
    let arguments = [vec![program.to_owned()], plan.arguments].concat();
    let command =
        Command { executable, arguments, environment: BTreeMap::new(), directory: "/w".into() };
    let _ = allow::check(&command, &toolchain);
});
