//! The real compilers as judges: what they write is what the plan says, the dependency pass writes
//! nothing and lists the headers.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::compiler::{Invocation, Plan, Verdict, depfile, plan, search};
use crate::exec::{Ended, Finished, Spec, run};
use crate::job::Family;

/// Flag combinations for both families. The sources are made by [`workspace`].
const BOTH: [&str; 51] = [
    "-c a.c",
    "-c sub/b.c",
    "-c a.b.c",
    "-S a.c",
    "-c -S a.c",
    "-c a.cc",
    "-c a.s",
    "-c a.S",
    "-c a.i",
    "-c a.c -o out/x.o",
    "-c a.c -oout/x.y.o",
    "-c a.c -o out/x",
    "-S a.c -o out/x.s",
    "-c a.c --output=out/x.lo",
    "-c a.c -MD",
    "-c sub/b.c -MD",
    "-c a.c -MMD -o out/x.o",
    "-c a.c -MD -o out/x.y.z",
    "-c a.c -MD -o out/x",
    "-c a.c -MD -MF out/q.d -MT x -MP",
    "-c a.c -MMD -MFout/q.d -MQ x",
    "-c a.c -MD -MF /dev/null",
    "-c a.c -Wp,-MMD,out/.a.d",
    "-c a.c -Wp,-MD,q.d -Wp,-MT,x -o out/a.o",
    "-S a.c -MD -o out/x.s",
    "-c a.S -MD",
    "-c a.s -MD",
    "-c a.i -MD -MF q.d",
    "-c a.c -g -gsplit-dwarf",
    "-c sub/b.c -g -gsplit-dwarf -o out/x.y.o",
    "-c a.c -gsplit-dwarf -g0",
    "-S sub/b.c -g -gsplit-dwarf -o out/x.s",
    "-c a.S -g -gsplit-dwarf",
    "-c a.c --coverage",
    "-c sub/b.c --coverage -o out/x.y.o",
    "-c a.c -ftest-coverage",
    "-S a.c --coverage -o out/x.s",
    "-c a.i --coverage -o out/x.o",
    "-c a.s --coverage",
    "-c a.c -fprofile-generate",
    "-c a.c -fstack-usage",
    "-c sub/b.c -fstack-usage -o out/x.o",
    "-S a.c -fstack-usage -o out/x.s",
    "-c a.cc -O2 -g -gsplit-dwarf --coverage -fstack-usage -MD -o out/all.cc.o",
    "-c a.c -flto -MD",
    "-c a.c -include h.h -imacros h.h -Isub -iquote sub -MD",
    "-c -x c++ a.txt -o out/t.o -MD",
    "-x assembler-with-cpp -c a.txt2 -o t.o",
    "-c a.c -Wa,--noexecstack -pipe -pthread -L. -Wl,-z,now -DX=1",
    "-c a.c -B/usr/bin -fdebug-prefix-map=/x=/y -frandom-seed=a/b",
    "-c a.c @flags.rsp",
];

const CLANG: [&str; 7] = [
    "-c a.c --serialize-diagnostics out/a.dia",
    "-c a.c -g -gsplit-dwarf=single -o out/x.o",
    "-c a.i",
    "-c a.c -MD -MV",
    "-c a.c -Xclang -mllvm -Xclang -unroll-count=2 -mllvm -inline-threshold=3",
    "-c a.c -Werror -Qunused-arguments -lm -Wa,--noexecstack",
    "-c a.c --target=x86_64-linux-gnu --gcc-toolchain=/usr",
];

const HEADER: &str = "#define H 1\n";
const SOURCE: &str = "#include \"h.h\"\nint f(int a) { int b[9]; b[a] = H; return b[1]; }\n";

