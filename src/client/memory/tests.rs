//! Lists on real files: what changes, and what a daemon that starts again still knows.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::super::inputs::{About, Extent, Inputs};
use super::{Lookout, Memory};
use crate::compiler::scan_facts;
use crate::job::reads::PathList;
use crate::job::{Digest, TreePath};
use crate::store::stamps::{FileIndex, now_ns};
use crate::store::walk::TreeBuilder;

/// A source that includes `x.h`, which is looked for in `first` and found in `second`.
struct Command {
    folder: TempDir,
    root: PathBuf,
    memory: Memory,
}

const FILES: [(&str, &str); 3] = [("a.c", "x"), ("second/x.h", "1"), ("first/other", "")];

impl Command {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let command = Self { memory: memory(&root), folder, root };
        for (name, text) in FILES {
            command.write(name, text);
        }
        command
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.root.join("p").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.root.join("p").join(name)).unwrap();
    }

    /// Finds the inputs as they are and remembers them.
    fn remember(&self) -> Digest {
        let index = FileIndex::new(100, scan_facts);
        let mut builder = TreeBuilder::new(&index);
        let place = |name: &str| self.root.join("p").join(name);
        for name in ["a.c", "second/x.h"] {
            builder.add(place(name).to_str().unwrap()).unwrap();
        }
        builder.watch(&place("absent.h"));
        let built = builder.finish();
        let always =
            PathList::new([TreePath::try_from(place("a.c").to_str().unwrap()).unwrap()].into());
        let about =
            About { command: KEY, main: None, always: always.unwrap(), extent: Extent::Larger };
        let inputs = Arc::new(Inputs::of_tree(about, &built.tree, built.seen));
        let lookout = Lookout {
            began_ns: now_ns(),
            files: HashSet::from([place("a.c"), place("second/x.h")]),
            folders: BTreeSet::from([place("first"), place("second"), place(".")]),
            names: BTreeSet::from(["x.h".into()]),
        };
        self.memory.remember(&inputs, &lookout);
        inputs.digest
    }

    fn recall(&self) -> Option<Digest> {
        let inputs = self.memory.recall(&KEY)?;
        // What is recalled is also what is looked at after the compile.
        assert_eq!(crate::store::walk::changed(&inputs.seen), None);
        assert_eq!(inputs.tree().unwrap().digest(), inputs.digest);
        Some(inputs.digest)
    }

    /// The same project for a daemon that has just started.
    fn restarted(mut self) -> Self {
        self.memory.keep();
        self.memory = memory(&self.root);
        self
    }

    fn kept_file(&self) -> PathBuf {
        let mut files = std::fs::read_dir(self.folder.path().join("kept")).unwrap().flatten();
        files.next().unwrap().path()
    }
}

const KEY: Digest = Digest::from_bytes([7; 32]);

fn memory(root: &Path) -> Memory {
    Memory::new(root.join("kept"), FileIndex::new(100, scan_facts))
}

/// Does `change` with a running and with a restarted daemon; tells whether the list held.
fn holds_after(change: impl Fn(&Command)) -> bool {
    let found = [false, true].map(|restart| {
        let mut command = Command::new();
        let digest = command.remember();
        if restart {
            command = command.restarted();
        }
        change(&command);
        let recalled = command.recall();
        assert!(recalled.is_none_or(|recalled| recalled == digest));
        recalled.is_some()
    });
    assert_eq!(found[0], found[1], "a restart makes a difference");
    found[0]
}

#[test]
fn what_does_not_matter_is_passed_over() {
    assert!(holds_after(|_| {}));
    assert!(holds_after(|command| command.write("first/a.o", "")));
    // Another stamp and the same content: touched, or written again as it was.
    assert!(holds_after(|command| command.write("second/x.h", "1")));
    assert!(holds_after(|command| {
        command.remove("second/x.h");
        command.write("second/new", "");
        command.write("second/x.h", "1");
    }));
}

#[test]
fn what_matters_is_noticed() {
    assert!(!holds_after(|command| command.write("second/x.h", "2")));
    assert!(!holds_after(|command| command.write("a.c", "y")));
    assert!(!holds_after(|command| command.remove("second/x.h")));
    assert!(!holds_after(|command| command.write("first/x.h", "1")), "it is found earlier");
    assert!(!holds_after(|command| command.write("x.h", "1")), "it is found beside the source");
    assert!(!holds_after(|command| command.write("absent.h", "")));
}

#[test]
fn a_folder_that_became_a_link_leads_elsewhere() {
    assert!(!holds_after(|command| {
        let place = |name: &str| command.root.join(name);
        std::fs::create_dir(place("q")).unwrap();
        std::fs::rename(place("p/second"), place("q/second")).unwrap();
        symlink(place("q/second"), place("p/second")).unwrap();
    }));
}

#[test]
fn branches_are_remembered_beside_each_other() {
    let mut command = Command::new();
    let mut digests = Vec::new();
    for text in ["1", "2", "3"] {
        command.write("second/x.h", text);
        digests.push(command.remember());
    }
    for restart in [false, true] {
        if restart {
            command = command.restarted();
        }
        for (text, digest) in ["1", "3", "2", "1"].into_iter().zip([0, 2, 1, 0]) {
            command.write("second/x.h", text);
            assert_eq!(command.recall(), Some(digests[digest]), "{text}");
        }
    }
    for number in 4..=10 {
        command.write("second/x.h", &number.to_string());
        command.remember();
    }
    command.write("second/x.h", "1");
    assert_eq!(command.recall(), None, "the oldest list makes room");
}

#[test]
fn a_damaged_file_is_ignored() {
    let command = Command::new();
    command.remember();
    let mut command = command.restarted();
    let whole = std::fs::read(command.kept_file()).unwrap();
    for at in [0, 20, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(command.kept_file(), damaged).unwrap();
        command = command.restarted();
        assert_eq!(command.recall(), None);
    }
    std::fs::write(command.kept_file(), whole).unwrap();
    assert!(command.restarted().recall().is_some());
}

#[test]
fn a_file_that_was_not_read_may_change() {
    let mut command = Command::new();
    let whole = command.remember();
    let inputs = command.memory.recall(&KEY).unwrap();
    let list = |names: &[&str]| {
        let path = |name: &&str| {
            TreePath::try_from(command.root.join("p").join(name).to_str().unwrap()).unwrap()
        };
        PathList::new(names.iter().map(path).collect()).unwrap()
    };
    for unbelievable in ["never.h", "second"] {
        command.memory.learn(&inputs, &list(&["a.c", unbelievable]));
        assert_eq!(command.recall(), Some(whole));
    }
    command.memory.learn(&inputs, &list(&["a.c", "second/x.h"]));
    assert_eq!(command.recall(), Some(whole));
    // That the source was read is known without being told.
    command.memory.learn(&inputs, &list(&[]));
    let precise = command.recall().unwrap();
    assert_eq!(command.memory.recall(&KEY).unwrap().extent, Extent::Exact);
    assert_ne!(precise, whole);
    for restart in [false, true] {
        command.write("second/x.h", if restart { "2" } else { "3" });
        if restart {
            command = command.restarted();
        }
        assert_eq!(command.recall(), Some(precise));
    }
    command.write("first/x.h", "");
    assert_eq!(command.recall(), None, "another file may be read now");
}
