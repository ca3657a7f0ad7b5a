//! Lists on real files: what changes, and what a daemon that starts again still knows.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::super::inputs::{About, Extent, Inputs, Rules};
use super::{Lookout, Memory};
use crate::compiler::{FileFacts, scan_facts};
use crate::job::reads::PathList;
use crate::job::{Digest, TreePath};
use crate::store::stamps::{FileIndex, now_ns};
use crate::store::walk::TreeBuilder;

/// A source that includes `x.h`, which is looked for in `first` and found in `second`.
struct Command {
    folder: TempDir,
    root: PathBuf,
    index: FileIndex<FileFacts>,
    memory: Memory,
}

const FILES: [(&str, &str); 3] = [("a.c", "x"), ("second/x.h", "1"), ("first/other", "")];

impl Command {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let index = FileIndex::new(100, scan_facts);
        let command = Self { memory: memory(&root, &index), index, folder, root };
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
        let (inputs, lookout) = self.find();
        self.memory.remember(&inputs, lookout);
        inputs.digest
    }

    fn find(&self) -> (Arc<Inputs>, Lookout) {
        let mut builder = TreeBuilder::new(&self.index);
        let place = |name: &str| self.root.join("p").join(name);
        for name in ["a.c", "second/x.h"] {
            builder.add(place(name).to_str().unwrap()).unwrap();
        }
        builder.watch(&place("absent.h"));
        let built = builder.finish();
        let always =
            PathList::new([TreePath::try_from(place("a.c").to_str().unwrap()).unwrap()].into());
        let (always, rules) = (always.unwrap(), Some(Rules::default()));
        let about = About { command: KEY, main: None, always, extent: Extent::Larger, rules };
        let inputs = Arc::new(Inputs::of_tree(about, &Arc::new(built.tree), built.seen));
        let lookout = Lookout {
            began_ns: now_ns(),
            files: ["a.c", "second/x.h"].map(|name| place(name).to_str().unwrap().into()).into(),
            absent: Vec::new(),
            folders: BTreeSet::from([place("first"), place("second"), place(".")]),
            names: BTreeSet::from(["x.h".into()]),
        };
        (inputs, lookout)
    }

    fn recall(&self) -> Option<Digest> {
        let inputs = self.memory.recall(&KEY)?;
        // What is recalled is also what is looked at after the compile.
        assert_eq!(crate::store::walk::changed(&inputs.seen), None);
        assert_eq!(inputs.tree.open().unwrap().digest(), inputs.digest);
        Some(inputs.digest)
    }

    /// The same project for a daemon that has just started.
    fn restarted(mut self) -> Self {
        self.memory.keep();
        self.memory = memory(&self.root, &self.index);
        self
    }

    fn kept_file(&self) -> PathBuf {
        let mut files = std::fs::read_dir(self.folder.path().join("kept")).unwrap().flatten();
        files.next().unwrap().path()
    }
}

const KEY: Digest = Digest::from_bytes([7; 32]);

/// The memory of a daemon that starts with the index of an earlier one.
fn memory(root: &Path, index: &FileIndex<FileFacts>) -> Memory {
    Memory::new(root.join("kept"), index.clone())
}

/// What became of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Held,
    /// It has other contents, and those are what is there.
    Edited,
    Gone,
}

/// Does `change` with a running and with a restarted daemon.
fn fate_after(change: impl Fn(&Command)) -> Fate {
    let found = [false, true].map(|restart| {
        let mut command = Command::new();
        let digest = command.remember();
        if restart {
            command = command.restarted();
        }
        change(&command);
        match command.recall() {
            None => Fate::Gone,
            Some(recalled) if recalled == digest => Fate::Held,
            Some(recalled) => {
                assert_eq!(recalled, command.remember());
                Fate::Edited
            }
        }
    });
    assert_eq!(found[0], found[1], "a restart makes a difference");
    found[0]
}

