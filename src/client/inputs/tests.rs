//! The compiler as the judge of the scan: whatever it lists, the scan lists too.

mod learned;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::{Finder, Found, Mode, Reader, Way, discover};
use crate::client::memory::Memory;
use crate::client::scan::{Doubt, Scanner};
use crate::compiler::{self, FileFacts, Invocation, Verdict, scan_facts};
use crate::job::{Digest, Family, Kind, LocalReason};
use crate::store::stamps::FileIndex;
use crate::toolchain::resolve::{Equipment, Resolved};

/// What a daemon keeps between compiles.
struct Desk {
    folder: TempDir,
    index: FileIndex<FileFacts>,
    passes: Semaphore,
    scanner: Arc<Scanner>,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scanner = Arc::new(Scanner::new(folder.path().join("searches")));
        let (index, passes) = (FileIndex::new(10_000, scan_facts), Semaphore::new(2));
        Self { folder, index, passes, scanner }
    }

    /// Finds the inputs as if the command had never been seen.
    async fn find(&self, reader: &Reader, way: Way) -> Result<Found, LocalReason> {
        let Self { index, passes, scanner, .. } = self;
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(folder.path().join("inputs"), index.clone());
        let finder = Finder { memory: &memory, index, passes, scanner: Some(scanner) };
        discover(reader.clone(), &finder, way).await
    }

    /// As [`Desk::find`], and the flags are known.
    async fn scan(&self, reader: &Reader) -> Found {
        let found = self.find(reader, Way::Any).await.unwrap();
        match found.doubt {
            Some(Doubt::NewFlags) => self.find(reader, Way::Any).await.unwrap(),
            _ => found,
        }
    }

    /// Whether the command was scanned, and all that the compiler lists was found; else the doubt.
    async fn judge(&self, reader: &Reader) -> Option<Doubt> {
        let scanned = self.scan(reader).await;
        if let Some(doubt) = scanned.doubt {
            return Some(doubt);
        }
        assert_eq!(scanned.mode, Mode::Scanned);
        let exact = self.find(reader, Way::Exact).await.unwrap();
        assert_eq!(exact.mode, Mode::Exact);
        let listed = |found: &Found| -> BTreeSet<PathBuf> {
            let there = found.inputs.seen.iter().filter(|seen| seen.stamp.is_some());
            there.map(|seen| seen.path.clone()).collect()
        };
        let missing = &listed(&exact) - &listed(&scanned);
        assert!(missing.is_empty(), "{}: {missing:?}", reader.plan.source);
        None
    }
}

fn reader(directory: &Path, program: &str, arguments: &[String]) -> Reader {
    let family = if program.starts_with("clang") { Family::Clang } else { Family::Gcc };
    let directory = directory.canonicalize().unwrap().to_str().unwrap().to_owned();
    let invocation = Invocation { family, program, arguments, directory: &directory };
    let Verdict::Remote(plan) = compiler::plan(&invocation, &|path| std::fs::read(path)) else {
        panic!("{program} {arguments:?} does not travel");
    };
    let executable = PathBuf::from(format!("/usr/bin/{program}"));
    Reader {
        compiler: Resolved {
            real: executable.clone(),
            executable,
            argv0: program.into(),
            kind: Kind::C(family),
            search_path: "/usr/bin:/bin".into(),
            equipment: Equipment::default(),
        },
        family,
        plan: Arc::new(*plan),
        logical_directory: directory.clone(),
        directory,
        toolchain: Digest::of(program.as_bytes()),
        travelling: BTreeMap::new(),
        environment: BTreeMap::from([("PATH".into(), OsString::from("/usr/bin:/bin"))]),
        epoch: false,
    }
}

/// What `scripts/fetch-projects` lays out.
const PROJECTS: [&str; 6] = ["zlib", "lua", "zstd", "leveldb", "freetype", "mbedtls"];