fn workspace(folder: &Path) {
    for name in ["sub", "out"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    for name in ["a.c", "a.b.c", "a.cc", "a.txt", "sub/b.c"] {
        fs::write(folder.join(name), SOURCE).unwrap();
    }
    for name in ["h.h", "sub/h.h"] {
        fs::write(folder.join(name), HEADER).unwrap();
    }
    for name in ["a.S", "a.txt2"] {
        fs::write(folder.join(name), "#include \"h.h\"\nf: nop\n").unwrap();
    }
    fs::write(folder.join("a.s"), "f: nop\n").unwrap();
    fs::write(folder.join("a.i"), "int f(int a) { return a; }\n").unwrap();
    fs::write(folder.join("flags.rsp"), "-O1 '-DQ=\"a b\"'\n").unwrap();
}

fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for sub in ["", "sub", "out"] {
        for entry in fs::read_dir(folder.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                found.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

async fn compile(program: &str, arguments: &[String], folder: &Path) -> Finished {
    let spec = Spec {
        program: format!("/usr/bin/{program}").into(),
        argv0: Some(program.into()),
        arguments: arguments.iter().map(OsString::from).collect(),
        environment: BTreeMap::from([
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("LC_ALL".into(), "C".into()),
        ]),
        directory: folder.to_owned(),
        stream_bytes_max: 1 << 20,
        deadline: Duration::from_secs(60),
    };
    run(spec).await.unwrap()
}

fn planned(family: Family, program: &str, arguments: &str, folder: &Path) -> Plan {
    let words: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    let directory = folder.to_str().unwrap();
    let invocation = Invocation { family, program, arguments: &words, directory };
    match plan(&invocation, &|path| fs::read(path)) {
        Verdict::Remote(plan) => *plan,
        other => panic!("{program} {arguments}: {other:?}"),
    }
}

/// Runs one case in a fresh folder and says what differs from the plan.
async fn judge(family: Family, program: &str, arguments: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    workspace(folder);
    let plan = planned(family, program, arguments, folder);
    let before = files(folder);
    judge_pass(program, &plan, folder).await?;
    if files(folder) != before {
        return Err(format!("the pass wrote {:?}", files(folder).difference(&before)));
    }
    make_room(&plan, folder);
    let before = files(folder);
    let done = compile(program, &plan.arguments, folder).await;
    if done.status != Ended::Code(0) {
        return Err(format!("{:?}: {}", done.status, String::from_utf8_lossy(&done.stderr)));
    }
    let after = files(folder);
    let written: BTreeSet<&String> = after.difference(&before).collect();
    for output in &plan.outputs {
        if output.required && !written.contains(&output.path) {
            return Err(format!("{} was not written, but {written:?}", output.path));
        }
    }
    match written.iter().find(|path| !plan.outputs.iter().any(|output| output.path == ***path)) {
        Some(path) => Err(format!("{path} was written too")),
        None => Ok(()),
    }
}

/// Takes away what stands where the compile writes, so that writing it shows; only what was found
/// below the folder, never a path of the plan itself.
fn make_room(plan: &Plan, folder: &Path) {
    let standing = files(folder);
    for output in plan.outputs.iter().filter(|output| standing.contains(&output.path)) {
        assert!(Path::new(&output.path).is_relative() && output.path != plan.source);
        fs::remove_file(folder.join(&output.path)).unwrap();
    }
}

async fn judge_pass(program: &str, plan: &Plan, folder: &Path) -> Result<(), String> {
    let Some(arguments) = &plan.dependency else { return Ok(()) };
    let done = compile(program, arguments, folder).await;
    let stderr = String::from_utf8_lossy(&done.stderr);
    if done.status != Ended::Code(0) {
        return Err(format!("the pass ended with {:?}: {stderr}", done.status));
    }
    let names = depfile::parse(&done.stdout, 1_000).map_err(|error| error.to_string())?;
    if names.first() != Some(&plan.source) {
        return Err(format!("the pass lists {names:?}"));
    }
    let source = fs::read_to_string(folder.join(&plan.source)).unwrap();
    if source.contains("h.h") && !names.iter().any(|name| name.ends_with("h.h")) {
        return Err(format!("the pass does not list the header: {names:?}"));
    }
    let search = search::parse_search_dirs(&done.stderr);
    if !search.complete || !search.angle.iter().any(|directory| directory == "/usr/include") {
        return Err(format!("the search list is not complete: {search:?}\n{stderr}"));
    }
    Ok(())
}

async fn judge_all(family: Family, program: &str, cases: &[&str]) {
    let mut wrong = Vec::new();
    for arguments in cases {
        if let Err(difference) = judge(family, program, arguments).await {
            wrong.push(format!("{program} {arguments}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[tokio::test]
async fn gcc_writes_what_the_plan_says() {
    judge_all(Family::Gcc, "gcc", &BOTH).await;
}

#[tokio::test]
async fn clang_writes_what_the_plan_says() {
    judge_all(Family::Clang, "clang", &[&BOTH[..], &CLANG[..]].concat()).await;
}

#[tokio::test]
async fn cxx_drivers_take_c_for_cxx() {
    let cases = ["-c a.c -MD -g -gsplit-dwarf", "-c a.i -o out/x.o"];
    judge_all(Family::Gcc, "g++", &cases).await;
    judge_all(Family::Clang, "clang++", &cases).await;
}

#[tokio::test]
async fn clang_reads_files_that_preprocessed_text_includes() {
    let folder = tempfile::tempdir().unwrap();
    workspace(folder.path());
    fs::write(folder.path().join("p.i"), SOURCE).unwrap();
    for arguments in ["-c p.i", "-x cpp-output -c p.i", "-c -x c++-cpp-output p.i -o p.o"] {
        let plan = planned(Family::Clang, "clang", arguments, folder.path());
        judge_pass("clang", &plan, folder.path()).await.unwrap();
    }
}

#[tokio::test]
async fn a_header_found_through_a_link_is_listed_as_found() {
    for (family, program) in [(Family::Gcc, "gcc"), (Family::Clang, "clang")] {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        workspace(folder);
        fs::create_dir(folder.join("sub/system")).unwrap();
        fs::write(folder.join("l"), "").unwrap();
        let link = folder.join("sub/system/link");
        std::os::unix::fs::symlink(folder.join("l"), &link).unwrap();
        fs::write(folder.join("a.c"), "#include <link>\n").unwrap();
        let arguments = format!("-isystem {}/sub/system -c a.c", folder.display());
        let pass = planned(family, program, &arguments, folder).dependency.unwrap();
        let listed = compile(program, &pass, folder).await.stdout;
        let listed = depfile::parse(&listed, 100).unwrap();
        assert!(listed.contains(&link.to_str().unwrap().to_owned()), "{program}: {listed:?}");
    }
}
