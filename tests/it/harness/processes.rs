//! The processes of this machine, as `/proc` shows them: who compiles what, and who is left over.

use std::collections::HashSet;
use std::fs;

/// A process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) id: u32,
    parent: u32,
    /// Its command line, words separated by spaces; empty for one that has ended.
    pub(crate) words: String,
}

/// All processes that are not threads of the kernel.
pub(crate) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Processes whose command line or environment names `text`.
pub(crate) fn naming(text: &str) -> Vec<Process> {
    let mut found = all();
    found.retain(|process| {
        let environment = fs::read(format!("/proc/{}/environ", process.id)).unwrap_or_default();
        process.words.contains(text) || String::from_utf8_lossy(&environment).contains(text)
    });
    found
}

/// The compiler proper (`cc1`, `cc1plus`) that a child of `ancestor` runs for `source`, its
/// dependency pass excepted.
pub(crate) fn compiling(ancestor: u32, source: &str) -> Option<Process> {
    descendants(ancestor).into_iter().find(|process| {
        let mut words = process.words.split(' ');
        let program = words.next().unwrap_or_default();
        let compiler = ["/cc1", "/cc1plus"].iter().any(|name| program.ends_with(name));
        compiler && !words.clone().any(|word| word == "-E") && words.any(|w| w.ends_with(source))
    })
}

fn descendants(ancestor: u32) -> Vec<Process> {
    let mut found = Vec::new();
    let mut family = HashSet::from([ancestor]);
    let mut others = all();
    loop {
        let (children, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|process| family.contains(&process.parent));
        if children.is_empty() {
            return found;
        }
        family.extend(children.iter().map(|child| child.id));
        found.extend(children);
        others = rest;
    }
}

/// `None` when it has ended meanwhile.
fn read(id: u32) -> Option<Process> {
    let words = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold anything; state and parent follow it.
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    let words = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
    Some(Process { id, parent, words })
}