fn commands(folder: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read(folder.join("compile_commands.json")).unwrap_or_else(|error| {
        panic!("{}: {error}\nhint: run scripts/fetch-projects build/projects", folder.display())
    });
    let commands: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let words = |command: &serde_json::Value| -> Vec<String> {
        let mut words: Vec<_> = serde_json::from_value(command["arguments"].clone()).unwrap();
        // The object's folder need not be there.
        words.truncate(words.len() - 2);
        words
    };
    commands.as_array().unwrap().iter().map(words).collect()
}

/// Judges every source of every project; says how many were scanned, and the doubts.
async fn judge_projects(compilers: [&str; 2]) {
    let desk = Desk::new();
    for name in PROJECTS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/projects").join(name);
        let commands = commands(&folder);
        let (mut scanned, mut doubts) = (0, BTreeMap::<&str, usize>::new());
        for command in &commands {
            let program = compilers[usize::from(command[0] == "c++")];
            match desk.judge(&reader(&folder, program, &command[1..])).await {
                None => scanned += 1,
                Some(doubt) => *doubts.entry(doubt.name()).or_default() += 1,
            }
        }
        println!("{program} {name}: {scanned} scanned, {doubts:?}", program = compilers[0]);
        assert!(scanned * 10 >= commands.len() * 9, "{name}: {doubts:?}");
    }
}

#[tokio::test]
async fn the_scan_finds_what_gcc_lists_in_real_projects() {
    judge_projects(["gcc", "g++"]).await;
}

#[tokio::test]
async fn the_scan_finds_what_clang_lists_in_real_projects() {
    judge_projects(["clang", "clang++"]).await;
}

/// A folder with these files, and what the scan says of its `a.c`.
async fn scanned(files: &[(&str, &str)], arguments: &str) -> Result<BTreeSet<String>, Doubt> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let root = folder.path().canonicalize().unwrap();
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    let mut names = BTreeSet::new();
    for compiler in ["gcc", "clang"] {
        let desk = Desk::new();
        let reader = reader(&root, compiler, &arguments);
        if let Some(doubt) = desk.judge(&reader).await {
            return Err(doubt);
        }
        let found = desk.scan(&reader).await;
        let seen = found.inputs.seen.iter().filter(|seen| seen.stamp.is_some());
        let own =
            seen.filter_map(|seen| Some(seen.path.strip_prefix(&root).ok()?.to_str()?.into()));
        names.extend(own);
    }
    Ok(names)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn the_first_of_several_folders_is_read_and_every_next_one() {
    let files = [
        ("a.c", "#include \"x.h\"\n#include <y.h>\n"),
        ("q/x.h", "// x\n"),
        ("i/x.h", "// no\n"),
        ("i/y.h", "#include_next <y.h>\n"),
        ("j/y.h", "#include \"sub/../z.h\"\n"),
        ("s/y.h", "// never reached, but it might be\n"),
        ("j/sub/none", ""),
        ("j/z.h", "#ifndef Z\n#define Z\n#include \"z.h\"\n#endif\n"),
        ("forced.h", "#if 0\n#include \"not/there.h\"\n#include \"q/w.h\"\n#endif\n"),
        ("q/w.h", "// w\n"),
    ];
    let found = scanned(&files, "-c a.c -iquote q -Ii -Ij -isystem s -include forced.h").await;
    let wanted = ["a.c", "forced.h", "i/y.h", "j/y.h", "j/z.h", "q/w.h", "q/x.h", "s/y.h"];
    assert_eq!(found.unwrap(), set(&wanted));
}

#[tokio::test]
async fn macros_name_every_header_that_they_may_stand_for() {
    let files = [
        (
            "a.c",
            "#include \"names.h\"\n#include A_H\n#ifdef U_H\n#include U_H\n#endif\n#include D_H\n",
        ),
        ("names.h", "#ifdef X\n#define A_H <x.h>\n#else\n#define A_H \"y.h\"\n#endif\n"),
        ("x.h", "\n"),
        ("y.h", "// y\n#define B_H \"z.h\"\n#include B_H\n"),
        ("z.h", "// z\n"),
        ("d.h", "// d\n"),
    ];
    let found = scanned(&files, "-c a.c -I. -DD_H=<d.h>").await;
    assert_eq!(found.unwrap(), set(&["a.c", "d.h", "names.h", "x.h", "y.h", "z.h"]));
    for source in [
        "#define STR(x) #x\n#define A_H STR(d.h)\n#include A_H\n",
        "#define NAME() \"d.h\"\n#include NAME()\n",
        "#define A_H __FILE__\n#ifndef A\n#define A\n#include A_H\n#endif\n",
        "#ifndef A\n#define A\n#include __FILE__\n#endif\n",
    ] {
        let files = [("a.c", source), ("d.h", "\n")];
        assert_eq!(scanned(&files, "-c a.c").await, Err(Doubt::Macro), "{source}");
    }
}