fn holds_after(change: impl Fn(&Command)) -> bool {
    match fate_after(change) {
        Fate::Held => true,
        Fate::Gone => false,
        Fate::Edited => panic!("edited"),
    }
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
    assert!(!holds_after(|command| command.remove("second/x.h")));
    assert!(!holds_after(|command| command.write("first/x.h", "1")), "it is found earlier");
    assert!(!holds_after(|command| command.write("x.h", "1")), "it is found beside the source");
    assert!(!holds_after(|command| command.write("absent.h", "")));
}

#[test]
fn an_edit_that_includes_the_same_changes_the_content_alone() {
    for text in ["2", "y;\nint z;", "/* #include */", "#if 1\n#endif\n#undef A\n"] {
        assert_eq!(fate_after(|command| command.write("second/x.h", text)), Fate::Edited, "{text}");
    }
    assert_eq!(fate_after(|command| command.write("a.c", "y")), Fate::Edited);
    let both = |command: &Command| {
        command.write("a.c", "y");
        command.write("second/x.h", "z");
    };
    assert_eq!(fate_after(both), Fate::Edited);
}

#[test]
fn an_edit_that_may_include_something_else_is_noticed() {
    for text in [
        "#include <x.h>",
        "// \n#include \"y.h\" // \n",
        "#define A",
        "#if __has_include(<y.h>)",
        "__TIME__",
        "#pragma once",
        "#include A",
        "asm(\".incbin \\\"x\\\"\");",
    ] {
        assert!(!holds_after(|command| command.write("second/x.h", text)), "{text}");
        assert!(!holds_after(|command| command.write("a.c", text)), "{text}");
    }
    assert!(!holds_after(|command| command.write("a.c", "1")), "the header has that content");
    let both = |command: &Command| {
        command.write("a.c", "y");
        command.write("second/x.h", "y");
    };
    assert!(!holds_after(both), "two files of one content");
    let executable = |command: &Command| {
        command.write("a.c", "y");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(command.root.join("p/a.c"), mode).unwrap();
    };
    assert!(!holds_after(executable));
}

#[test]
fn edits_are_believed_together_or_not_at_all() {
    let command = Command::new();
    let first = command.remember();
    command.write("a.c", "y");
    command.write("second/x.h", "#define A");
    assert_eq!(command.recall(), None);
    command.write("second/x.h", "1");
    let edited = command.recall().unwrap();
    assert_ne!(edited, first);
    command.write("first/x.h", "");
    command.write("a.c", "z");
    assert_eq!(command.recall(), None, "another header is found");
    std::fs::remove_file(command.root.join("p/first/x.h")).unwrap();
    let other = command.recall().unwrap();
    assert!(other != edited && other != first);
    command.write("a.c", "x");
    assert_eq!(command.recall(), Some(first));
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
fn a_folder_that_appears_while_inputs_are_found_may_hold_others() {
    for (absent, is_believed) in [(vec!["first/sub"], false), (vec!["second/sub"], true)] {
        let command = Command::new();
        let (inputs, mut lookout) = command.find();
        lookout.names.insert("sub".into());
        let place = |name| command.root.join("p").join(name).to_str().unwrap().to_owned();
        lookout.absent = absent.into_iter().map(place).collect();
        command.write("first/sub/x.h", "");
        command.memory.remember(&inputs, lookout);
        assert_eq!(command.recall().is_some(), is_believed);
    }
}

#[test]
fn branches_are_remembered_beside_each_other() {
    let mut command = Command::new();
    let mut digests = Vec::new();
    let texts = ["#define A1", "#define A2", "#define A3"];
    for text in texts {
        command.write("second/x.h", text);
        digests.push(command.remember());
    }
    for restart in [false, true] {
        if restart {
            command = command.restarted();
        }
        for (text, digest) in texts.into_iter().zip(digests.clone()).rev() {
            command.write("second/x.h", text);
            assert_eq!(command.recall(), Some(digest), "{text}");
        }
    }
    for number in 4..=10 {
        command.write("second/x.h", &format!("#define A{number}"));
        command.remember();
    }
    command.write("second/x.h", texts[0]);
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
