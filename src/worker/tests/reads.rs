//! What a compile read is found out, and nothing that it writes tells that somebody asked.

use std::path::Path;

use super::super::reads::{asking, variables};
use super::compiles::{c_job, project, text};
use super::*;
use crate::job::reads::{PathList, Reads, ReadsAsked, Way};
use crate::job::{Exit, TreePath};

const FILES: [(&str, &str); 6] = [
    ("a.c", "#include <stdio.h>\n#include \"a.h\"\n#include <sys.h>\nint unused(void) { }\n"),
    ("a.S", "#include \"inc/a.h\"\n.text\nnop\n"),
    ("inc/a.h", "#if __has_include(<never.h>)\n#define A 1\n#else\n#include \"never.h\"\n#endif\n"),
    ("inc/never.h", "#error never\n"),
    ("sys/sys.h", "#pragma GCC system_header\nstatic int once(void) { }\n"),
    ("inc/other.h", ""),
];

/// Runs a compiler of this machine, and takes away what it wrote.
async fn run(
    program: &str,
    line: &str,
    folder: &Path,
    more: &[(&str, String)],
) -> (Finished, BTreeMap<String, Vec<u8>>) {
    let own = more.iter().map(|(name, value)| ((*name).into(), value.into()));
    let done = exec::run(exec::Spec {
        arguments: line.split(' ').map(Into::into).collect(),
        environment: [("PATH".into(), SEARCH_PATH.into())].into_iter().chain(own).collect(),
        directory: folder.into(),
        stream_bytes_max: 64 << 20,
        deadline: Duration::from_secs(60),
        ..exec::Spec::of(Path::new(program))
    });
    let done = done.await.unwrap();
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("out.") {
            files.insert(name, std::fs::read(entry.path()).unwrap());
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    (done, files)
}

/// What a compiler says when it is asked in `way`, and with which command line that is right.
async fn nothing_changes(programs: &[&str], way: Way, lines: &[&str]) {
    let (folder, _) = project(&FILES);
    let list = folder.path().join("list");
    for program in programs.iter().filter(|program| Path::new(program).exists()) {
        for line in lines {
            let line = format!("{line} -Iinc -isystem sys");
            let (plain, wanted) = run(program, &line, folder.path(), &[]).await;
            let asked = variables(&way, text(&list));
            let (done, written) = run(program, &line, folder.path(), &asked).await;
            let what = format!("{program} {line}");
            assert_eq!(plain.status, Ended::Code(0), "{what}: {plain:?}");
            assert!(!wanted.is_empty(), "{what}");
            assert_eq!(done.status, plain.status, "{what}");
            assert_eq!((done.stdout, done.stderr), (plain.stdout, plain.stderr), "{what}");
            assert!(written == wanted, "{what}: other bytes");
            let told = std::fs::read_to_string(&list).unwrap_or_default();
            assert!(told.contains("inc/a.h"), "{what}: {told}");
            if line.contains("a.c") {
                assert!(told.contains("/stdio.h") && told.contains("sys/sys.h"), "{what}: {told}");
            }
            assert!(!told.contains("other.h"), "{what}: {told}");
            std::fs::remove_file(&list).unwrap();
        }
    }
}

#[tokio::test]
async fn gcc_writes_the_same_when_it_is_asked() {
    let lines = [
        "-c a.c -o out.o",
        "-g3 -O2 -grecord-gcc-switches -frecord-gcc-switches -c a.c -o out.o",
        "-g -gsplit-dwarf -gdwarf-5 -c a.c -o out.o",
        "-Wall -Wextra -Wsystem-headers -Wunused-macros -H -c a.c -o out.o",
        "-O2 -S -fverbose-asm -fstack-usage -c a.c -o out.s",
        "-fdiagnostics-format=json -Wreturn-type -c a.c -o out.o",
        "-g -c a.S -o out.o",
        "-fdirectives-only -g -include inc/a.h -c a.c -o out.o",
    ];
    nothing_changes(&["/usr/bin/gcc"], Way::MakeRule, &lines).await;
    nothing_changes(&["/usr/bin/g++"], Way::MakeRule, &lines[1..4]).await;
}

#[tokio::test]
async fn clang_writes_the_same_when_it_is_asked() {
    let lines = [
        "-c a.c -o out.o",
        "-g3 -O2 -grecord-gcc-switches -frecord-command-line -c a.c -o out.o",
        "-g -gsplit-dwarf -gdwarf-5 -c a.c -o out.o",
        "-Weverything -H -c a.c -o out.o",
        "-O2 -S -fverbose-asm -c a.c -o out.s",
        "-fno-integrated-as -c a.c -o out.o",
        "-flto -g -c a.c -o out.o",
        "-g -c a.S -o out.o",
    ];
    nothing_changes(&["/usr/bin/clang"], Way::HeaderList, &lines).await;
    nothing_changes(&["/usr/bin/clang++"], Way::HeaderList, &lines[1..4]).await;
}

/// Compiles `FILES` on a worker and gives the folder and what it read.
async fn read_by(line: &str, way: Way, always: &[&str]) -> (String, Tree, Option<Reads>) {
    let mut files = FILES;
    files[0].1 = "#include \"a.h\"\n#include <sys.h>\n";
    let (folder, inputs) = project(&files);
    let root = text(folder.path()).to_owned();
    let path = |name: &&str| TreePath::try_from(format!("{root}/{name}")).unwrap();
    let always = PathList::new(always.iter().map(path).collect()).unwrap();
    let bench = Bench::open().await;
    let tree = inputs.tree.clone();
    let job = c_job("").await.inputs(inputs).command(line, &root);
    let outputs: &[&str] = if line.contains(" -M") { &["a.o", "a.d"] } else { &["a.o"] };
    let mut message = bench.message(&job.outputs(outputs)).await;
    message.submit.reads = Some(ReadsAsked { way, always });
    let slot = bench.capacity.take().unwrap();
    let done = bench.executor.execute(&message, slot, |_| {}).await;
    let JobEnd::Done(outcome) = done.end else { panic!("{:?}", done.end) };
    assert_eq!((outcome.exit, outcome.unexpected), (Exit::Code(0), Vec::new()));
    assert!(done.reads.as_ref().is_none_or(|reads| reads.keys().0 == message.submit.action.key()));
    bench.is_clean().await;
    (root, tree, done.reads)
}

#[tokio::test]
async fn what_was_read_is_told() {
    let line = "gcc -Iinc -isystem sys -c a.c -o a.o";
    let with_rule = format!("{line} -MD -MP");
    for (line, way) in [(line, Way::MakeRule), (&with_rule, Way::Output("a.d".into()))] {
        // `never.h` is looked for and not read.
        let (root, tree, reads) = read_by(line, way, &["a.c", "inc/never.h", "absent"]).await;
        let reads = reads.unwrap();
        let names: Vec<_> = reads.paths.paths().iter().map(|path| path.as_str()).collect();
        let wanted = ["a.c", "inc/a.h", "inc/never.h", "sys/sys.h"];
        assert_eq!(names, wanted.map(|name| format!("{root}/{name}")));
        assert_eq!(reads.precise, tree.restricted(reads.paths.paths()).digest());
    }
}

#[tokio::test]
async fn what_nobody_tells_for_sure_is_not_told() {
    let line = "gcc -Iinc -isystem sys -c a.c -o a.o";
    // gcc is not asked in clang's way.
    assert_eq!(read_by(line, Way::HeaderList, &["a.c"]).await.2, None);
    assert_eq!(read_by(line, Way::Output("a.d".into()), &["a.c"]).await.2, None);
}

#[test]
fn only_what_is_asked_for_is_set() {
    let plain = command("gcc -c a.c", "/w");
    assert_eq!(asking(&plain, None), plain);
    let asked = |way| Some(ReadsAsked { way, always: PathList::default() });
    assert_eq!(asking(&plain, asked(Way::Output("a.d".into())).as_ref()), plain);
    let names = |way| {
        let command = asking(&plain, asked(way).as_ref());
        command.environment.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(names(Way::MakeRule), ["PATH", "SUNPRO_DEPENDENCIES"]);
    assert_eq!(names(Way::HeaderList), ["CC_PRINT_HEADERS", "CC_PRINT_HEADERS_FILE", "PATH"]);
}