#[tokio::test]
async fn what_cannot_leave_is_left_to_the_compiler() {
    let files = [("a.c", "#if 0\n#include \"t.h\"\n#endif\n"), ("t.h", "char t[] = __TIME__;\n")];
    let refused = scanned(&files, "-c a.c").await.unwrap_err();
    assert!(matches!(refused, Doubt::Refused(LocalReason::TimeMacro(_))), "{refused:?}");
    let trigraph = [("a.c", "?\u{3f}=include \"t.h\"\n"), ("t.h", "\n")];
    assert_eq!(scanned(&trigraph, "-c a.c -trigraphs").await, Err(Doubt::Spelling));
}

#[tokio::test]
async fn folders_that_appear_are_searched() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("late")).unwrap();
    std::fs::write(root.join("a.c"), "#include <x.h>\n").unwrap();
    std::fs::write(root.join("late/x.h"), "// late\n").unwrap();
    let arguments = ["-c", "a.c", "-Iearly", "-Ilate"].map(str::to_owned);
    let (desk, reader) = (Desk::new(), reader(&root, "gcc", &arguments));
    assert_eq!(desk.judge(&reader).await, None);
    std::fs::create_dir(root.join("early")).unwrap();
    std::fs::write(root.join("early/x.h"), "// early\n").unwrap();
    let found = desk.find(&reader, Way::Any).await.unwrap();
    assert_eq!(found.doubt, Some(Doubt::NewFlags));
    assert_eq!(desk.judge(&reader).await, None);
    let found = desk.scan(&reader).await;
    assert!(found.inputs.seen.iter().any(|seen| seen.path == root.join("early/x.h")));
}

#[tokio::test]
async fn folders_that_contain_each_other_end() {
    let files = [
        ("a.c", "#include \"p/x.h\"\n"),
        ("p/x.h", "#ifndef X\n#define X\n#include \"../p/x.h\"\n#include \"../q/y.h\"\n#endif\n"),
        ("q/y.h", "#include \"../p/x.h\"\n"),
    ];
    assert_eq!(scanned(&files, "-c a.c").await.unwrap(), set(&["a.c", "p/x.h", "q/y.h"]));
}

#[tokio::test]
async fn what_is_scanned_makes_the_same_tree_as_what_the_compiler_lists() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "a.c",
        "#include \"link/../y.h\"\n#include <x.h>\n#include \"p/./z.h\"\n#include <w.h>\n",
    );
    for name in ["q/deep/x.h", "q/y.h", "p/z.h", "real-1"] {
        write(name, &format!("// {name}\n"));
    }
    std::os::unix::fs::symlink("q/deep", root.join("link")).unwrap();
    std::os::unix::fs::symlink("../real-1", root.join("p/w.h")).unwrap();
    // clang reads nothing before the source, where the scan cannot know.
    let arguments = ["-c", "a.c", "-Ilink", "-I./p/"].map(str::to_owned);
    let (desk, reader) = (Desk::new(), reader(&root, "gcc", &arguments));
    let scanned = desk.scan(&reader).await;
    let exact = desk.find(&reader, Way::Exact).await.unwrap();
    assert_eq!((scanned.mode, exact.mode), (Mode::Scanned, Mode::Exact));
    let [scanned, exact] = [scanned, exact].map(|found| found.inputs.tree.open().unwrap());
    assert_eq!(scanned, exact);
}
